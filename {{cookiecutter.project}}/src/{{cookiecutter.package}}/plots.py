"""Pictures of an evaluation. The same numbers give the same bytes: nothing in them has a clock."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from numpy.typing import NDArray

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#2f6fb0", "#d9822b", "#8a8f98"  # told apart by colour-blind readers and in print
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "figure.dpi": 110, "font.size": 10})


def _save(figure: Figure, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)


def confusion_matrix(matrix: NDArray[np.int64], classes: Sequence[str], path: Path) -> None:
    """Draws counts by true class (row) and predicted class (column), shaded by the share of the row.

    Args:
        matrix: int [K, K].
        classes: Names of the K classes.
        path: The PNG file to write.
    """
    side = min(max(4.0, 0.5 * len(classes) + 1.5), 16.0)
    figure, axes = plt.subplots(figsize=(side, side))
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(classes) <= 25:
        for row, column in np.argwhere(matrix):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(matrix[row, column]), ha="center", va="center", color=colour)
    rotation = 90 if max(map(len, classes)) > 3 else 0
    axes.set_xticks(range(len(classes)), classes, rotation=rotation)
    axes.set_yticks(range(len(classes)), classes)
    axes.set(xlabel="predicted class", ylabel="true class", title=f"Confusion, {matrix.sum()} test examples")
    axes.spines[:].set_visible(False)
    _save(figure, path)


def learning_curves(history: pd.DataFrame, path: Path) -> None:
    """Draws loss and accuracy by epoch, for training and validation.

    Args:
        history: Columns epoch, loss, accuracy, val_loss, val_accuracy.
        path: The PNG file to write.
    """
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.6))
    for axes, metric in zip(panels, ("loss", "accuracy"), strict=True):
        axes.plot(history["epoch"], history[metric], color=GREY, label="training (with dropout)")
        axes.plot(history["epoch"], history[f"val_{metric}"], color=BLUE, label="validation")
        axes.set(xlabel="epoch", title=metric.capitalize())
        axes.xaxis.get_major_locator().set_params(integer=True)
    panels[0].set_yscale("log")
    panels[1].legend(frameon=False, loc="lower right")
    _save(figure, path)


def reliability(bins: dict[str, NDArray[np.float64]], ece: float, path: Path) -> None:
    """Draws accuracy against confidence, the number of examples below.

    Args:
        bins: Of `metrics.calibration`.
        ece: Expected calibration error.
        path: The PNG file to write.
    """
    figure, (upper, lower) = plt.subplots(2, 1, figsize=(4.6, 5.4), sharex=True, height_ratios=[3, 1])
    upper.plot([0, 1], [0, 1], color=GREY, linestyle="--", label="perfectly calibrated")
    upper.plot(bins["confidence"], bins["accuracy"], "o-", color=BLUE, label="model")
    upper.set(ylabel="accuracy", title=f"Reliability, ECE {ece:.3f}", xlim=(0, 1.02), ylim=(0, 1.02))
    upper.legend(frameon=False, loc="upper left")
    lower.bar(bins["confidence"], bins["count"], width=0.03, color=BLUE)
    lower.set(xlabel="confidence", ylabel="examples", yscale="log")
    _save(figure, path)


def mistakes(
    images: Sequence[NDArray[np.uint8]], titles: Sequence[str], total: int, path: Path, columns: int = 6
) -> None:
    """Draws misclassified pictures in a grid, the most confident first.

    Args:
        images: uint8 [H, W, C] each.
        titles: One for each image.
        total: Number of mistakes there are.
        path: The PNG file to write.
        columns: Pictures in a row, at most.
    """
    columns = max(2, min(columns, len(images)))
    rows = max(1, -(-len(images) // columns))
    figure, grid = plt.subplots(rows, columns, figsize=(1.7 * columns, 2.15 * rows + 0.5), squeeze=False)
    axes: Axes
    for axes in grid.flat:
        axes.axis("off")
    for axes, image, title in zip(grid.flat, images, titles, strict=False):
        axes.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=255)
        axes.set_title(title, fontsize=8)
    shown = f"{len(images)} most confident of {total} mistakes" if images else "No mistakes on the test split"
    figure.suptitle(shown)
    _save(figure, path)
