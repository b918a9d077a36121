"""The memory of retrainings, on the git remote: proposals, and marks on inputs that propose nothing.

A proposal is the branch retrain/<version of the inputs>. A mark is the ref refs/retrain/<version of the inputs>: no
branch, so that neither people nor CI see it; its message is the report. A fresh clone finds both.

Standard library and git alone: `make news` reads this before anything is installed.
"""

import hashlib
import sys
from pathlib import Path

from ..core import files
from ..core.errors import UserError
from ..tracking import git
from ..tracking.proposal import BRANCH, REPORT

INPUTS = ("conf", "data", "dvc.yaml", "schema", "src")  # inputs of the pipeline in git
BRANCHES, MARKS = "refs/heads/retrain/", "refs/retrain/"


def read(remote: str | None) -> dict[str, str]:
    """Full name of each proposal and mark -> its commit, which is here afterwards.

    Args:
        remote: The git remote, or None for this repository.

    Raises:
        UserError: If the remote cannot be reached.
    """
    if remote is None:
        listing = git.run("for-each-ref", "--format=%(objectname) %(refname)", BRANCHES, MARKS)
    else:
        listing = git.run("ls-remote", remote, f"{BRANCHES}*", f"{MARKS}*")
    refs = {ref: commit for commit, ref in (line.split() for line in listing.splitlines())}
    if remote and refs:
        git.run("fetch", "--quiet", "--no-tags", remote, *refs)
    return refs


def results() -> str | None:
    """The commit of the results at HEAD: the last that changed dvc.lock, if any.

    CI refuses a dvc.lock that does not belong to its commit. A shallow clone does not know the commit.
    """
    if git.git("rev-parse", "--is-shallow-repository") == "true":
        return None
    return git.git("log", "-1", "--format=%H", "--", "dvc.lock") or None


def version(commit: str = "HEAD", tree: Path | None = None) -> str:
    """The version of the inputs in a commit: equal for equal inputs.

    Args:
        commit: The commit.
        tree: Root of the project in a work tree; None for the current folder.
    """
    listing = git.run("ls-tree", commit, "--", *INPUTS, cwd=tree)
    return hashlib.sha256(listing.encode()).hexdigest()[:12]


def remember(tree: Path, inputs: str, report: str, remote: str | None) -> None:
    """Marks inputs, so that they are not trained again.

    Args:
        tree: Root of the project in the work tree; its HEAD holds the inputs.
        inputs: The version of the inputs.
        report: The reason, in the form of a commit message.
        remote: The git remote, or None for this repository.
    """
    mark = git.run("commit-tree", "HEAD^{tree}", "-p", "HEAD", "-m", report, cwd=tree)
    try:
        if remote:
            # Options of `git push` are for a proposal: they open its merge request.
            git.run("-c", "push.pushOption=", "push", "--quiet", "--no-follow-tags", remote, f"{mark}:{MARKS}{inputs}")
        else:
            git.run("update-ref", f"{MARKS}{inputs}", mark)
    except UserError as error:
        print(f"warning: the next retraining will train these inputs again: {error}", file=sys.stderr)


def recall(ref: str, commit: str, remote: str | None) -> str:
    """A sentence about earlier inputs; writes the report of a proposal again.

    The CI job of the proposal may have ended before it opened the pull request.

    Args:
        ref: Full name of a proposal or a mark.
        commit: Its commit.
        remote: The git remote that has it, or None.
    """
    date, _, message = git.run("log", "-1", "--date=short", "--format=%cd%n%B", commit).partition("\n")
    if ref.startswith(BRANCHES):
        branch = ref.removeprefix("refs/heads/")
        files.write_text(REPORT, f"# {message}\n")
        files.write_text(BRANCH, f"{branch}\n")
        return f"{branch} already proposes a model for these inputs: nothing was trained"
    forget = f"git push {remote} --delete {ref}" if remote else f"git update-ref -d {ref}"
    title = message.partition("\n")[0]
    return f"{title} ({date}): nothing was trained; `git show {commit[:12]}` shows why, `{forget}` forgets it"
