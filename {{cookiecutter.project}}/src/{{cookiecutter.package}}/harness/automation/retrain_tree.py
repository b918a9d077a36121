"""The work tree of a retraining, and the data in it."""

import contextlib
import importlib.util
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from ..core import programs
from ..core.errors import UserError
from ..core.paths import NAME
from ..core.programs import DVC
from ..tracking import git, proposal

TREES = Path(".dvc/tmp/retrain")
SEGMENTS = "data/production.dvc"  # what the service has kept


@contextlib.contextmanager
def exclusive_folder() -> Iterator[Path]:
    """A folder for one retraining at a time.

    Folders of killed retrainings are removed.

    Yields:
        A new folder that only this user may read. It has a new name, because `dvc repro` of a killed retraining may
        still be running in the earlier folder.

    Raises:
        UserError: If another retraining is running.
    """
    from filelock import FileLock, Timeout

    TREES.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{TREES}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UserError("another retraining is running here: wait for it") from None
    try:
        for old in TREES.iterdir():
            git.git("worktree", "remove", "--force", str(old / "tree"))
            shutil.rmtree(old, ignore_errors=True)
        # Absolute with Python 3.11, too; later ones make it so.
        with tempfile.TemporaryDirectory(dir=TREES.resolve(), ignore_cleanup_errors=True) as folder:
            yield Path(folder)
    finally:
        lock.release()


def share_configuration(tree: Path) -> None:
    """Shares the DVC cache, remotes and credentials with the work tree."""
    from dvc.config import Config, merge

    here = Path(".dvc").resolve()
    config = Config(str(here))
    # With DVC's own reader and writer, because paths in these files are relative to them.
    with Config(str(tree.resolve() / ".dvc")).edit("local") as local:
        for level in ("repo", "local"):
            merge(local, config.load_one(level))
        local.setdefault("cache", {}).setdefault("dir", str(here / "cache"))


def pull_and_update(tree: Path, storage: bool) -> str:
    """Pulls the data of the commit, then commits updates of its imports, and labeled examples from production.

    The MLflow run therefore names a commit that holds the training data.

    Args:
        tree: Root of the project in the work tree.
        storage: Whether DVC has a remote.

    Returns:
        Whose labels were added, as Markdown; empty if nothing comes from production.

    Raises:
        UserError: If data are neither cached nor on the remote.
    """
    if storage:
        progress("dvc pull")
        # Outputs that were never pushed are computed.
        programs.run(*DVC, "pull", "--allow-missing", cwd=tree, progress=True)
    else:
        programs.run(*DVC, "checkout", "--allow-missing", cwd=tree)
    if imports := [file for file in data_files(tree) if "deps" in read_yaml(tree / file)]:
        progress(f"dvc update {' '.join(imports)}")
        programs.run(*DVC, "update", *imports, cwd=tree, progress=True)
    collected, report = collect(tree)
    if missing := list(data_states(tree)):
        raise UserError(
            f"{missing[0]} is neither in DVC's cache here nor on its remote: run `dvc push` on a machine that has it"
        )
    # With the date of its parent, every attempt makes the same commit, so that a run from the cache names it, too.
    date = git.run("log", "-1", "--format=%cI", cwd=tree)
    changed = [*imports, *collected]
    proposal.commit(tree, "Update imported data", *changed, env={"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date})
    return report


def collect(tree: Path) -> tuple[list[str], str]:
    """Adds labeled examples from production to the data, if segments of the service are imported.

    Args:
        tree: Root of the project in the work tree.

    Returns:
        The files that changed, for git, and a report in Markdown.

    Raises:
        UserError: If segments cannot be read, or nothing can be added to the data.
    """
    # The room is not in every project.
    if not (tree / SEGMENTS).exists() or not importlib.util.find_spec(f"{NAME}.harness.feedback"):
        return [], ""
    progress("collect")
    room = importlib.import_module(f"{NAME}.harness.feedback.collect")
    with contextlib.chdir(tree):
        found = room.collect()
    return [str(file) for file in found.files], found.report


def data_files(folder: Path) -> list[str]:
    """The .dvc files of the commit."""
    return git.run("ls-files", "--", "*.dvc", cwd=folder).splitlines()


def data_states(folder: Path) -> dict[str, str]:
    """Path of changed data -> `modified`, `deleted` or `not in cache`."""
    if not (tracked := data_files(folder)):
        return {}
    status = json.loads(programs.run(*DVC, "status", "--json", *tracked, cwd=folder))
    changes = [change for entries in status.values() for change in entries if isinstance(change, dict)]
    return {path: state for change in changes for path, state in change.get("changed outs", {}).items()}


def read_yaml(file: Path) -> Any:
    """The content of a YAML file."""
    from yaml import safe_load

    return safe_load(file.read_text(encoding="utf-8"))


def progress(line: str) -> None:
    """Prints the current step to stderr."""
    click.echo(line, err=True)
