"""Plot `history`: the scores of all trials, in search order."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import pyplot as plt

from ...evaluation.plots import BLUE, plain, save
from ..trials import in_states, metrics, signs
from . import style

if TYPE_CHECKING:
    from optuna import Study


def draw(study: "Study", path: Path) -> bool:
    """Draws each objective by trial.

    Args:
        study: The search.
        path: The PNG file to write.

    Returns:
        False if no trial is complete.
    """
    complete, pruned, failed = (in_states(study, state) for state in ("COMPLETE", "PRUNED", "FAIL"))
    if not complete:
        return False
    names = metrics(study)
    figure, panels = plt.subplots(len(names), 1, figsize=(8, 1 + 3 * len(names)), squeeze=False, sharex=True)
    numbers = [trial.number for trial in complete]
    for index, (axes, name, sign) in enumerate(zip(panels[:, 0], names, signs(study), strict=True)):
        scores = np.array([trial.values[index] for trial in complete])
        last = style.last_scores(study, pruned) if index == 0 else {}
        if last:
            axes.scatter(list(last), list(last.values()), label="pruned: its last epoch", **style.PRUNED)
        axes.scatter(numbers, scores, color=BLUE, s=22, label="complete", zorder=3)
        if len(names) == 1:
            best = sign * np.minimum.accumulate(sign * scores)
            axes.step(numbers, best, where="post", color=BLUE, linewidth=1, label="best so far")
        style.mark_failed(axes, [trial.number for trial in failed])
        style.log_if_wide(axes, "y", [*scores, *last.values()])
        axes.set(ylabel=plain(name))
    panels[-1, 0].xaxis.set_major_locator(style.whole_numbers())
    panels[-1, 0].set(xlabel="trial")
    panels[0, 0].set(title="Optimization history")
    panels[0, 0].legend(**style.LEGEND)
    save(figure, path)
    return True
