"""Commits of the project's repository."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from ..core import errors


def git(*arguments: str) -> str | None:
    """Returns what git prints, or None where it fails or is missing."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def dirty(*written: str) -> bool:
    """Says whether files of this project differ from HEAD.

    Args:
        written: Files that do not count.
    """
    # The repository may hold other projects, too.
    return bool(git("status", "--porcelain", "--", ".", *(f":(exclude){path}" for path in written)))


def holding(model: str) -> str | None:
    """Returns the first commit whose dvc.lock holds a model: a run only knows the one that it started from.

    One of a branch or tag, which others have too; otherwise the one that `dvc exp run` has made.

    Args:
        model: MD5 of models/model.onnx.
    """
    for refs in (("HEAD", "--branches", "--tags", "--remotes"), ("--all",)):
        if commits := git("log", *refs, "--format=%H", "-S", model, "--", "dvc.lock"):
            return commits.splitlines()[-1]
    return None


def commit_named(name: str) -> str | None:
    """Returns the commit that a name stands for: one of git's, or that of a DVC experiment.

    Args:
        name: Anything that git resolves, or what `dvc exp show` calls the experiment.
    """
    experiments = ("for-each-ref", "--sort=-committerdate", "--count=1", "--format=%(objectname)")
    return (
        git("rev-parse", "--verify", "--quiet", name + "^{commit}")
        or git(*experiments, f"refs/exps/*/*/{name}")
        or None
    )


@contextlib.contextmanager
def work_tree(commit: str, label: str, folder: Path) -> Iterator[Path]:
    """Checks a commit out beside the workspace, and removes it afterwards.

    Args:
        commit: The commit.
        label: Whose commit it is, for messages.
        folder: Where to; must not exist.

    Yields:
        The project's root in it.

    Raises:
        UserError: Where this clone does not have it.
    """
    # Without hooks: one of pre-commit's would check DVC's files out.
    add = ["git", "-c", f"core.hooksPath={os.devnull}", "worktree", "add", "--quiet", "--detach", str(folder), commit]
    added = subprocess.run(add, capture_output=True, text=True, check=False)
    if added.returncode:
        reason = " ".join(added.stderr.split())
        raise errors.UserError(f"{label} is of commit {commit}: git fetch, or dvc exp pull, brings it here ({reason})")
    try:
        yield folder / (git("rev-parse", "--show-prefix") or "")
    finally:
        git("worktree", "remove", "--force", str(folder))
