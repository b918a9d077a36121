"""Commits of the project's repository."""

import contextlib
import functools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..core import programs
from ..core.errors import UserError, one_line

# Hooks are for people: pre-commit's hook of DVC would check out data, and a work tree has no .venv for the others.
HOOKLESS = ("git", "-c", f"core.hooksPath={os.devnull}")


def git(*arguments: str) -> str | None:
    """The output of a git command; None if it fails, or without a repository.

    Args:
        *arguments: The git command and its arguments.

    Raises:
        UserError: If git is missing or cannot read the repository; the message is git's.
    """
    if _readable(os.getcwd()):
        return programs.answer("git", *arguments)
    _readable.cache_clear()  # `git init` may follow
    return None


@functools.cache
def _readable(folder: str) -> bool:
    """Whether the folder is in a git repository, which git can read with its index.

    Raises:
        UserError: If git is missing or refuses: another owner, a damaged index.
    """
    english = {**os.environ, "LC_ALL": "C"}
    done = programs.complete("git", "ls-files", "--", "dvc.lock", cwd=Path(folder), env=english)
    if done.returncode and "not a git repository" not in done.stderr:
        raise UserError(f"git says: {one_line(done.stderr, 600)}")
    return done.returncode == 0


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

    Raises:
        UserError: If this clone is shallow and does not reach back to that commit.
    """
    for refs in (("HEAD", "--branches", "--tags", "--remotes"), ("--all",)):
        if commits := git("log", *refs, "--format=%H", "-S", model, "--", "dvc.lock"):
            return refuse_boundary(commits.splitlines()[-1])
    return None


def refuse_boundary(commit: str) -> str:
    """Rejects a commit at which the history of a shallow clone ends.

    Such a commit seems to add all files, whichever commit has added them.

    Args:
        commit: The full hash of the commit.

    Returns:
        The commit.

    Raises:
        UserError: If the history ends at the commit.
    """
    shallow = Path(git("rev-parse", "--git-path", "shallow") or "")
    if shallow.is_file() and commit in shallow.read_text(encoding="ascii").split():
        raise UserError(
            f"this clone is shallow, its history ends at {commit[:12]}, and an earlier commit may have brought this "
            "model: `git fetch --unshallow` brings the whole history"
        )
    return commit


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
