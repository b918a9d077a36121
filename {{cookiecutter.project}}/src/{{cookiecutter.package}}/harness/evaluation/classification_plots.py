"""Plots of a classifier: confusion matrix and reliability diagram."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from numpy.typing import NDArray

from .plots import BLUE, GRAY, plain, save


def confusion_matrix(matrix: NDArray[np.int64], classes: Sequence[str], path: Path) -> None:
    """Confusion matrix: counts, shaded by their fraction of the row.

    Args:
        matrix: Number of examples by true class (row) and predicted class (column), int64 [K, K].
        classes: Names of the K classes.
        path: PNG file to write.
    """
    names, side = [plain(name) for name in classes], min(max(4.0, 0.5 * len(classes) + 1.5), 16.0)
    longest = 0.09 * max(map(len, names))  # inches
    room = max(0.0, longest - 1.1)  # for names that would leave too little of the figure for matrix and title
    figure, axes = plt.subplots(figsize=(side + room, side + room))
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(classes) <= 25:
        for row, column in np.argwhere(matrix if len(classes) > 5 else matrix >= 0):
            color = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(matrix[row, column]), ha="center", va="center", color=color)
    vertical = longest > 0.7 * side / len(names)  # width of a column
    axes.set_xticks(range(len(names)), names, rotation=90 if vertical else 0)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="predicted class", ylabel="true class", title=f"Confusion, {matrix.sum()} test examples")
    axes.spines[:].set_visible(False)
    save(figure, path)


def reliability(bins: dict[str, NDArray[np.float64]], ece: float, path: Path) -> None:
    """Reliability diagram: accuracy against confidence, above a histogram.

    Args:
        bins: Result of `classification.reliability`.
        ece: Expected calibration error.
        path: PNG file to write.
    """
    figure, (upper, lower) = plt.subplots(2, 1, figsize=(4.6, 5.4), sharex=True, height_ratios=[3, 1])
    upper.plot([0, 1], [0, 1], color=GRAY, linestyle="--", label="perfectly calibrated")
    upper.plot(bins["confidence"], bins["accuracy"], "o-", color=BLUE, label="model")
    upper.set(ylabel="accuracy", title=f"Reliability, ECE {ece:.3f}", xlim=(0, 1.02), ylim=(0, 1.02))
    upper.legend()
    lower.bar(bins["confidence"], bins["count"], width=0.03, color=BLUE)
    lower.set(xlabel="confidence", ylabel="examples", yscale="log")
    save(figure, path)
