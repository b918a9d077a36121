"""CI commands: reproduce a commit's results, report what they change."""

import json
import re
from pathlib import Path
from typing import Any

import click

from ..core import files, programs
from ..core.errors import UserError
from ..core.programs import DVC
from ..tracking import git, lockfile
from . import differences
from .differences import PLOTS, REPORT

RESULTS = Path("reports/metrics.json")
PARENT = "HEAD~1"  # the default of `make report`
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


def stale() -> list[str]:
    """The stages whose code, data or parameters differ from dvc.lock.

    Raises:
        UserError: If `dvc status` fails.
    """

    def changed(status: Any) -> bool:
        if isinstance(status, dict):
            return any(changed(value) for value in status.values())
        return status not in ABSENT

    stages: dict[str, list[Any]] = json.loads(programs.run(*DVC, "status", "--json", progress=True))
    return [stage for stage, items in stages.items() if any(changed(item) for item in items)]


def reproduced() -> str:
    """Reproduces the pipeline from stored outputs.

    Returns:
        A message that confirms dvc.lock.

    Raises:
        UserError: If dvc.lock changes. If `dvc status` already shows that it would, no stage runs, because hours of
            training would only end in this error.
    """
    recorded = lockfile.read_lock("HEAD")
    commit = git.git("rev-parse", "--short", "HEAD")
    remedy = "run `dvc repro`, commit dvc.lock and params.yaml, then `dvc push`"
    pull()
    if stages := stale():
        raise UserError(f"dvc.lock does not match {commit}: {', '.join(stages)} would run on other inputs; {remedy}")
    programs.show(*DVC, "repro")
    lock = lockfile.read_lock()
    if lock.strip() == recorded.strip():
        return f"dvc.lock matches {commit}"
    inputs, outputs = differences.differing(recorded, lock)
    if outputs and not inputs:
        remedy = differences.NOISE
    changed = ", ".join(outputs or inputs) or "commands or parameters"
    raise UserError(f"dvc.lock does not match {commit} ({changed}); {remedy}")


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
    _, outputs = differences.differing(before or "", lockfile.read_lock())
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
    """Reproduce the pipeline; fail if dvc.lock changes.

    Runs `dvc pull` and `dvc repro`. If it is certain that dvc.lock would change, no stage runs.
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
