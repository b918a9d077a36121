"""Checks of continuous integration: whether a commit's results are its own, and what they change."""

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
ABSENT = {"deleted", "not in cache"}  # the status of what `dvc repro` has to make, not of what has changed


def pull() -> None:
    """Pulls the outputs that are in the cache or on the remote, and prints how many are not.

    That is no error: a fork has no credentials, a commit may not be pushed yet, and `dvc repro` makes what is missing.
    """
    done = programs.complete(*DVC, "pull", "--allow-missing", progress=True)
    if done.returncode:
        print(f"dvc pull: {programs.reason(done)}; what is missing is computed here", flush=True)
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
        The verdict, for a person.

    Raises:
        UserError: If dvc.lock is not the commit's. If `dvc status` shows that already, no stage runs: a training of
            hours would be refused in the end.
    """
    recorded = lockfile.read_lock("HEAD")
    commit = git.git("rev-parse", "--short", "HEAD")
    remedy = "run `dvc repro`, commit dvc.lock and params.yaml, then `dvc push`"
    pull()
    if stages := stale():
        raise UserError(f"dvc.lock is not that of {commit}: {', '.join(stages)} would run on other inputs; {remedy}")
    programs.show(*DVC, "repro")
    lock = lockfile.read_lock()
    if lock.strip() == recorded.strip():
        return f"dvc.lock is that of {commit}"
    inputs, outputs = differences.differing(recorded, lock)
    if outputs and not inputs:
        remedy = differences.NOISE
    changed = ", ".join(outputs or inputs) or "commands or parameters"
    raise UserError(f"dvc.lock is not that of {commit} ({changed}); {remedy}")


def is_first_commit() -> bool:
    """Whether HEAD has no parent; a parent that a shallow clone has left out counts as one."""
    commit = git.git("cat-file", "commit", "HEAD")
    return commit is not None and "\nparent " not in commit.partition("\n\n")[0]


def require_results() -> None:
    """Pulls the results if they are not on disk.

    Raises:
        UserError: If they are nowhere.
    """
    if not RESULTS.exists():
        pull()
    if not RESULTS.exists():
        raise UserError(f"there is no {RESULTS}: run `dvc repro` first")


def compare(base: str) -> str:
    """Compares the results on disk with those of a commit, and writes the page of plots.

    Args:
        base: The commit: anything that git resolves.

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
    name = commit if re.fullmatch(r"[0-9a-f]{40}", base) else base  # it heads a column of each table
    differences.clear()
    return "\n\n".join([f"## Results, compared with `{name}`", *_differences(name)]) + "\n"


def _differences(commit: str) -> list[str]:
    """The paragraphs of the report, below its title."""
    before = lockfile.lock_at(commit)
    _, outputs = differences.differing(before or "", lockfile.read_lock())
    metrics, parameters = (differences.table(kind, commit, "--no-path") for kind in ("metrics", "params"))
    text = []
    if before is None:
        text.append(f"There are no results at `{commit}`: all of them are new.")
    if not outputs and not parameters.lines:
        return [*text, "Nothing has changed: parameters, metrics and plots are the same."]
    if before is not None and metrics.incomplete:
        text.append(f"Metrics of `{commit}` are neither cached nor on the remote: `dvc push` them from there.")
    text += ["### Metrics", metrics.markdown(), "### Parameters", parameters.markdown(), "### Plots"]
    if not any(path.startswith("reports/") for path in outputs):
        return [*text, "No change."]
    differences.plots(commit)
    paths = ", ".join(f"`{path}`" for path in outputs)
    return [*text, f"Both versions side by side: `{PLOTS}/index.html`.", f"New content: {paths}."]


@click.group()
def command() -> None:
    """Check that a commit's results are its own, or report what they change; on CI or at home."""


@command.command("reproduced")
def _reproduced() -> None:
    """Pull and reproduce; fails if dvc.lock is not the commit's.

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
