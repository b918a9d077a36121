"""Plots for all targets; `<target>_plots.py` has those of one target.

Equal data give equal bytes, because no plot contains a timestamp.
"""

import math
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

matplotlib.rcdefaults()  # a person's matplotlibrc would change the bytes of the plots
matplotlib.use("Agg")
BLUE, ORANGE, GRAY = "#2f6fb0", "#d9822b", "#8a8f98"  # distinct for color-blind readers and in print
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "figure.dpi": 110, "font.size": 10})
plt.rcParams.update({"legend.edgecolor": "none", "legend.framealpha": 0.85})


def save(figure: Figure, path: Path) -> None:
    """Writes and closes a figure."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always", "Glyph")
        figure.tight_layout()
        figure.savefig(path, metadata={"Software": None})
    if any("Glyph" in str(warning.message) for warning in caught):
        print(f"{path} shows boxes for characters that matplotlib's font lacks", file=sys.stderr)
    plt.close(figure)


def plain(name: str) -> str:
    """A name escaped for matplotlib, so that `$x$` is not a formula."""
    return name.replace("$", r"\$")


def wide(values: Sequence[float] | NDArray[np.float64]) -> bool:
    """Whether values span more than a factor of ten.

    Args:
        values: Finite numbers, [N].
    """
    return bool(0 < 10 * min(values) < max(values))


def write_csv(columns: Mapping[str, NDArray[np.generic]], path: Path) -> None:
    """Writes the data of a DVC plot."""
    pd.DataFrame(columns).to_csv(path, index=False, float_format="%.6g", lineterminator="\n")


def learning_curves(history: pd.DataFrame, metric: str, path: Path, step: str = "epoch") -> None:
    """Learning curves: loss and metric by step, for training and validation.

    Args:
        history: Columns epoch, loss, val_loss, <metric> and val_<metric>.
        metric: Name of the metric.
        path: PNG file to write.
        step: Name of a step of the training: a row of the history.
    """
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.6))
    single = len(history) == 1  # a line needs two points
    marker = "o" if single else ""
    for axes, name in zip(panels, ("loss", metric), strict=True):
        axes.plot(history["epoch"], history[name], marker=marker, color=GRAY, label="training (while it learns)")
        axes.plot(history["epoch"], history[f"val_{name}"], marker=marker, color=BLUE, label="validation")
        axes.set(xlabel=step, title=name.upper() if len(name) == 3 else name.capitalize())
        if single:
            axes.set_xticks(history["epoch"])
        else:
            axes.xaxis.get_major_locator().set_params(integer=True)
    losses = history[["loss", "val_loss"]].to_numpy()
    if wide(losses.ravel()):
        panels[0].set_yscale("log")
    panels[1].legend()
    save(figure, path)


def gallery(images: Sequence[NDArray[Any]], titles: Sequence[str], total: int, path: Path, columns: int = 6) -> None:
    """Grid of the images with the largest errors.

    Args:
        images: Images, each [H, W, C], values from 0 to 255.
        titles: Title of each image.
        total: Number of images from which the worst were chosen.
        path: PNG file to write.
        columns: Maximum number of images in a row.
    """
    columns = max(2, min(columns, len(images)))
    rows = max(1, math.ceil(len(images) / columns))
    figure, grid = plt.subplots(rows, columns, figsize=(1.7 * columns, 2.15 * rows + 0.5), squeeze=False)
    axes: Axes
    for axes in grid.flat:
        axes.axis("off")
    for axes, image, title in zip(grid.flat, images, titles, strict=False):
        axes.imshow(image.astype(np.uint8).squeeze(), cmap="gray", vmin=0, vmax=255)
        axes.set_title(plain(fill(title, 18)), fontsize=8)
    figure.suptitle(f"The worst {len(images)} of {total}" if images else "No mistakes on the test split")
    save(figure, path)
