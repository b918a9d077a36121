"""Plots of explained tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import dates
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from numpy.typing import NDArray

from ..evaluation.metrics import evenly_spaced
from ..evaluation.plots import BLUE, GRAY, ORANGE, plain, save
from .contracts import Explanation
from .table_partial import levels

BARS, ROWS, STEPS = 15, 10, 8  # most columns in a plot: bars, rows of dots, steps of an answer
CURVES = 30  # most rows in a partial dependence
LONGEST = 34  # characters of a label
Column = tuple[str, str, NDArray[Any], NDArray[np.float64]]  # name, type, values [N], effects [N]
Cell = tuple[str, str]  # name and value
Curves = tuple[str, str, NDArray[Any], NDArray[np.float64]]  # name, type, values [G], answers [G, W, N]
Groups = Mapping[str, int]  # name of a class that is told apart -> its output; {} if one output is explained
STYLES = ((BLUE, "o"), (ORANGE, "^"), ("#5b3a8c", "s"), ("black", "D"))  # of the classes


def label(text: str, longest: int = LONGEST) -> str:
    """A label that fits."""
    return plain(text if len(text) <= longest else f"{text[: longest - 3].rstrip()}...")


def step(name: str, value: str) -> str:
    """Label of a column and its value, of which a long name is cut."""
    value = label(value, LONGEST // 2)
    return f"{label(name, LONGEST - 3 - len(value))} = {value}"


def importance(names: Sequence[str], mean: NDArray[np.float64], unit: str, path: Path) -> None:
    """Mean size of each column's effect, the largest first.

    Args:
        names: Names of the columns, the strongest first.
        mean: Mean |effect| of each, float64 [P].
        unit: Unit of the effects.
        path: PNG file to write.
    """
    shown, sizes = [label(name) for name in names[:BARS]], mean[:BARS].tolist()
    if len(names) > BARS:
        shown.append(f"sum of {len(names) - BARS} others")
        sizes.append(float(mean[BARS:].sum()))
    figure, axes = plt.subplots(figsize=(7, 1.1 + 0.3 * len(shown)))
    places = range(len(shown))[::-1]
    axes.barh(places, sizes, color=[GRAY if place == 0 and len(names) > BARS else BLUE for place in places])
    axes.set_yticks(places, shown)
    axes.set(xlabel=f"mean size of the effect ({plain(unit)})", title="How much each column moves the answer")
    save(figure, path)


def effects(columns: Sequence[Column], unit: str, path: Path) -> None:
    """A dot for each row and column: the effect, colored by the value.

    Args:
        columns: The columns, the strongest first.
        unit: Unit of the effects.
        path: PNG file to write.
    """
    columns = columns[:ROWS]
    figure, axes = plt.subplots(figsize=(8, max(3.6, 1.4 + 0.45 * len(columns))))  # 3.6: the label of the scale
    widest = max(float(np.abs(effects).max()) for *_, effects in columns) or 1.0
    for place, (_, kind, values, found) in zip(range(len(columns))[::-1], columns, strict=True):
        heights = place + swarm(np.round(found / widest * 40))
        known = np.zeros(len(found), np.bool_) if kind == "category" else ~np.isnan(values.astype(np.float64))
        axes.scatter(found[~known], heights[~known], s=12, color=GRAY, linewidths=0)
        axes.scatter(
            found[known], heights[known], s=12, c=shades(values[known]), cmap="plasma", vmin=0, vmax=1.1, linewidths=0
        )
    axes.axvline(0, color=GRAY, linewidth=0.8)
    axes.set_yticks(range(len(columns))[::-1], [label(name) for name, *_ in columns])
    axes.set(xlabel=f"effect on the answer ({plain(unit)})", title="Effect of each column on each test row")
    axes.set_ylim(-0.6, len(columns) - 0.4)
    bar = figure.colorbar(plt.cm.ScalarMappable(Normalize(0, 1.1), "plasma"), ax=axes, aspect=30, pad=0.02)
    bar.set_ticks([0, 1], labels=["low", "high"])
    bar.set_label("value (gray: category, missing)")
    bar.ax.set_ylim(0, 1)
    save(figure, path)


def shades(values: NDArray[Any]) -> NDArray[np.float64]:
    """Places of values among all, from 0 to 1; equal values have the same, in the middle of theirs."""
    ordered = np.sort(values)
    before, after = np.searchsorted(ordered, values), np.searchsorted(ordered, values, "right")
    return np.asarray((before + after - 1) / 2 / max(1, len(values) - 1))


def swarm(bins: NDArray[np.float64]) -> NDArray[np.float64]:
    """Heights, from -0.4 to 0.4, at which dots of the same bin do not hide each other."""
    heights, most = np.zeros(len(bins)), 1
    for value in np.unique(bins):
        rows = np.flatnonzero(bins == value)
        heights[rows] = (np.arange(len(rows)) + 1) // 2 * np.where(np.arange(len(rows)) % 2, 1, -1)
        most = max(most, len(rows))
    return heights * min(0.08, 0.8 / most)


def panels(count: int, title: str) -> tuple[Any, list[Axes]]:
    """A figure with two panels in a row."""
    rows = math.ceil(count / 2)
    figure, grid = plt.subplots(rows, 2, figsize=(9, 0.5 + 3 * rows), squeeze=False, sharey=True)
    for axes in grid.flat[count:]:
        axes.axis("off")
    figure.suptitle(title)
    return figure, list(grid.flat[:count])


def axis(axes: Axes, name: str, kind: str, chosen: Iterable[Any] = ()) -> None:
    """Labels the axis of a column's values."""
    axes.set_xlabel(label(name))
    if kind == "number":
        axes.locator_params("x", nbins=6)  # labels that do not overlap
    if kind == "date":
        locator = dates.AutoDateLocator(maxticks=6)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
    if kind == "category":
        names = [label(level or "missing", 14) for level in chosen]
        axes.set_xticks(range(len(names)), names, rotation=30 if sum(map(len, names)) > 40 else 0)


def days(values: NDArray[np.float64]) -> NDArray[np.datetime64]:
    """Dates of days since 1970."""
    return np.datetime64("1970-01-01", "s") + (values * 86_400).round().astype("timedelta64[s]")


def marks(outputs: NDArray[np.int64], groups: Groups) -> list[tuple[str, str, str, NDArray[np.bool_]]]:
    """Name, color, marker and rows of each class that is told apart, and of the others; of one output, all in blue.

    Args:
        outputs: Index of the explained output of each row, [N].
        groups: The classes.
    """
    if not groups:
        return [("", BLUE, "o", np.ones(len(outputs), np.bool_))]
    found = [
        (label(name, 20), *style, outputs == output)
        for (name, output), style in zip(groups.items(), STYLES, strict=False)
    ]
    others = ~np.isin(outputs, [*groups.values()])
    return [*found, ("others", GRAY, ".", others)] if others.any() else found


def dependence(columns: Sequence[Column], outputs: NDArray[np.int64], groups: Groups, unit: str, path: Path) -> None:
    """Effect of a column by its value, for the strongest columns.

    Args:
        columns: The columns.
        outputs: Index of the explained output of each row, [N].
        groups: The classes.
        unit: Unit of the effects.
        path: PNG file to write.
    """
    figure, grid = panels(len(columns), f"Effect on the answer by the column's value ({plain(unit)})")
    for axes, (name, kind, values, found) in zip(grid, columns, strict=True):
        axes.axhline(0, color=GRAY, linewidth=0.8)
        chosen: NDArray[Any] = np.array([])
        if kind == "category":
            chosen, places = levels(values)
            known = places >= 0
            # Dots of one level and nearly one effect are beside each other.
            shown: Any = places + swarm(places * 1000 + np.round(found / (float(np.abs(found).max()) or 1.0) * 40))
        else:
            known = ~np.isnan(values)
            shown = days(np.where(known, values, 0)) if kind == "date" else values
        for title, color, marker, rows in marks(outputs, groups):
            rows = rows & known
            style: dict[str, Any] = {
                "s": 14,
                "color": color,
                "marker": marker,
                "alpha": 0.6,
                "linewidths": 0,
                "label": title,
            }
            axes.scatter(shown[rows], found[rows], **style)
        axis(axes, name, kind, chosen)
        axes.set_ylabel("effect")
    if groups:
        grid[0].legend(fontsize=8)
    save(figure, path)


def partial_dependence(columns: Sequence[Curves], groups: Groups, unit: str, path: Path) -> None:
    """Answers if one column had another value: each row's and their mean, or the means of several classes.

    Args:
        columns: The columns, with the answers for each of the classes.
        groups: The classes.
        unit: Unit of the answers.
        path: PNG file to write.
    """
    what = "Mean answer" if groups else "Answer"
    unit = "log-odds" if groups else plain(unit)
    figure, grid = panels(len(columns), f"{what} if one column had another value ({unit})")
    for axes, (name, kind, values, answers) in zip(grid, columns, strict=True):
        places: Any = np.arange(len(values)) if kind == "category" else values
        places = days(values) if kind == "date" else places
        line = "" if kind == "category" else "-"
        single = kind == "category" or len(values) == 1  # points: a line needs two
        for place, (group, (color, marker)) in enumerate(zip(groups, STYLES, strict=False)):
            mean, title = answers[:, place].mean(axis=1), label(group, 20)
            axes.plot(places, mean, color=color, marker=marker, markersize=4, linestyle=line, label=title)
        if not groups:
            own = answers[:, 0]
            axes.plot(places, own[:, evenly_spaced(own.shape[1], CURVES)], color=GRAY, alpha=0.35, linewidth=0.8)
            axes.plot(places, own.mean(axis=1), color=BLUE, marker="o" if single else "", linestyle=line, linewidth=2.5)
        axis(axes, name, kind, values)
        axes.set_ylabel("answer")
    if groups:
        grid[0].legend(fontsize=8)
    save(figure, path)


def waterfalls(shown: Sequence[Explanation], labels: Sequence[Sequence[Cell]], unit: str, path: Path) -> None:
    """From the mean answer to the answer for a row, step by step.

    Args:
        shown: The explanations.
        labels: For each, column and value of its P columns.
        unit: Unit of the answers.
        path: PNG file to write.
    """
    rows = math.ceil(len(shown) / 2)
    figure, grid = plt.subplots(rows, 2, figsize=(12, 0.4 + 3.4 * rows), squeeze=False)
    for axes in grid.flat[len(shown) :]:
        axes.axis("off")
    for axes, explanation, cells in zip(grid.flat, shown, labels, strict=False):
        waterfall(axes, explanation, cells)
        axes.set_xlabel(plain(unit))
    save(figure, path)


def waterfall(axes: Axes, explanation: Explanation, cells: Sequence[Cell]) -> None:
    """One panel of `waterfalls`."""
    order = np.argsort(-np.abs(explanation.shap), kind="stable")
    steps = [(step(*cells[k]), explanation.shap[k], explanation.lime[k]) for k in order[:STEPS]]
    if len(rest := order[STEPS:]):
        steps.append((f"{len(rest)} other columns", explanation.shap[rest].sum(), explanation.lime[rest].sum()))
    effects, weights = (np.array(column) for column in list(zip(*steps[::-1], strict=True))[1:])
    ends = explanation.base + effects.cumsum()
    starts, places = ends - effects, np.arange(len(steps))
    axes.barh(places, effects, left=starts, color=[BLUE if effect > 0 else ORANGE for effect in effects], height=0.7)
    axes.plot(starts + weights, places, marker="D", color="black", markersize=4, linestyle="")
    axes.vlines(ends[:-1], places[:-1] - 0.35, places[:-1] + 1.35, color=GRAY, linewidth=0.8)
    reached = np.concatenate([[explanation.base], ends, starts + weights])
    margin = 0.05 * np.ptp(reached) or 1.0
    axes.set_xlim(reached.min() - margin, reached.max() + margin)
    axes.axvline(explanation.base, color=GRAY, linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(steps)), [name for name, *_ in steps[::-1]], fontsize=8)
    numbers = f"mean {explanation.base:.3g}, here {explanation.answer:.3g}; LIME's fit R² {explanation.fit:.2f}"
    axes.set_title(f"{plain(explanation.caption)}\n{numbers}", fontsize=9)
