"""Slices in the model card: tables and a plot."""

import itertools
from pathlib import Path
from textwrap import fill, shorten

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from ..core.text import escaped, number, table
from .metrics import interval
from .plots import BLUE, GRAY, ORANGE, plain, save
from .slices import FEW, MOST, Slice, Slices, differences

SLICES = 60  # maximum number in a plot
LONGEST = 40  # characters of a name in a plot


def section(slices: Slices, folder: Path) -> list[str]:
    """Paragraphs of the model card, and their plot; none without slices.

    Args:
        slices: The evaluated slices.
        folder: Folder of the plots.
    """
    if not slices.columns:
        return []
    draw(slices, folder / "slices.png")
    titles = [slices.metrics[name].title for name in slices.shown]
    rows = [
        (each.label, each.examples, *(_cell(each, name) for name in slices.shown))
        for each in [slices.whole, *itertools.chain(*slices.columns.values())]
    ]
    largest = [
        (column, slices.metrics[name].title, each.highest, each.lowest, number(each.value, 3))
        for column, found in slices.columns.items()
        for name, each in differences(found).items()
        if name in slices.shown
    ]
    compared = table(("column", "metric", "highest", "lowest", "difference"), largest, 4)
    return [
        "## Slices",
        " ".join(_explanations(slices)),
        "\n".join(table(("slice", "examples", *titles), rows)),
        *(["The largest differences between slices of a column:", "\n".join(compared)] if largest else []),
        f"![slices]({folder.name}/slices.png)",
    ]


def _cell(part: Slice, metric: str) -> str:
    found = interval(part.estimates.get(metric))
    return f"{found} *" if metric in part.rare and metric in part.estimates else found


def _explanations(slices: Slices) -> list[str]:
    parts = itertools.chain(*slices.columns.values())
    names = ", ".join(map(escaped, slices.columns))
    found = [f"The test examples by {names}: evaluated apart for each value, or between quartiles."]
    if any(each.uncertain(name) for each in parts for name in slices.shown):
        found.append(f"* marks what is measured on fewer than {FEW} examples: it says little, and is not compared.")
    for column, count in slices.left_out.items():
        found.append(f"Of {escaped(column)}, the {MOST} largest slices are shown, {count} smaller ones are not.")
    found.append("Of many slices some differ by chance: look at the intervals before the differences.")
    return found


def _name(column: str, part: Slice) -> str:
    """Name of a slice beside the plot: if it is too long, the column is cut, so that slices can be told apart."""
    value = shorten(part.label.removeprefix(column), LONGEST)
    room = LONGEST - len(value)
    cut = column if len(column) <= room else f"{column[: max(6, room - 3)].rstrip()}..."
    return f"{cut} {value}  ({part.examples:,})"


def draw(found: Slices, path: Path) -> None:
    """Metrics of slices: a dot with its interval for each, and the value of all examples as a line.

    Args:
        found: The slices; the plot shows the first `SLICES` of them.
        path: PNG file to write.
    """
    groups = {name: column for name, column in found.columns.items() if column}
    rows = [each for column in groups.values() for each in column][:SLICES]
    gaps = np.repeat(np.arange(len(groups)), [len(column) for column in groups.values()])[: len(rows)]
    places = np.arange(len(rows)) + 0.6 * gaps  # apart from the slices of another column
    names = [plain(_name(column, each)) for column in groups for each in groups[column]][:SLICES]
    width, height = 3.2 + 2.1 * len(found.shown), 1.6 + 0.27 * float(places[-1] + 1)
    figure, panels = plt.subplots(1, len(found.shown), figsize=(width, height), sharey=True, squeeze=False)
    axes: Axes
    for axes, name in zip(panels[0], found.shown, strict=True):
        axes.axvline(found.whole.estimates[name].value, color=GRAY, linestyle="--")
        for place, each in zip(places, rows, strict=True):
            if estimate := each.estimates.get(name):
                color = ORANGE if each.uncertain(name) else BLUE
                axes.plot(np.array(estimate[1:], np.float64), [place, place], color=color, linewidth=1.5)
                inside = "white" if each.uncertain(name) else color
                axes.plot(estimate.value, place, marker="o", color=color, markerfacecolor=inside)
        axes.set_title(plain(fill(found.metrics[name].title, 20)), fontsize=10)
        axes.set(ylim=(places[-1] + 0.7, -0.7))
        axes.locator_params(axis="x", nbins=4)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", color="#e8eaed", linewidth=0.8)
        axes.set_axisbelow(True)
    panels[0][0].set_yticks(places, names)
    hollow = any(each.uncertain(name) for each in rows for name in found.shown)
    few = f"; hollow: of fewer than {FEW} examples" if hollow else ""
    figure.suptitle(f"Slices of the test split, with intervals (dashed: all test examples{few})", fontsize=10)
    save(figure, path)
