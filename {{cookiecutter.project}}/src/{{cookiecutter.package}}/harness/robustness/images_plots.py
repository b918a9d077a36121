"""Pictures before and after a change."""

from textwrap import fill

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from numpy.typing import NDArray

from ..core.paths import ROBUSTNESS
from ..evaluation import plots
from . import images_changes, report
from .contracts import Study

SHOWN = 6  # number of attacked pictures
LONGEST = 19  # characters of a line above a picture


def draw(study: Study, clean: NDArray[np.float32], seed: int) -> list[str]:
    """Draws attacked pictures and natural changes; gives lines of the model card.

    Args:
        study: All trials.
        clean: The unchanged pictures, [n, H, W, C], values from 0 to 255.
        seed: Seed of the natural changes.
    """
    ROBUSTNESS.mkdir(parents=True, exist_ok=True)
    lines = ["![natural changes](robustness/changes.png)"]
    natural(clean[:1], seed)
    strongest = report.strongest(study, study.middle)
    harmed = report.harmed(study, strongest)[:SHOWN]
    if len(harmed):
        pairs(study, clean, harmed)
        lines.insert(0, "![attacked pictures](robustness/pairs.png)")
    return lines


def pairs(study: Study, clean: NDArray[np.float32], places: NDArray[np.int64]) -> None:
    """Pictures before and after the strongest attack, and the change, as pairs.png.

    Args:
        study: All trials.
        clean: The unchanged pictures.
        places: Which of the pictures.
    """
    trial = report.strongest(study, study.middle)
    assert trial.values is not None
    figure, grid = plt.subplots(3, len(places), figsize=(max(5.0, 1.5 * len(places)), 5.6), squeeze=False)
    for column, place in zip(grid.T, places, strict=True):
        change = 127.5 + (trial.values[place] - clean[place]) * (127.5 / trial.strength)
        before, after = report.answers(study, trial, place)
        titles = (before, f"taken for {after}", "change")
        for axes, image, title in zip(column, (clean[place], trial.values[place], change), titles, strict=True):
            show(axes, image, title)
    shades = "change: black is -epsilon, white +epsilon"
    figure.suptitle(f"{trial.title}, epsilon {trial.strength:g} {study.unit}\n({shades})", fontsize=10)
    plots.save(figure, ROBUSTNESS / "pairs.png")


def natural(picture: NDArray[np.float32], seed: int) -> None:
    """One picture after every natural change, as changes.png.

    Args:
        picture: The picture, [1, H, W, C], values from 0 to 255.
        seed: Seed of the changes.
    """
    names = [*images_changes.CHANGES]
    figure, grid = plt.subplots(3, len(names), figsize=(1.35 * len(names), 5.2), squeeze=False)
    generator = np.random.default_rng(seed)
    for axes, (name, strength, changed) in zip(grid.T.flat, images_changes.changed(picture, generator), strict=True):
        show(axes, changed[0], f"{name.replace('_', ' ')}\n{strength:g}")
    figure.suptitle("A test picture after every natural change, the weakest above", fontsize=10)
    plots.save(figure, ROBUSTNESS / "changes.png")


def show(axes: Axes, image: NDArray[np.float32], title: str) -> None:
    """Shows a picture without axes.

    Args:
        axes: Where.
        image: The picture, [H, W, C], values from 0 to 255.
        title: Text above it.
    """
    axes.imshow(np.rint(image).astype(np.uint8).squeeze(), cmap="gray", vmin=0, vmax=255)
    lines = [fill(line, LONGEST) for line in title.splitlines()]
    axes.set_title(plots.plain("\n".join(lines)), fontsize=8)
    axes.axis("off")
