"""Commits of the project's repository."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..core import programs
from ..core.errors import UserError

# Hooks are for people: pre-commit's hook of DVC would check out data, and a work tree has no .venv for the others.
HOOKLESS = ("git", "-c", f"core.hooksPath={os.devnull}")


def git(*arguments: str) -> str | None:
    """The output of a git command, or None if it fails."""
    return programs.answer("git", *arguments)


def run(*arguments: str, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Runs git without hooks.

    Args:
        *arguments: The git command and its arguments.
        cwd: Working directory; None for the current one.
        env: The complete environment of git; None for that of this process.

    Returns:
        The output of git.

    Raises:
        UserError: If git fails; the message is git's reason.
    """
    return programs.run(*HOOKLESS, *arguments, cwd=cwd, env=env)


def dirty(*exclude: str) -> bool:
    """Whether files of this project differ from HEAD.

    Args:
        *exclude: Files to ignore.
    """
    # Only this folder: the repository may hold other projects, too.
    return bool(git("status", "--porcelain", "--", ".", *(f":(exclude){path}" for path in exclude)))


def commit_with(model: str) -> str | None:
    """The first commit whose dvc.lock records a model.

    A run records only the commit from which it started. Commits of branches and tags, which are shared, come before
    the commits of `dvc exp run`.

    Args:
        model: MD5 of models/model.onnx.
    """
    for refs in (("HEAD", "--branches", "--tags", "--remotes"), ("--all",)):
        if commits := git("log", *refs, "--format=%H", "-S", model, "--", "dvc.lock"):
            return commits.splitlines()[-1]
    return None


def commit_named(name: str) -> str | None:
    """The commit of a git revision or of a DVC experiment.

    Args:
        name: Anything that git resolves, or the name of an experiment as in `dvc exp show`.
    """
    experiments = ("for-each-ref", "--sort=-committerdate", "--count=1", "--format=%(objectname)")
    return (
        git("rev-parse", "--verify", "--quiet", name + "^{commit}")
        or git(*experiments, f"refs/exps/*/*/{name}")
        or None
    )


@contextlib.contextmanager
def work_tree(commit: str, label: str, folder: Path) -> Iterator[Path]:
    """A checkout of a commit beside the workspace, removed afterwards.

    Args:
        commit: The commit.
        label: Name of the model or run that belongs to the commit, for messages.
        folder: The folder to create; must not exist.

    Yields:
        The project's root in the checkout.

    Raises:
        UserError: If this clone does not have the commit.
    """
    try:
        run("worktree", "add", "--quiet", "--detach", str(folder), commit)
    except UserError as error:
        raise UserError(
            f"{label} belongs to commit {commit}, which this clone cannot check out ({error}): `git fetch` or "
            "`dvc exp pull` may bring it"
        ) from None
    try:
        yield folder / (git("rev-parse", "--show-prefix") or "")
    finally:
        git("worktree", "remove", "--force", str(folder))
