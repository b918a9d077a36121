"""Continuous training: trains on new data, proposes a branch after the gates.

A retraining runs in a git work tree below .dvc/tmp, which uses the DVC cache of this project: workspace and branch stay
unchanged, however the retraining ends. The next retraining removes the work tree of a killed one, and takes the stages
that it finished from the cache.
"""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

import click

from ..core import files, paths, programs
from ..core.errors import UserError, shortened
from ..core.programs import DVC
from ..release import judge
from ..tracking import git, lockfile, machine, proposal, verdict
from ..tracking.proposal import BRANCH, REPORT
from . import differences, retrain_memory, retrain_report, retrain_tree, settings
from .ci import PUSH
from .retrain_memory import BRANCHES, MARKS


def retrain(overrides: Sequence[str]) -> str:
    """Retrains on updated data and proposes a new model that passes.

    Args:
        overrides: Overrides of conf/gates.yaml, in Hydra's grammar.

    Returns:
        A message about the result.

    Raises:
        UserError: If the commit is not clean, a program fails, or the new model does not pass.
    """
    # An unreachable remote is an error now, not after hours of training.
    base, remote = clean_commit(), proposal.remote()
    earlier = retrain_memory.read(remote)
    storage = storage_for(remote)
    gates = judge.read_gates(overrides)
    proposal.forget()
    differences.clear()
    with retrain_tree.exclusive_folder() as folder, git.work_tree(base, "HEAD", folder / "tree") as tree:
        retrain_tree.share_configuration(tree)
        contributors = retrain_tree.pull_and_update(tree, storage)
        inputs = retrain_memory.version(tree=tree)
        # Gates on the command line are a person's: they ask again.
        for ref in (f"{BRANCHES}{inputs}", *(() if overrides else (f"{MARKS}{inputs}",))):
            if ref in earlier:
                return retrain_memory.recall(ref, earlier[ref], remote)
        retrain_tree.progress("dvc repro")
        programs.show(*DVC, "repro", cwd=tree)
        lock = (tree / lockfile.LOCK).read_text(encoding="utf-8")
        settle_machine(tree, lockfile.outputs(lock).get(lockfile.MODEL, ""))
        with contextlib.chdir(tree):
            changed = changed_inputs(lockfile.lock_at(base), lock)
        if changed is None:
            recorded = retrain_memory.results()
            if recorded is None or inputs != retrain_memory.version(recorded):  # `make news` cannot see it
                retrain_memory.remember(tree, inputs, "Retraining changed no result", remote)
            return f"nothing changed: the results are those of {base[:12]}"
        report, failed = retrain_report.write(tree, base, changed, gates, contributors)
        if failed:
            if not overrides:
                retrain_memory.remember(tree, inputs, report, remote)
            raise UserError(f"the new model does not pass: {', '.join(failed)}; see {REPORT}")
        proposal.commit(tree, report, *(name for name in lockfile.RECORD if (tree / name).exists()))
        branch = f"retrain/{inputs}"
        publish(tree, branch, remote, storage)
    files.write_text(BRANCH, f"{branch}\n")
    if remote:
        return f"{branch} is on {remote}, not yet merged; {REPORT} shows what it changes"
    return (
        f"{branch} is a branch here (git has no remote); {REPORT} shows what it changes: "
        f"git merge {branch} && dvc checkout"
    )


def settle_machine(tree: Path, model: str) -> None:
    """Makes machine.json of the work tree speak of its model, also if DVC took that from its cache, without a stage.

    The records are kept here, because the work tree is removed.

    Args:
        tree: Root of the project in the work tree.
        model: MD5 of the model.
    """
    with contextlib.chdir(tree):
        made = machine.read()
    if made:
        machine.keep(made)
    if record := machine.recorded(model):
        with contextlib.chdir(tree):
            machine.write(record)


def clean_commit() -> str:
    """The current commit, on a branch or detached.

    Raises:
        UserError: If there is no commit, files or data differ from it, or git has no name and email for a new one.
    """
    base = git.git("rev-parse", "--verify", "--quiet", "HEAD")
    if base is None:
        raise UserError("git finds no commit here: commit first, a retraining starts from a commit")
    if lines := git.run("status", "--porcelain").splitlines():
        names = shortened([line[3:] for line in lines], 3)
        raise UserError(f"not in any commit: {names}; commit (or stash) first, a retraining starts from a commit")
    if modified := [path for path, state in retrain_tree.data_states(Path()).items() if state == "modified"]:
        raise UserError(
            f"{modified[0]} differs from the commit: `dvc checkout {modified[0]}` restores the committed data, "
            f"`dvc add {modified[0]}` and a commit of the .dvc file keep the changed data"
        )
    for who in ("AUTHOR", "COMMITTER"):
        if git.git("-c", "user.useConfigOnly=true", "var", f"GIT_{who}_IDENT") is None:
            raise UserError("git has no user.name and user.email for the commit: set them with `git config`")
    return base


def storage_for(remote: str | None) -> bool:
    """Whether DVC has a remote for the data of a proposal.

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
    # DVC's reader makes the path of a folder absolute, and leaves a URL as it is. DVC itself rejects an unknown remote.
    folder = Path(config["remote"].get(name, {}).get("url", ""))
    if remote and folder.is_absolute() and not folder.is_dir():
        raise UserError(
            f"DVC's remote is the folder {folder}, which is not on this machine: a branch on {remote} would refer to "
            "data that nobody else has; retrain on the machine with the folder (a first `dvc push` creates it), or "
            "choose a remote that every machine can reach"
        )
    return True


def changed_inputs(before: str | None, after: str) -> list[str] | None:
    """The changed inputs, [] for first results, None without changed outputs.

    Args:
        before: The text of dvc.lock in the commit, if it has one.
        after: The text of dvc.lock after `dvc repro`.

    Raises:
        UserError: If outputs changed without a change of inputs, beyond rounding.
    """
    inputs, outputs = lockfile.differing(before or "", after)
    if not outputs:
        return None
    if before is None:
        return []
    old, new = ({name: stage.command for name, stage in lockfile.stages(lock).items()} for lock in (before, after))
    if old != new:
        inputs.append("dvc.yaml")
    return inputs or other_machine(before, after)


def other_machine(before: str, after: str) -> list[str] | None:
    """What changed if the same inputs gave other outputs: None unless conf/ci.yaml lets the machine count.

    Args:
        before: The text of dvc.lock in the commit.
        after: The text of dvc.lock after `dvc repro`.

    Raises:
        UserError: If the results are not equivalent: such noise could pass the gates.
    """
    found = verdict.judge(verdict.made(before), verdict.made(after))
    if found.name == verdict.DIFFERENT:
        raise UserError(f"the same inputs gave other results: {found.reason}; {PUSH}")
    retrain_tree.progress(str(found))
    return [str(machine.FILE)] if settings.equivalent().replaces else None


def publish(tree: Path, branch: str, remote: str | None, storage: bool) -> None:
    """Pushes data and branch; without a remote, creates the branch here.

    Args:
        tree: Root of the project in the work tree.
        branch: The branch.
        remote: The git remote, or None.
        storage: Whether DVC has a remote.
    """
    if remote and storage:  # before the branch, so that nobody gets a branch without its data
        retrain_tree.progress("dvc push")
        programs.run(*DVC, "push", cwd=tree, progress=True)
    proposal.publish(tree, branch, remote)


@click.command()
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
def command(overrides: tuple[str, ...]) -> None:
    """Retrain on new data; propose a branch if the model passes.

    Starts from the current commit and updates its imported data. Inputs that failed before are not trained again. With
    KEY=VALUE they are: it changes a setting of conf/gates.yaml in Hydra's grammar, as for `registry promote`, for
    instance gates.latency_ms=50.
    """
    os.environ["DVC_ROOT"] = str(paths.project_root())  # stages in the work tree use the MLflow store of this project
    try:
        print(retrain(overrides))
    except UserError as error:
        raise UserError(f"{error}; no branch was made") from None
