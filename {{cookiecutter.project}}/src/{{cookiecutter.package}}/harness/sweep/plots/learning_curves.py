"""Plot `learning_curves`: an objective of all trials, by epoch."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib import pyplot as plt

from ...evaluation.plots import BLUE, GRAY, ORANGE, plain, save
from .. import trials
from ..trials import FINISHED, STATES
from . import style

if TYPE_CHECKING:
    from optuna import Study

LINES: Mapping[str, Mapping[str, Any]] = {
    "complete": {"color": BLUE, "marker": ".", "linewidth": 0.9, "alpha": 0.55, "zorder": 2.5},
    "pruned": {"color": GRAY, "marker": "o", "markersize": 4, "linewidth": 0.9, "alpha": 0.8, "zorder": 2},
    "failed": {"color": ORANGE, "marker": "x", "linewidth": 1, "zorder": 3},
}
BEST = {"linewidth": 2.5, "alpha": 1, "zorder": 4}


def draw(study: "Study", path: Path) -> bool:
    """Draws the first objective with values by epoch, best trial in bold.

    Args:
        study: The search.
        path: The PNG file to write.

    Returns:
        False if no objective has values by epoch.
    """
    finished = trials.in_states(study, *FINISHED)
    metric = next((name for name in trials.metrics(study) if any(style.curve(trial, name) for trial in finished)), None)
    if metric is None:
        return False
    best = next((trial.number for trial in trials.best(study, 1)), None)
    figure, axes = plt.subplots(figsize=(8, 4.2))
    values: list[float] = []
    counts: Counter[str] = Counter()
    for trial in finished:
        if curve := style.curve(trial, metric):
            state = STATES[trial.state.name]
            counts[state] += 1
            values += curve.values()
            line = {**LINES[state], **(BEST if trial.number == best else {})}
            axes.plot(list(curve), list(curve.values()), markevery=[-1], **line)
    if best is not None:
        axes.plot([], [], color=BLUE, linewidth=BEST["linewidth"], label=f"the best: trial {best}")
    for state, style_of_line in LINES.items():
        if counts[state]:
            axes.plot([], [], label=f"{counts[state]} {state}", **style_of_line)
    style.log_if_wide(axes, "y", values)
    axes.set(xlabel="epoch", ylabel=plain(metric), title="Learning curves of all trials")
    axes.xaxis.set_major_locator(style.whole_numbers())
    axes.legend(**style.LEGEND)
    save(figure, path)
    return True
