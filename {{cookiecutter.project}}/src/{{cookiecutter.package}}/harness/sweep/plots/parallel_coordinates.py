"""Plot `parallel_coordinates`: a line for each complete trial, from axis to axis."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from numpy.typing import NDArray

from ...evaluation.plots import GRAY, plain, save, wide
from ..trials import in_states, metrics, signs, varying
from . import style
from .scale import Scale

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

ABSENT = -0.12  # height at which the line of a trial passes a parameter that it does not have


def draw(study: "Study", path: Path) -> bool:
    """Draws the complete trials.

    Args:
        study: The search.
        path: The PNG file to write.

    Returns:
        False with fewer than two complete trials, or if they do not differ.
    """
    complete = in_states(study, "COMPLETE")
    names = varying([trial.params for trial in complete])
    if len(complete) < 2 or not names:
        return False
    order, ranks = _ranks(study, complete)
    labels = style.labels(names)
    scales = [Scale.of_parameter(labels[name], name, complete) for name in names]
    columns = [_heights(scale, name, complete, ranks) for scale, name in zip(scales, names, strict=True)]
    for index, name in enumerate(metrics(study)):
        scores = [trial.values[index] for trial in complete]
        scales.append(Scale(plain(name), wide(scores), (), min(scores), max(scores)))
        columns.append([scales[-1].fraction(score) for score in scores])
    figure, axes = plt.subplots(figsize=(max(6, 1.5 * len(scales)), 5))
    for index in order[::-1]:
        axes.plot([column[index] for column in columns], color=style.COLORS(ranks[index]), linewidth=1, alpha=0.85)
    _draw_scales(axes, scales)
    if any(name not in trial.params for name in names for trial in complete):
        axes.text(-0.08, ABSENT, "not set", ha="right", va="center", fontsize=8, color=GRAY)
    axes.set(title=f"The {len(complete)} complete trials, from the best (dark) to the worst (light)")
    save(figure, path)
    return True


def _ranks(study: "Study", complete: Sequence["FrozenTrial"]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The order of the trials by their first objective, and their ranks.

    Ranks run from 0 (best) to 1 and decide the color: by score, one diverged trial would give all others one color.
    """
    losses = signs(study)[0] * np.array([trial.values[0] for trial in complete])
    order = np.argsort(losses, kind="stable")
    ranks = np.empty(len(complete))
    ranks[order] = np.linspace(0, 1, len(complete))
    return order, ranks


def _heights(scale: Scale, name: str, trials: Sequence["FrozenTrial"], ranks: NDArray[np.float64]) -> list[float]:
    """The position of each trial on the axis of a parameter.

    Among trials with the same choice, better ones are higher.
    """
    heights = []
    for trial, rank in zip(trials, ranks, strict=True):
        offset = (0.5 - float(rank)) * min(0.12, 0.6 / max(1, len(scale.choices)))
        if name not in trial.params:
            heights.append(ABSENT + offset / 2)
        else:
            heights.append(scale.fraction(trial.params[name]) + (offset if scale.choices else 0.0))
    return heights


def _draw_scales(axes: Axes, scales: Sequence[Scale]) -> None:
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.6}
    for x, scale in enumerate(scales):
        axes.vlines(x, -0.07, 1.07, color="black", linewidth=0.8)
        for value in scale.ticks():
            axes.annotate(
                style.brief(value), (x, scale.fraction(value)), (4, 0), textcoords="offset points", fontsize=7.5,
                va="center", bbox=box, zorder=4,
            )  # fmt: skip
    axes.set_xticks(range(len(scales)), [scale.label for scale in scales], rotation=20, ha="right", fontsize=8.5)
    axes.set_yticks([])
    axes.spines[["left", "bottom"]].set_visible(False)
