"""Counts of production's rows in bins, of all workers of a service, as lines of /metrics.

A model of 50 columns has 700 such counts. prometheus_client would parse and sort all of them for each scrape, for which
requests wait; here a worker adds to an array in a file, and a scrape adds up the arrays.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..drift.reference import OUTCOME, RIGHT
from .metrics import ROWS, family

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..drift.reference import Reference

FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # environment variable: where the workers of a service share their counts


class Rows:
    """Numbers of rows in bins; this worker's own, and the sums of all workers."""

    def __init__(self, version: str, reference: Reference | None) -> None:
        """Begins with 0 in each bin: Prometheus does not see the first increase of a counter that appears with it.

        Args:
            version: The model's version.
            reference: The reference of the model; None if it has none: outcomes alone are counted.
        """
        bins: dict[tuple[str, str], Sequence[str]] = {(OUTCOME, OUTCOME): RIGHT}
        bins |= {(each.kind, each.column): each.labels for each in reference.variables} if reference else {}
        names: list[tuple[str, str, str]] = []
        self._places = {}
        for (kind, column), labels in bins.items():
            self._places[kind, column] = slice(len(names), len(names) + len(labels))
            names += [(kind, column, label) for label in labels]
        lines = family(ROWS, version, [(name, 0) for name in names]).splitlines()
        self._head = "".join(f"{line}\n" for line in lines if line.startswith("#"))
        self._series = [line.rpartition(" ")[0] for line in lines if not line.startswith("#")]
        folder = os.environ.get(FOLDER)
        self._files = (Path(folder), f"rows_{version}_*.bin") if folder else None
        # The file of a worker that has ended stays: its rows were counted.
        own = Path(folder, f"rows_{version}_{os.getpid()}.bin") if folder else None
        self._own: NDArray[np.int64] = (
            np.memmap(own, np.int64, "w+", shape=len(names)) if own else np.zeros(len(names), np.int64)
        )

    def add(self, kind: str, column: str, counts: NDArray[np.int64]) -> None:
        """Adds the rows of a variable.

        Args:
            kind: Its kind.
            column: Its column.
            counts: Number of rows in each bin, int64 [K].
        """
        self._own[self._places[kind, column]] += counts

    def add_outcomes(self, right: int, wrong: int) -> None:
        """Adds outcomes.

        Args:
            right: Number of answers that were right.
            wrong: Number of those that were not.
        """
        self.add(OUTCOME, OUTCOME, np.array([right, wrong]))

    def text(self) -> str:
        """Lines of /metrics."""
        counts = self._own
        if self._files:
            folder, pattern = self._files
            counts = np.sum([np.fromfile(path, np.int64) for path in folder.glob(pattern)], axis=0)
        lines = map("{} {}\n".format, self._series, counts.tolist())
        return self._head + "".join(lines)
