"""`make news`: whether data or code changed since the results of HEAD or an earlier retraining.

It runs before `make setup`, on the standard library and git. It installs DVC alone, and only for imported data.
"""

import configparser
import importlib.util
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from ..core import files, programs, stages
from ..core.programs import DVC
from ..tracking import git, proposal
from . import retrain_memory
from .retrain_memory import INPUTS

NEWS = Path("build/news")  # for a CI job: exists if there is something to train
ENVIRONMENT = Path("build/dvc")  # DVC alone


def find(offline: bool = False) -> tuple[bool, str]:
    """Whether there is anything to train, and the reason in one line.

    Args:
        offline: Whether to stop before the git remote is asked, which may need credentials.

    Raises:
        UserError: If the git remote or the source of imported data cannot be reached.
    """
    remote = proposal.remote()
    if remote and (folder := missing_storage()):
        return False, (
            f"retraining is off: DVC's remote is the folder {folder}, which this machine does not have "
            "(docs/retrain.md says how to switch it on)"
        )
    if offline:
        return True, "perhaps something to train: the git remote is not asked yet"
    data = git.run("ls-files", "--", "*.dvc").splitlines()
    imports = [file for file in data if dependencies(Path(file).read_text(encoding="utf-8"))]
    same = {ref: commit for ref, commit in known(remote).items() if not changed(commit, imports)}
    if not same:
        return True, f"something to train: {', '.join(changed(retrain_memory.results(), imports))} changed"
    if imports:
        sources = current_sources(imports)
        if sources is None:
            return True, "perhaps something to train: without DVC the sources of imported data are not compared"
        same = {ref: commit for ref, commit in same.items() if sources == recorded_sources(commit, imports)}
        if not same:
            return True, f"something to train: the source of {', '.join(imports)} changed"
    ref, commit = next(iter(same.items()))
    if ref == "HEAD":
        return False, f"nothing changed since the results of {commit[:12]}"
    return False, retrain_memory.recall(ref, commit, remote)


def known(remote: str | None) -> dict[str, str]:
    """HEAD, and the full name of each proposal and mark -> a commit whose inputs need no training."""
    commit = retrain_memory.results()
    return ({"HEAD": commit} if commit else {}) | retrain_memory.read(remote)


def changed(commit: str | None, imports: list[str]) -> list[str]:
    """The inputs that differ between a commit and HEAD, without imported data.

    Args:
        commit: The commit; None for one without inputs.
        imports: The .dvc files of imported data.
    """
    exclude = [f":(exclude){file}" for file in imports]
    base = commit or git.run("hash-object", "-t", "tree", "/dev/null")
    names = git.run("diff", "--name-only", "--relative", base, "HEAD", "--", *INPUTS, *exclude).splitlines()
    return sorted({name.partition("/")[0] for name in names})


def dependencies(text: str) -> str:
    """The `deps` of a .dvc file: source and version of imported data; "" for data that are not imported.

    Args:
        text: The text of the .dvc file.
    """
    match = re.search(r"^deps:\n((?:[ -].*\n)*)", f"{text}\n", re.MULTILINE)
    return match[1] if match else ""


def recorded_sources(commit: str, imports: list[str]) -> dict[str, str]:
    """Import -> source and version of its data in a commit."""
    return {file: dependencies(git.git("show", f"{commit}:./{file}") or "") for file in imports}


def current_sources(imports: list[str]) -> Mapping[str, str] | None:
    """Import -> source and present version of its data; downloads no data. None if there is no DVC to ask.

    Raises:
        UserError: If a source cannot be reached.
    """
    if (dvc := light_dvc()) is None:
        return None
    NEWS.parent.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=NEWS.parent) as folder,
        git.work_tree("HEAD", "HEAD", Path(folder).resolve() / "tree") as tree,
    ):
        if (credentials := Path(".dvc/config.local")).exists():
            shutil.copy(credentials, tree / credentials)
        programs.run(*dvc, "update", "--no-download", *imports, cwd=tree)
        return {file: dependencies((tree / file).read_text(encoding="utf-8")) for file in imports}


def light_dvc() -> tuple[str, ...] | None:
    """DVC of this Python, or one that is installed alone from the lock of its remote, if there is one.

    Raises:
        UserError: If it cannot be installed.
    """
    if importlib.util.find_spec("dvc"):
        return DVC
    if not (locks := sorted(Path("requirements").glob("remote-*.lock"))):
        return None
    python = (ENVIRONMENT / "bin/python").absolute()
    uv = shutil.which("uv")
    programs.run(*(("uv", "venv", "--quiet", "--clear") if uv else (sys.executable, "-m", "venv")), ENVIRONMENT)
    install = ("uv", "pip", "install", "--python", python) if uv else (python, "-m", "pip", "install")
    programs.run(*install, "--quiet", "--require-hashes", *(f"--requirement={lock}" for lock in locks))
    return (str(python), "-m", "dvc")


def missing_storage() -> Path | None:
    """The folder that is DVC's remote, if this machine does not have it.

    A branch would refer to data that nobody else has. Only the project's own configuration is read: DVC may not be
    installed yet, and `make retrain` asks DVC again.
    """
    config = configparser.ConfigParser(interpolation=None, strict=False)
    config.read([".dvc/config", ".dvc/config.local"], encoding="utf-8")
    name = config.get("core", "remote", fallback="")
    url = config.get(f"'remote \"{name}\"'", "url", fallback="").strip("\"'")
    folder = (Path(".dvc") / Path(url).expanduser()).resolve()
    return folder if url and "://" not in url and not folder.is_dir() else None


def main() -> None:
    """Prints the reason; creates build/news if there is anything to train."""
    NEWS.unlink(missing_ok=True)
    proposal.forget()
    found, reason = find(offline="--offline" in sys.argv)
    if found:
        files.write_text(NEWS, f"{reason}\n")
    print(reason)


if __name__ == "__main__":
    stages.run(main)
