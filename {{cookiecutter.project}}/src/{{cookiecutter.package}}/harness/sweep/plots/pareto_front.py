"""Plot `pareto_front`: the trials of two objectives and their Pareto front."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import pyplot as plt

from ...evaluation.plots import BLUE, GRAY, plain, save
from .. import trials
from . import style

if TYPE_CHECKING:
    from optuna import Study


def draw(study: "Study", path: Path) -> bool:
    """Draws the second objective by the first.

    Args:
        study: The search.
        path: The PNG file to write.

    Returns:
        False if there are not two objectives, or no trial is complete.
    """
    complete, names = trials.in_states(study, "COMPLETE"), trials.metrics(study)
    if len(names) != 2 or not complete:
        return False
    front = trials.best(study)
    numbers = {trial.number for trial in front}
    others = np.array([trial.values for trial in complete if trial.number not in numbers])
    figure, axes = plt.subplots(figsize=(7, 4.5))
    if len(others):
        axes.scatter(
            others[:, 0], others[:, 1], color=style.PALE, edgecolors=GRAY, linewidths=0.5, s=24, label="dominated"
        )
    # Along the front, sorted by the first objective, the second improves. The steps run on their worse side: no trial
    # has reached a point between two trials of the front.
    points = np.array([trial.values for trial in front])
    axes.step(*points.T, where="post", color=BLUE, linewidth=1, zorder=2)
    axes.scatter(points[:, 0], points[:, 1], color=BLUE, s=34, zorder=3, label="Pareto front")
    for trial in front:
        axes.annotate(str(trial.number), trial.values, (4, 4), textcoords="offset points", fontsize=8)
    labels = [
        f"{plain(name)} ({'lower' if sign > 0 else 'higher'} is better)"
        for name, sign in zip(names, trials.signs(study), strict=True)
    ]
    axes.set(xlabel=labels[0], ylabel=labels[1])
    style.log_if_wide(axes, "x", [trial.values[0] for trial in complete])
    style.log_if_wide(axes, "y", [trial.values[1] for trial in complete])
    axes.set(title="Pareto front, with the trials' numbers")
    axes.legend(**style.LEGEND)
    save(figure, path)
    return True
