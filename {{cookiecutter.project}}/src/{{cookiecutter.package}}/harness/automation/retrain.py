"""Continuous training: new data go through the pipeline and the gates; what passes is proposed as a branch.

It all happens in a work tree of git below .dvc/tmp, which uses the DVC cache of this project: workspace and branch stay
as they are, however a retraining ends. The next one removes what a killed one has left, and takes the stages that it
finished from the cache.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import click

from ..core import files, paths, programs
from ..core.errors import UserError
from ..core.programs import DVC
from ..release import judge
from ..tracking import git, lockfile
from . import differences, retrain_report, retrain_tree
from .differences import REPORT

BRANCH = Path("build/branch")  # for a CI job: the name of the branch, if one was made
INPUTS = ("conf", "data", "dvc.yaml", "schema", "src")  # inputs of the pipeline in git


def retrain(overrides: Sequence[str]) -> str:
    """Pulls, updates, reproduces, judges, and proposes a model that is new and passes.

    Args:
        overrides: Overrides of conf/gates.yaml, in Hydra's grammar.

    Returns:
        What was done, for a person.

    Raises:
        UserError: If the commit is not clean, a program fails, or the new model does not pass.
    """
    # Whatever cannot be reached is an error now, and not after hours of training.
    base, remote = clean_commit(), git_remote()
    proposed = branches(remote)
    storage = storage_for(remote)
    settings = judge.read_gates(overrides)
    for result in (REPORT, BRANCH):
        result.unlink(missing_ok=True)
    differences.clear()
    with retrain_tree.alone() as folder, git.work_tree(base, "HEAD", folder / "tree") as tree:
        retrain_tree.share_configuration(tree)
        retrain_tree.pull_and_update(tree, storage)
        branch = branch_name(git.run("ls-tree", "HEAD", "--", *INPUTS, cwd=tree))
        if f"refs/heads/{branch}" in proposed:
            report_again(branch, remote, tree)
            return f"{branch} proposes this already: nothing was trained"
        retrain_tree.progress("dvc repro")
        programs.show(*DVC, "repro", cwd=tree)
        changed = news(lockfile.lock_at(base), (tree / lockfile.LOCK).read_text(encoding="utf-8"))
        if changed is None:
            return f"nothing changed: the results are those of {base[:12]}"
        report = retrain_report.write(tree, base, changed, settings)
        retrain_tree.commit(tree, report, "dvc.lock", "params.yaml")
        publish(tree, branch, remote, storage)
    files.write_text(BRANCH, f"{branch}\n")
    if remote:
        return f"{branch} is on {remote}, not yet merged; {REPORT} shows what it changes"
    return (
        f"{branch} is a branch here (git has no remote); {REPORT} shows what it changes: "
        f"git merge {branch} && dvc checkout"
    )


def clean_commit() -> str:
    """The present commit, on a branch or not.

    Raises:
        UserError: If there is none, files or data differ from it, or git does not know who commits.
    """
    base = git.git("rev-parse", "--verify", "--quiet", "HEAD")
    if base is None:
        raise UserError("git finds no commit here: commit first, a retraining starts from one")
    if lines := git.run("status", "--porcelain").splitlines():
        names = retrain_report.some([line[3:] for line in lines])
        raise UserError(f"not in any commit: {names}; commit (or stash) first, a retraining starts from a commit")
    if modified := [path for path, state in retrain_tree.data_states(Path()).items() if state == "modified"]:
        raise UserError(
            f"{modified[0]} differs from the commit: `dvc checkout {modified[0]}` restores the commit's, or `dvc add "
            f"{modified[0]}` and a commit of its .dvc file keep yours"
        )
    for who in ("AUTHOR", "COMMITTER"):
        if git.git("-c", "user.useConfigOnly=true", "var", f"GIT_{who}_IDENT") is None:
            raise UserError("git knows no user.name and user.email for the commit: `git config` sets them")
    return base


def git_remote() -> str | None:
    """The remote for branches: origin, or the only one; None if there is none.

    Raises:
        UserError: If there are several and none is origin.
    """
    remotes = git.run("remote").splitlines()
    if "origin" in remotes or not remotes:
        return "origin" if remotes else None
    if len(remotes) > 1:
        raise UserError(f"to which of {', '.join(remotes)}? `git remote rename NAME origin` chooses it")
    return remotes[0]


def branches(remote: str | None) -> set[str]:
    """The full names of the branches on the remote, or here.

    Args:
        remote: The remote, or None for this repository.

    Raises:
        UserError: If the remote cannot be reached.
    """
    listing = git.run("ls-remote", "--heads", remote) if remote else git.run("for-each-ref", "refs/heads")
    return {line.split()[-1] for line in listing.splitlines()}


def storage_for(remote: str | None) -> bool:
    """Whether DVC has a remote, where the data of a proposal are kept.

    Args:
        remote: The git remote for the branch.

    Raises:
        UserError: If DVC's remote is a folder that does not exist here: `dvc push` would create it, on a CI machine
            that is deleted afterwards.
    """
    from dvc.config import Config

    config = Config(".dvc")
    if (name := config["core"].get("remote")) is None:
        return False
    # DVC's reader makes folders absolute, addresses not. DVC itself rejects the name of a remote without a description.
    folder = Path(config["remote"].get(name, {}).get("url", ""))
    if remote and folder.is_absolute() and not folder.is_dir():
        raise UserError(
            f"DVC's remote is the folder {folder}, which is not on this machine: a branch on {remote} would name data "
            "that nobody else has; retrain where the folder is (a first `dvc push` makes it), or choose a remote that "
            "every machine reaches"
        )
    return True


def branch_name(listing: str) -> str:
    """The name of a branch, the same for the same inputs, so that they are proposed once.

    Args:
        listing: The inputs in git, as `git ls-tree` lists them.
    """
    return f"retrain/{hashlib.sha256(listing.encode()).hexdigest()[:12]}"


def report_again(branch: str, remote: str | None, tree: Path) -> None:
    """Writes the report of an earlier proposal, for a CI job that ended before it opened the pull request.

    Args:
        branch: The branch.
        remote: The git remote that has it, or None.
        tree: Root of the project in the work tree.
    """
    if remote:
        git.run("fetch", "--quiet", "--no-tags", remote, f"refs/heads/{branch}", cwd=tree)
    message = git.run("log", "-1", "--format=%B", "FETCH_HEAD" if remote else branch, cwd=tree)
    files.write_text(REPORT, f"# {message}\n")
    files.write_text(BRANCH, f"{branch}\n")


def news(before: str | None, after: str) -> list[str] | None:
    """The changed inputs ([] for a first result), or None if no output changed.

    Args:
        before: The text of dvc.lock in the commit, if it has one.
        after: Its text after `dvc repro`.

    Raises:
        UserError: If outputs changed and no input did: such noise could pass the gates.
    """
    inputs, outputs = differences.differing(before or "", after)
    if not outputs:
        return None
    if before is None:
        return []
    old, new = ({name: stage.command for name, stage in lockfile.stages(lock).items()} for lock in (before, after))
    if old != new:
        inputs.append("dvc.yaml")
    if not inputs:
        raise UserError(f"{', '.join(outputs)}: {differences.NOISE}")
    return inputs


def publish(tree: Path, branch: str, remote: str | None, storage: bool) -> None:
    """Makes the branch: on the remote, after its data, or here.

    Args:
        tree: Root of the project in the work tree.
        branch: The branch.
        remote: The git remote, or None.
        storage: Whether DVC has a remote.
    """
    if not remote:
        git.run("branch", "--no-track", branch, "HEAD", cwd=tree)
        return
    if storage:  # before the branch, so that nobody finds it without its data
        retrain_tree.progress("dvc push")
        programs.run(*DVC, "push", cwd=tree, progress=True)
    git.run("push", "--quiet", "--no-follow-tags", remote, f"HEAD:refs/heads/{branch}", cwd=tree)


@click.command()
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
def command(overrides: tuple[str, ...]) -> None:
    """Put new data through the pipeline and the gates; propose as a branch what passes.

    Starts from the present commit, with what its imports hold now. KEY=VALUE changes a setting of conf/gates.yaml in
    Hydra's grammar, as for `registry promote`; gates.latency_ms=50 for instance.
    """
    os.environ["DVC_ROOT"] = str(paths.project_root())  # the MLflow store is here, also for stages in the work tree
    try:
        print(retrain(overrides))
    except UserError as error:
        raise UserError(f"{error}; no branch was made") from None
