"""Explanations of pictures: the parts are cells of a grid."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from ..evaluation.images import mean_picture
from ..exported import images_grid
from ..prepared.images import load
from .contracts import Answers, Examples, Explanation, Results
from .report import picture

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from ..contracts import Description, Manifest
    from ..exported.inference import Feed, Predict

BATCH = 2**22  # values that the model is given at a time


def grid(manifest: Manifest) -> NDArray[np.int64]:
    """Cell of each pixel, int64 [H, W]."""
    return images_grid.cells(manifest["shape"])


def parts(manifest: Manifest) -> int:
    """Number of cells."""
    return int(grid(manifest).max()) + 1


def questions(manifest: Manifest) -> int:
    """None."""
    return 0


def teller(predict: Predict, answers: Answers, description: Description) -> Callable[[Explanation], Explanation]:
    """Words say less than a picture: the explanation as it is."""
    return lambda explanation: explanation


def background(manifest: Manifest, most: int) -> int:
    """One: a cell is replaced by that of the mean picture."""
    return 1


def examples(manifest: Manifest, background: int) -> Examples:
    """The test pictures, divided into cells.

    Args:
        manifest: Manifest of the prepared data.
        background: 1.
    """
    pictures, mean, cells = load("test"), mean_picture().astype(np.float32), grid(manifest)
    step = max(1, BATCH // mean.size)

    def masked(row: int, masks: NDArray[np.bool_]) -> Iterator[Feed]:
        own = pictures[row].astype(np.float32)
        for start in range(0, len(masks), step):
            yield {"image": np.where(masks[start : start + step][:, cells][..., None], own, mean)}

    names = [images_grid.name(cell, manifest["shape"]) for cell in range(parts(manifest))]
    return Examples(names, masked, lambda row: np.ascontiguousarray(pictures[row]).tobytes())


def present(results: Results, predict: Predict, answers: Answers, manifest: Manifest, folder: Path) -> list[str]:
    """Draws the results; paragraphs of the model card.

    Args:
        results: What was found.
        predict: The exported model.
        answers: The explained answers.
        manifest: Manifest of the prepared data.
        folder: Folder of the pictures.
    """
    from . import images_plots

    pictures, cells = load("test"), grid(manifest)
    mean = np.abs([explanation.shap for explanation in results.explanations]).mean(axis=0)
    images_plots.importance(mean_picture(), mean[cells], results.unit, folder / "importance.png")
    for name, shown in (("worst", results.worst), ("typical", results.typical)):
        images_plots.heat_maps(
            [pictures[explanation.row] for explanation in shown], shown, cells, folder / f"{name}.png"
        )
    return [
        "### Where the model looks",
        picture("importance", folder / "importance.png"),
        "### The worst answers",
        "Below each picture, red cells raise the answer above that for the mean picture, blue cells lower it. SHAP "
        "replaces cells in many combinations, occlusion one cell at a time, LIME fits a linear model to random "
        "combinations (R² says how well: 1 is perfectly). What only one of them shows is doubtful.",
        picture("the worst answers", folder / "worst.png"),
        "### Typical answers",
        picture("typical answers", folder / "typical.png"),
    ]
