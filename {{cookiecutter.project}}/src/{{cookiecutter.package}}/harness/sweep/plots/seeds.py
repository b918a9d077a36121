"""Plot `seeds`: the best trials, repeated over seeds."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import pyplot as plt

from ...evaluation.plots import BLUE, ORANGE, plain, save
from ..trials import Ranked, in_states, metrics, rank
from . import style

if TYPE_CHECKING:
    from optuna import Study


def draw(study: "Study", repeats: "Study", path: Path) -> bool:
    """Draws scores over seeds, their mean with interval, and search scores.

    Args:
        study: The search.
        repeats: The study of the repetitions of its best trials.
        path: The PNG file to write.

    Returns:
        False if no repetition has a score.
    """
    ranked = [entry for entry in rank(study, repeats) if entry.scores]
    if not ranked:
        return False
    figure, axes = plt.subplots(figsize=(7, 1.6 + 0.45 * len(ranked)))
    scores = [score for entry in ranked for score in entry.scores]
    heights = [height for row, entry in enumerate(ranked) for height in _heights(row, entry)]
    axes.plot(scores, heights, "o", color=style.PALE, markeredgecolor=BLUE, markersize=5, label="a seed")
    rows = np.arange(len(ranked))
    low, high = [entry.low for entry in ranked], [entry.high for entry in ranked]
    axes.hlines(rows, low, high, BLUE, label="95 % interval of the mean")
    means = [entry.mean for entry in ranked]
    axes.plot(means, rows, "|", color=BLUE, markersize=16, markeredgewidth=2.5, label="mean")
    searched = {trial.number: trial.values[0] for trial in in_states(study, "COMPLETE")}
    in_search = [searched.get(entry.number, math.nan) for entry in ranked]
    axes.plot(in_search, rows, "D", color=ORANGE, markersize=5, label="in the search")
    axes.set_yticks(rows, [_label(entry) for entry in ranked])
    axes.invert_yaxis()
    axes.set(xlabel=plain(metrics(repeats)[0]), title="The best trials, repeated over seeds")
    axes.legend(**style.LEGEND)
    save(figure, path)
    return True


def _heights(row: int, entry: Ranked) -> list[float]:
    """A height for each score of a row, which separates equal scores."""
    return [row + 0.18 * float(offset) for offset in np.linspace(-1, 1, len(entry.scores) + 2)[1:-1]]


def _label(entry: Ranked) -> str:
    return f"trial {entry.number}" + (f"\n({entry.failed} failed)" if entry.failed else "")
