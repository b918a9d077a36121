"""What CI asks of a commit: are its results its own, and what do they change?

    python -m <package>.ci reproduced     `dvc pull`, `dvc repro`, refused where dvc.lock is not the commit's
    python -m <package>.ci report BASE    metrics, parameters, plots beside a commit's: build/report.md, build/plots

Both run on a person's machine as they run there.
"""

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from ..core import errors, stages
from ..core.paths import NAME
from ..tracking import git, lockfile

REPORT = Path("build/report.md")
PLOTS = Path("build/plots")
RESULTS = Path("reports/metrics.json")
PARENT = "HEAD~1"  # what `make report` compares with unless it is told
ABSENT = {"deleted", "not in cache"}  # said of what `dvc repro` has to make, not of what has changed
NOISE = (
    "the same inputs gave other results here, as another kind of processor or an unseeded step does: "
    "`dvc push` where they were made, so that they need not be made here"
)


def dvc(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs DVC of this environment; its progress stays visible on a terminal."""
    told = None if sys.stderr.isatty() else subprocess.PIPE
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=told, text=True, check=False)


def reason(done: subprocess.CompletedProcess[str]) -> str:
    """Returns the first error that DVC told, in one line."""
    lines = [line for line in (done.stderr or "").splitlines() if line.strip() and not line.startswith("WARNING")]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines or ["see above"])[0]


def pull() -> None:
    """Gets the outputs that are in the cache or on the remote, and says in one line what is not to be had.

    That is no error: a fork has no credentials, a commit may not be pushed yet, and `dvc repro` makes what is missing.
    """
    done = dvc("pull", "--allow-missing")
    if done.returncode:
        print(f"dvc pull: {reason(done)}; what is missing is computed here", flush=True)
    elif missing := len(re.findall(r"^md5: ", done.stderr or "", re.MULTILINE)):
        print(f"dvc pull: {missing} files are neither cached nor on the remote; they are computed here", flush=True)


def stale() -> list[str]:
    """Returns the stages that dvc.lock knows with other code, data or parameters, as `dvc status` tells."""
    import json

    done = dvc("status", "--json")
    if done.returncode:
        raise errors.UserError(f"`dvc status` failed: {reason(done)}")

    def changed(told: Any) -> bool:
        if isinstance(told, dict):
            return any(changed(value) for value in told.values())
        return told not in ABSENT

    found: dict[str, list[Any]] = json.loads(done.stdout)
    return [stage for stage, items in found.items() if any(changed(item) for item in items)]


def contents(lock: str) -> tuple[dict[str, str], dict[str, str]]:
    """Returns path -> MD5 of what the stages read, and of what they wrote.

    Args:
        lock: The text of dvc.lock.
    """
    from yaml import safe_load

    stages = safe_load(lock)["stages"].values()
    read, written = ({item["path"]: item["md5"] for s in stages for item in s.get(key, [])} for key in ("deps", "outs"))
    return {path: md5 for path, md5 in read.items() if path not in written}, written


def differing(before: str, after: str) -> tuple[list[str], list[str]]:
    """Returns the inputs and the outputs that differ between two texts of dvc.lock."""
    pairs = zip(contents(before), contents(after), strict=True)
    inputs, outputs = (sorted(k for k in old | new if old.get(k) != new.get(k)) for old, new in pairs)
    return inputs, outputs


def reproduced() -> None:
    """Reproduces the pipeline from what is stored.

    Raises:
        UserError: Where dvc.lock is not the commit's. Where that is sure beforehand, nothing runs: a training of hours
            would be refused in the end.
    """
    recorded = lockfile.read_lock("HEAD")
    commit = git.git("rev-parse", "--short", "HEAD")
    cure = "run `dvc repro`, commit dvc.lock and params.yaml, then `dvc push`"
    pull()
    if stages := stale():
        raise errors.UserError(
            f"dvc.lock is not that of {commit}: {', '.join(stages)} would run on other inputs; {cure}"
        )
    if subprocess.run([sys.executable, "-m", "dvc", "repro"], check=False).returncode:
        raise errors.UserError("`dvc repro` failed: its output above says why")
    found = lockfile.read_lock()
    if found.strip() == recorded.strip():
        print(f"dvc.lock is that of {commit}")
        return
    inputs, outputs = differing(recorded, found)
    if outputs and not inputs:
        cure = NOISE
    what = ", ".join(outputs or inputs) or "commands or parameters"
    raise errors.UserError(f"dvc.lock is not that of {commit} ({what}); {cure}")


def rows(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Returns the lines of a table that DVC wrote in Markdown; none where it has a head alone."""
    lines = done.stdout.strip().splitlines()
    return lines if len(lines) > 2 else []


def is_first_commit() -> bool:
    """Says whether the present commit has no parent; one that a shallow clone has left out is one."""
    commit = git.git("cat-file", "commit", "HEAD")
    return commit is not None and "\nparent " not in commit.partition("\n\n")[0]


def compare(base: str) -> str:
    """Writes the page of plots and returns the report.

    Args:
        base: What git resolves to a commit.

    Raises:
        UserError: Where it does not, or DVC fails.
    """
    sha = git.git("rev-parse", "--verify", "--quiet", "--short", base + "^{commit}")
    if not sha and base == PARENT and is_first_commit():
        return "## Results\n\nNothing to compare with: this is the first commit.\n"
    if not sha:
        raise errors.UserError(f"BASE={base}: git knows no such commit here; `git fetch` it, or name another")
    if not RESULTS.exists():
        pull()
        if not RESULTS.exists():
            raise errors.UserError(f"there is no {RESULTS}: run `dvc repro` first")
    name = sha if re.fullmatch(r"[0-9a-f]{40}", base) else base  # it heads a column of each table
    lines = [f"## Results, compared with `{name}`", ""]
    before = git.git("show", f"{sha}:./dvc.lock")
    if before is None:
        lines += [f"There are no results at `{name}`: all of them are new.", ""]
    shutil.rmtree(PLOTS, ignore_errors=True)
    _, outputs = differing(before or "stages: {}", lockfile.read_lock())
    parameters = dvc("params", "diff", "--md", "--no-path", name)
    metrics = dvc("metrics", "diff", "--md", "--no-path", name)
    for done in (metrics, parameters):
        if done.returncode:
            raise errors.UserError(f"`{' '.join(done.args[3:5])}` failed: {reason(done)}")
    if not (outputs or rows(parameters)):
        lines += ["Nothing has changed: parameters, metrics and plots are the same.", ""]
        return "\n".join(lines)
    if before is not None and "failed to load" in (metrics.stderr or ""):
        lines += [f"Metrics of `{name}` are neither cached nor on the remote: `dvc push` them from there.", ""]
    for title, table in (("Metrics", rows(metrics)), ("Parameters", rows(parameters))):
        lines += [f"### {title}", "", *(table or ["No change."]), ""]
    lines += ["### Plots", ""]
    if not any(path.startswith("reports/") for path in outputs):
        return "\n".join([*lines, "No change.", ""])
    PLOTS.mkdir(parents=True)  # DVC does so for pictures alone
    drawn = dvc("plots", "diff", name, "--out", str(PLOTS))
    if drawn.returncode:
        raise errors.UserError(f"`dvc plots diff` failed: {reason(drawn)}")
    others = ", ".join(f"`{path}`" for path in outputs)
    return "\n".join([*lines, f"Both versions side by side: `{PLOTS}/index.html`.", "", f"New content: {others}.", ""])


def report(base: str) -> None:
    """Writes the report and shows it."""
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(compare(base), encoding="utf-8")
    print(REPORT.read_text(encoding="utf-8"))


def main() -> None:
    """Runs one of the two."""
    parser = argparse.ArgumentParser(prog=f"python -m {NAME} ci", description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("reproduced", help="dvc pull, dvc repro; refused where dvc.lock is not the commit's")
    beside = commands.add_parser("report", help=f"what differs from a commit: {REPORT}, {PLOTS}")
    beside.add_argument("base", help="the commit")
    given = parser.parse_args()
    if given.command == "reproduced":
        reproduced()
    else:
        report(given.base)


if __name__ == "__main__":
    stages.run(main)
