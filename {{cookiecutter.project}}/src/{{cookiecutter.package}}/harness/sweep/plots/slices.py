"""Plot `slices`: each objective by each parameter."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, NamedTuple

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from ...evaluation.plots import BLUE, plain, save
from ..trials import in_states, metrics, varying
from . import style
from .scale import Scale

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

COLUMNS = 4  # maximum number of panels in a row


class _Trials(NamedTuple):
    """The trials to draw.

    Attributes:
        complete: The complete trials.
        pruned: The pruned trials that have a score.
        failed: The failed trials.
        last_scores: Pruned trial -> its score in the last epoch.
    """

    complete: Sequence["FrozenTrial"]
    pruned: Sequence["FrozenTrial"]
    failed: Sequence["FrozenTrial"]
    last_scores: Mapping[int, float]


def draw(study: "Study", path: Path) -> bool:
    """Draws a panel for each objective and parameter.

    Args:
        study: The search.
        path: The PNG file to write.

    Returns:
        False with fewer than two complete trials, or if no parameter varies.
    """
    complete, pruned, failed = (in_states(study, state) for state in ("COMPLETE", "PRUNED", "FAIL"))
    every = [*complete, *pruned, *failed]
    names, objectives = varying([trial.params for trial in every]), metrics(study)
    if len(complete) < 2 or not names:
        return False
    last_scores = style.last_scores(study, pruned)
    shown = _Trials(complete, [trial for trial in pruned if trial.number in last_scores], failed, last_scores)
    labels = style.labels(names)
    scales = {name: Scale.of_parameter(labels[name], name, every) for name in names}
    columns = min(len(names), COLUMNS)
    rows = math.ceil(len(names) / columns)
    figure = plt.figure(figsize=(1 + 2.7 * columns, 0.8 + 2.6 * rows * len(objectives)))
    for index, objective in enumerate(objectives):
        panels: list[Axes] = []
        for place in range(index * rows * columns, index * rows * columns + len(names)):
            first = panels[0] if panels else None
            panels.append(figure.add_subplot(rows * len(objectives), columns, place + 1, sharey=first))
        # A pruned trial has a score of the first objective only.
        _draw_objective(panels, index, shown if index == 0 else shown._replace(pruned=[]), scales)
        for axes in panels[::columns]:
            axes.set_ylabel(plain(objective))
    figure.suptitle("\n".join(wrap(_title(shown), 30 * columns)), fontsize=10)
    save(figure, path)
    return True


def _draw_objective(panels: Sequence[Axes], index: int, trials: _Trials, scales: Mapping[str, Scale]) -> None:
    """Draws the panels of one objective, which share their y axis.

    Args:
        panels: A panel for each parameter.
        index: Index of the objective.
        trials: The trials.
        scales: Parameter -> its scale.
    """
    for axes, (name, scale) in zip(panels, scales.items(), strict=True):
        _draw_panel(axes, index, trials, name, scale)
        scale.apply(axes)
    scores = [trial.values[index] for trial in trials.complete]
    style.log_if_wide(panels[0], "y", [*scores, *(trials.last_scores[trial.number] for trial in trials.pruned)])


def _draw_panel(axes: Axes, index: int, trials: _Trials, name: str, scale: Scale) -> None:
    complete, pruned, failed = (
        [trial for trial in group if name in trial.params] for group in (trials.complete, trials.pruned, trials.failed)
    )
    last_scores = [trials.last_scores[trial.number] for trial in pruned]
    axes.scatter([scale.x(trial, name) for trial in pruned], last_scores, **style.PRUNED)
    axes.scatter(
        [scale.x(trial, name) for trial in complete], [trial.values[index] for trial in complete],
        c=[trial.number for trial in complete], cmap=style.COLORS.reversed(), vmin=trials.complete[0].number,
        vmax=trials.complete[-1].number, s=20, zorder=3, edgecolors=BLUE, linewidths=0.4,
    )  # fmt: skip
    style.mark_failed(axes, [scale.x(trial, name) for trial in failed])


def _title(trials: _Trials) -> str:
    title = "Score by parameter: complete trials from the first (light) to the last (dark)"
    if trials.pruned:
        title += ", pruned (hollow)"
    if trials.failed:
        title += ", failed (x)"
    return title
