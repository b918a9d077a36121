"""Plots of explained pictures."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from numpy.typing import NDArray

from ..evaluation.plots import plain, save
from .contracts import Explanation


def importance(mean: NDArray[np.uint8], sizes: NDArray[np.float64], unit: str, path: Path) -> None:
    """The mean picture, and beside it how much each cell moves the answer.

    Args:
        mean: Mean of the training pictures, [H, W, C].
        sizes: Mean |effect| of each pixel's cell, float64 [H, W].
        unit: Unit of the effects.
        path: PNG file to write.
    """
    figure, (left, right, scale) = plt.subplots(1, 3, figsize=(8, 3.6), width_ratios=[1, 1, 0.05])
    left.imshow(mean.squeeze(), cmap="gray", vmin=0, vmax=255)
    left.set_title("Mean training picture")
    drawn = right.imshow(sizes, cmap="viridis", vmin=0)
    right.set_title("Where the answers come from")
    for axes in (left, right):
        axes.axis("off")
    figure.colorbar(drawn, cax=scale, label=f"mean size of the effect\n({plain(unit)})")
    save(figure, path)


def heat_maps(
    pictures: Sequence[NDArray[Any]], shown: Sequence[Explanation], cells: NDArray[np.int64], path: Path
) -> None:
    """Pictures side by side, and below each what its cells add to the answer, by three methods.

    Args:
        pictures: The pictures, each [H, W, C], values from 0 to 255.
        shown: Their explanations.
        cells: Cell of each pixel, int64 [H, W].
        path: PNG file to write.
    """
    height, width = cells.shape
    gap = max(1, width // 8)
    size = (max(4.4, 1.0 + 1.7 * len(shown)), 2.0 + 6.8 * height / width)  # the labels of the scale need 4.4
    figure, (*lines, scale) = plt.subplots(5, 1, figsize=size, height_ratios=[1, 1, 1, 1, 0.06])
    methods = [("SHAP", "shap"), ("occlusion", "occlusion"), ("LIME", "lime")]
    grays = mosaic([picture.astype(np.float64).mean(axis=-1) for picture in pictures], gap, 255)
    for axes, (name, key) in zip(lines, [("picture", ""), *methods], strict=True):
        axes.imshow(grays, cmap="gray", vmin=-600 if key else 0, vmax=255)  # pale below a map
        axes.set_ylabel(name)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
        if key:
            found = [getattr(explanation, key) for explanation in shown]
            maps = [values[cells] / (np.abs(values).max() or 1) for values in found]
            drawn = axes.imshow(mosaic(maps, gap, np.nan), cmap="RdBu_r", vmin=-1, vmax=1, alpha=0.75)
    for place, (picture, explanation) in enumerate(zip(pictures, shown, strict=True)):
        left = place * (width + gap)
        if picture.shape[-1] == 3:
            edges = (left - 0.5, left + width - 0.5, height - 0.5, -0.5)
            lines[0].imshow(np.clip(picture, 0, 255).astype(np.uint8), extent=edges)
        middle = left + (width - 1) / 2
        lines[0].text(middle, -0.6 - height / 30, plain(fill(explanation.caption, 16)), ha="center", fontsize=8)
        lines[3].text(middle, height + height / 20, f"fit R² {explanation.fit:.2f}", ha="center", va="top", fontsize=8)
    for axes in lines:
        axes.set_xlim(-0.5, len(shown) * (width + gap) - gap - 0.5)
        axes.set_ylim(height - 0.5, -0.5)
    bar = figure.colorbar(drawn, cax=scale, orientation="horizontal")
    bar.set_ticks([-1, 0, 1], labels=["lowers the answer", "0", "raises the answer"])
    save(figure, path)


def mosaic(maps: Sequence[NDArray[np.float64]], gap: int, fill: float) -> NDArray[np.float64]:
    """Maps of one size side by side, with a gap between them."""
    between = np.full((len(maps[0]), gap), fill)
    return np.concatenate([part for one in maps for part in (one, between)], axis=1)[:, :-gap]
