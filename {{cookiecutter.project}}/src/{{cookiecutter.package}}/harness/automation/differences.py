"""Differences between two versions of the pipeline's results."""

import shutil
from pathlib import Path
from typing import NamedTuple

from ..core import programs
from ..core.programs import DVC

PLOTS = Path("build/plots")  # the page of plots, for a CI job


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
