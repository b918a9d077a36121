"""Proposals: branches that a person merges, and the files from which a CI job opens their pull requests."""

import os
from collections.abc import Mapping
from pathlib import Path

from ..core.errors import UserError
from . import git

# For a CI job: the text of a comment or pull request, whose first line is the title, and the name of a new branch.
REPORT, BRANCH = Path("build/report.md"), Path("build/branch")


def forget() -> None:
    """Removes the files of an earlier proposal."""
    for result in (REPORT, BRANCH):
        result.unlink(missing_ok=True)


def remote() -> str | None:
    """The git remote for branches: origin or the only remote, if any.

    Raises:
        UserError: If there are several remotes and none is origin.
    """
    remotes = git.run("remote").splitlines()
    if "origin" in remotes or not remotes:
        return "origin" if remotes else None
    if len(remotes) > 1:
        raise UserError(f"git has several remotes ({', '.join(remotes)}): choose by `git remote rename NAME origin`")
    return remotes[0]


def commit(tree: Path, message: str, *paths: str, env: Mapping[str, str] | None = None) -> None:
    """Commits changed files of a work tree, on no branch.

    Args:
        tree: Root of the project in the work tree.
        message: The message.
        *paths: The files.
        env: Additional environment variables.
    """
    if paths:
        git.run("add", "--", *paths, cwd=tree)
    if git.run("status", "--porcelain", "--untracked-files=no", cwd=tree):
        command = ("commit", "--quiet", "--cleanup=verbatim", "--message", message)
        git.run(*command, cwd=tree, env={**os.environ, **(env or {})})


def publish(tree: Path, branch: str, remote: str | None) -> None:
    """Pushes the commit of a work tree as a branch; without a remote, creates the branch here.

    Args:
        tree: Root of the project in the work tree.
        branch: The branch.
        remote: The git remote, or None.
    """
    if remote:
        git.run("push", "--quiet", "--no-follow-tags", remote, f"HEAD:refs/heads/{branch}", cwd=tree)
    else:
        git.run("branch", "--no-track", branch, "HEAD", cwd=tree)
