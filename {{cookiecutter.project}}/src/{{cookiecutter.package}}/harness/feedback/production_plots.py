"""Plots of the report about production."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from numpy.typing import NDArray

from ..evaluation.plots import BLUE, GRAY, ORANGE, plain, save

Numbers = NDArray[np.float64]
Counts = NDArray[np.int64]
MOST = 20  # columns of the map


def volume(rows: Mapping[str, int], path: Path) -> None:
    """Rows by week.

    Args:
        rows: Week -> number of rows.
        path: File to write.
    """
    figure, axes = plt.subplots(figsize=(7, 2.6))
    axes.bar(range(len(rows)), list(rows.values()), color=BLUE, width=0.7)
    _name_weeks(axes, [*rows])
    axes.set(ylabel="rows", title="Rows by week")
    save(figure, path)


def drift(
    columns: Sequence[str], weeks: Sequence[str], psi: Numbers, alarms: NDArray[np.bool_], dark: float, path: Path
) -> None:
    """PSI of the columns by week; a cross where the evidence reaches its limit.

    Args:
        columns: Names of variables, the worst first.
        weeks: The weeks.
        psi: PSI, [columns, weeks].
        alarms: Whether evidence and PSI alarm, [columns, weeks].
        dark: PSI that is dark blue, unless there is a larger one.
        path: File to write.
    """
    columns, psi, alarms = columns[:MOST], psi[:MOST], alarms[:MOST]
    figure, axes = plt.subplots(figsize=(max(4.5, 2.8 + 0.7 * len(weeks)), 1.4 + 0.3 * len(columns)))
    image = axes.imshow(psi, aspect="auto", cmap="Blues", vmin=0, vmax=max(dark, float(psi.max())))
    for row, column in zip(*alarms.nonzero(), strict=True):
        axes.plot(column, row, "x", color=ORANGE, markersize=7, markeredgewidth=2)
    axes.set_yticks(range(len(columns)), [plain(name) for name in columns])
    _name_weeks(axes, weeks, most=2)
    axes.set_title("PSI by week (cross: drift)", loc="left")
    figure.colorbar(image, ax=axes, label="PSI", fraction=0.046)
    save(figure, path)


def histograms(worst: Sequence[tuple[str, Sequence[str], Counts, Counts]], path: Path) -> None:
    """Shares of reference and production in the bins of the worst columns.

    Args:
        worst: Name, names of the bins, rows of the reference and of production in each, [K].
        path: File to write.
    """
    height = math.ceil(len(worst) / 2)
    figure, grid = plt.subplots(height, 2, figsize=(9, 2.9 * height), squeeze=False)
    for axes in grid.flat[len(worst) :]:
        axes.remove()
    for axes, (name, bins, reference, production) in zip(grid.flat, worst, strict=False):
        places: Any = np.arange(len(bins))
        axes.barh(places - 0.2, reference / max(reference.sum(), 1), 0.4, color=GRAY, label="reference")
        axes.barh(places + 0.2, production / max(production.sum(), 1), 0.4, color=BLUE, label="production")
        axes.set_yticks(places, [plain(text if len(text) < 26 else f"{text[:24]}…") for text in bins], fontsize=7)
        axes.invert_yaxis()
        axes.set_title(plain(name), fontsize=9, loc="left")
    grid[0, 0].legend(fontsize=7)
    save(figure, path)


def quality(weeks: Sequence[str], estimated: Numbers, realized: Numbers, path: Path) -> None:
    """Estimated and realized share of right answers by week, with 95 % intervals.

    Args:
        weeks: The weeks.
        estimated: Estimate and both ends of its interval, [weeks, 3]; NaN if unknown.
        realized: The same of answers with actual values, [weeks, 3].
        path: File to write.
    """
    figure, axes = plt.subplots(figsize=(7, 2.8))
    for values, label, color, shift in (
        (estimated, "estimated before labels", GRAY, -0.06),
        (realized, "by actual values", BLUE, 0.06),
    ):
        if np.isnan(values).all():
            continue
        places = np.arange(len(weeks)) + shift
        lengths = np.abs(values[:, 1:] - values[:, :1]).T
        axes.errorbar(places, values[:, 0], lengths, fmt="o", color=color, capsize=3, label=label)
    _name_weeks(axes, weeks)
    axes.set(ylabel="right answers", title="Quality by week", xlim=(-0.5, len(weeks) - 0.5))
    axes.legend(fontsize=8)
    save(figure, path)


def _name_weeks(axes: Axes, weeks: Sequence[str], most: int = 4) -> None:
    """Writes the weeks below the axes, slanted if there are more than `most`."""
    is_slanted = len(weeks) > most
    axes.set_xticks(range(len(weeks)), list(weeks), rotation=45 * is_slanted, ha="right" if is_slanted else "center")
