"""Differences between two versions of the pipeline's results."""

import shutil
from pathlib import Path
from typing import NamedTuple

from ..core import programs
from ..core.programs import DVC

# Files for a CI job: the text of a comment or pull request, whose first line is the title, and the page of plots.
REPORT, PLOTS = Path("build/report.md"), Path("build/plots")
NOISE = (
    "the same inputs gave other results here, because of another kind of processor or an unseeded step: "
    "`dvc push` where the results were made, so that they are pulled here and not made again"
)


class Table(NamedTuple):
    """A Markdown table of differences.

    Attributes:
        lines: Lines of the table; empty if nothing differs.
        incomplete: Whether values of the earlier version are neither cached nor on the remote.
    """

    lines: list[str]
    incomplete: bool

    def markdown(self) -> str:
        """The table, or a sentence if nothing differs."""
        return "\n".join(self.lines) or "No change."


def differing(before: str, after: str) -> tuple[list[str], list[str]]:
    """The inputs and outputs that differ between two versions of dvc.lock.

    Args:
        before: The text of the earlier version; "" has no stages.
        after: The text of the later version.

    Returns:
        The paths of the inputs and the paths of the outputs, sorted.
    """
    pairs = zip(_contents(before), _contents(after), strict=True)
    inputs, outputs = (sorted(path for path in old | new if old.get(path) != new.get(path)) for old, new in pairs)
    return inputs, outputs


def _contents(lock: str) -> tuple[dict[str, str], dict[str, str]]:
    """Path -> MD5 of the pipeline's inputs, and of its outputs."""
    from ..tracking import lockfile  # needs pydantic, and `make news` runs before anything is installed

    inputs: dict[str, str] = {}
    outputs: dict[str, str] = {}
    for stage in lockfile.stages(lock).values():
        inputs |= stage.inputs
        outputs |= stage.outputs
    return {path: md5 for path, md5 in inputs.items() if path not in outputs}, outputs


def table(kind: str, commit: str, *options: str, cwd: Path | None = None) -> Table:
    """The metrics or parameters that differ between a commit and the workspace.

    Args:
        kind: `metrics` or `params`.
        commit: The earlier commit, named in the heading.
        *options: Options of `dvc metrics diff` or `dvc params diff`.
        cwd: The project's root; None for the current folder.

    Raises:
        UserError: If DVC fails.
    """
    done = programs.complete(*DVC, kind, "diff", "--md", *options, commit, cwd=cwd)
    programs.require(done)
    lines = done.stdout.strip().splitlines()
    return Table(lines if len(lines) > 2 else [], "failed to load" in done.stderr)  # two lines are the header


def plots(commit: str, cwd: Path | None = None) -> None:
    """Writes a page of plots of a commit beside the workspace's.

    Args:
        commit: The earlier commit.
        cwd: The project's root; None for the current folder.

    Raises:
        UserError: If DVC fails.
    """
    clear()
    PLOTS.mkdir(parents=True)  # DVC creates the folder only for plots that are images
    programs.run(*DVC, "plots", "diff", "--out", PLOTS.resolve(), commit, cwd=cwd)


def clear() -> None:
    """Removes the page of plots of an earlier comparison."""
    shutil.rmtree(PLOTS, ignore_errors=True)
