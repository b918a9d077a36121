"""CI commands: reproduce a commit's results, report what they change."""

import json
import re
from pathlib import Path
from typing import Any

import click

from ..core import files, programs
from ..core.errors import UserError, shortened
from ..core.programs import DVC
from ..tracking import git, lockfile, machine, verdict
from ..tracking.proposal import REPORT
from . import differences, settings
from .differences import PLOTS

RESULTS = Path("reports/metrics.json")
PARENT = "HEAD~1"  # the default of `make report`
COMMIT = "run `dvc repro`, commit dvc.lock, machine.json and params.yaml, then `dvc push`"
PUSH = "`dvc push` where the results were made: they are then pulled here and not made again"
ABSENT = {"deleted", "not in cache"}  # states of outputs that `dvc repro` makes; they are not changes


def pull() -> None:
    """Pulls the stored outputs and prints how many are missing.

    Missing outputs are not an error, because `dvc repro` makes them: a fork has no credentials, and the outputs of a
    commit may not be pushed yet.
    """
    done = programs.complete(*DVC, "pull", "--allow-missing", progress=True)
    if done.returncode:
        print(f"dvc pull: {programs.reason(done)}; missing outputs are computed here", flush=True)
    elif missing := len(re.findall(r"^md5: ", done.stderr or "", re.MULTILINE)):
        print(f"dvc pull: {missing} files are neither cached nor on the remote; they are computed here", flush=True)


def stale() -> dict[str, list[str]]:
    """The stages whose code, data or parameters differ from dvc.lock, with what differs.

    Raises:
        UserError: If `dvc status` fails.
    """

    def changed(status: Any, name: str) -> list[str]:
        if isinstance(status, dict):
            return [found for key, value in status.items() for found in changed(value, key)]
        return [] if status in ABSENT else [name]

    stages: dict[str, list[Any]] = json.loads(programs.run(*DVC, "status", "--json", progress=True))
    found = {stage: [name for item in items for name in changed(item, str(item))] for stage, items in stages.items()}
    return {stage: names for stage, names in found.items() if names}


def reproduced() -> str:
    """Reproduces the pipeline from stored outputs.

    Returns:
        The verdict: dvc.lock is confirmed, or the results are equivalent, and conf/ci.yaml allows it.

    Raises:
        UserError: If the results differ. If `dvc status` already shows that they would, no stage runs, because hours
            of training would only end in this error.
    """
    recorded, allowed = lockfile.read_lock("HEAD"), settings.equivalent()
    commit = git.git("rev-parse", "--short", "HEAD")
    pull()
    if stages := stale():
        what = "; ".join(f"{stage} would run ({shortened(names, 3)} changed)" for stage, names in stages.items())
        raise UserError(f"dvc.lock does not match {commit}: different: {what}; {COMMIT}")
    # Without the run cache: results that an earlier check made here would come without a record of their machine.
    programs.show(*DVC, "repro", "--no-run-cache")
    lock = lockfile.read_lock()
    if machine.settle(lockfile.outputs(lock).get(lockfile.MODEL, "")):
        print(f"{machine.FILE} spoke of another model and is that of dvc.lock now: commit it", flush=True)
    found = verdict.judge(verdict.made(recorded), verdict.made(lock))
    if found.name == verdict.IDENTICAL:
        return f"identical: dvc.lock matches {commit}"
    if found.name == verdict.EQUIVALENT and allowed.checks:
        return f"{found}; {commit} passes"
    same = not verdict.changed_inputs(recorded, lock)
    raise UserError(f"dvc.lock does not match {commit}: {found}; {PUSH if same else COMMIT}")


def is_first_commit() -> bool:
    """Whether HEAD has no parent, not even one outside a shallow clone."""
    commit = git.git("cat-file", "commit", "HEAD")
    return commit is not None and "\nparent " not in commit.partition("\n\n")[0]


def require_results() -> None:
    """Pulls the results if they are not on disk.

    Raises:
        UserError: If the results are neither on disk, nor in the cache, nor on the remote.
    """
    if not RESULTS.exists():
        pull()
    if not RESULTS.exists():
        raise UserError(f"there is no {RESULTS}: run `dvc repro` first")


def compare(base: str) -> str:
    """Compares results with a commit's and writes the page of plots.

    Args:
        base: Anything that git resolves to a commit.

    Returns:
        The report, in Markdown.

    Raises:
        UserError: If git does not know the commit, or DVC fails.
    """
    commit = git.git("rev-parse", "--verify", "--quiet", "--short", base + "^{commit}")
    if not commit and base == PARENT and is_first_commit():
        return "## Results\n\nNothing to compare with: this is the first commit.\n"
    if not commit:
        raise UserError(f"BASE={base}: git knows no such commit here; `git fetch` it, or name another")
    require_results()
    name = commit if re.fullmatch(r"[0-9a-f]{40}", base) else base  # short, for the heading of a column
    differences.clear()
    return "\n\n".join([f"## Results, compared with `{name}`", *_differences(name)]) + "\n"


def _differences(commit: str) -> list[str]:
    """The paragraphs of the report, below its title."""
    before = lockfile.lock_at(commit)
    _, outputs = lockfile.differing(before or "", lockfile.read_lock())
    metrics, parameters = (differences.table(kind, commit, "--no-path") for kind in ("metrics", "params"))
    text = []
    if before is None:
        text.append(f"There are no results at `{commit}`: all results are new.")
    if not outputs and not parameters.lines:
        return [*text, "Nothing has changed: parameters, metrics and plots are the same."]
    if before is not None and metrics.incomplete:
        text.append(f"Metrics of `{commit}` are neither cached nor on the remote: `dvc push` where they were made.")
    text += ["### Metrics", metrics.markdown(), "### Parameters", parameters.markdown(), "### Plots"]
    if not any(path.startswith("reports/") for path in outputs):
        return [*text, "No change."]
    differences.plots(commit)
    paths = ", ".join(f"`{path}`" for path in outputs)
    return [*text, f"Both versions side by side: `{PLOTS}/index.html`.", f"New content: {paths}."]


@click.group()
def command() -> None:
    """Check that a commit's results are reproducible, or report their changes."""


@command.command("reproduced")
def _reproduced() -> None:
    """Reproduce the pipeline; fail if the results differ.

    Runs `dvc pull` and `dvc repro`, and says whether the results are identical, equivalent (another machine, and no
    further apart than rounding explains) or different. If they are certain to differ, no stage runs.
    """
    print(reproduced())


@command.command("report")
@click.argument("base")
def _report(base: str) -> None:
    """Compare metrics, parameters and plots with those of a commit.

    BASE is anything that git resolves to a commit. The report is build/report.md, both versions of the plots are in
    build/plots.
    """
    text = compare(base)
    files.write_text(REPORT, text)
    print(text)
