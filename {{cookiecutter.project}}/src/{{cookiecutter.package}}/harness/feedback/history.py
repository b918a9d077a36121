"""Old versions of data: in which commits, registered versions and Bentos a person still is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..core import programs
from ..core.programs import DVC
from ..packaging import bento
from ..release import versions
from ..tracking import git, store

Holds = Callable[[Path, str], bool]  # a file under any name, and its name -> whether the person is in it


class Kept(NamedTuple):
    """Where a person still is.

    Attributes:
        commits: Commits that brought data with the person.
        models: Registered versions and Bentos that were made of such data.
        unknown: Commits whose data are not in this cache.
    """

    commits: list[str]
    models: list[str]
    unknown: list[str]


def search(targets: Mapping[Path, Holds]) -> Kept:
    """Searches the history of data that DVC tracks.

    Args:
        targets: A tracked file or folder -> whether a file of it holds the person.
    """
    look = _Look(targets)
    commits: list[str] = []
    unknown: list[str] = []
    files = [f"{target}.dvc" for target in targets]
    for line in (git.git("log", "--all", "--format=%H %cs %s", "--", *files) or "").splitlines():
        found = look.commit(line.split()[0])
        commit, _, rest = line.partition(" ")
        if found or found is None:
            (commits if found else unknown).append(f"{commit[:12]} {rest}")
    return Kept(commits, [name for name, commit in _models() if look.commit(commit)], unknown)


def _models() -> Iterator[tuple[str, str]]:
    """Yields registered versions and Bentos with the commits that they come from."""
    registry = store.client()
    names = versions.aliases(registry)
    for version in versions.search(registry):
        given = versions.aliases_of(names, version)
        if commit := version.tags.get("git_commit"):
            yield f"version {versions.MODEL}/{version.version}" + (f" ({given})" if given else ""), commit
    for tag, labels in bento.stored_bentos().items():
        if commit := labels.get("git_commit"):
            yield f"Bento {tag}", commit


class _Look:
    """What has been found in data of commits, by their hash."""

    def __init__(self, targets: Mapping[Path, Holds]) -> None:
        self._targets = targets
        self._cache = Path(programs.run(*DVC, "cache", "dir"))
        self._known: dict[tuple[str, str], bool | None] = {}

    def commit(self, commit: str) -> bool | None:
        """Whether the data of a commit hold the person; None if they are not all in the cache."""
        from yaml import safe_load

        answers = []
        for target, holds in self._targets.items():
            if text := git.git("show", f"{commit}:./{target}.dvc"):
                for out in safe_load(text)["outs"]:
                    answers.append(self._data(out, target, holds) if "md5" in out else None)
        return True if True in answers else None if None in answers else False

    def _data(self, out: Mapping[str, Any], target: Path, holds: Holds) -> bool | None:
        entries = [{"md5": out["md5"], "relpath": target.name}]
        if out["md5"].endswith(".dir"):
            listed = self._object(out["md5"])
            if not listed.exists():
                return None
            entries = json.loads(listed.read_bytes())
        answers = [self._file(entry["md5"], entry["relpath"], holds) for entry in entries]
        return True if True in answers else None if None in answers else False

    def _file(self, md5: str, name: str, holds: Holds) -> bool | None:
        if (md5, name) not in self._known:
            path = self._object(md5)
            self._known[md5, name] = holds(path, name) if path.exists() else None
        return self._known[md5, name]

    def _object(self, md5: str) -> Path:
        return self._cache / "files" / "md5" / md5[:2] / md5[2:]
