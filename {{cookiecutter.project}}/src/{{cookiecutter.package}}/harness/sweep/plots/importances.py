"""Plot `importances`: the importance of each parameter for each objective."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import pyplot as plt

from ...evaluation.plots import BLUE, GRAY, ORANGE, plain, save
from ..trials import MIN_COMPLETE, in_states, metrics, signs
from . import style

if TYPE_CHECKING:
    from optuna import Study

TOP = 5  # minimum number of trials that count as good: with fewer, importances are chance


def draw(study: "Study", path: Path) -> bool:
    """Draws the importance of each parameter for each objective.

    Args:
        study: The search.
        path: The PNG file to write.

    Returns:
        False if fewer than two parameters have an importance.
    """
    importances = shares(study)
    if len(importances) < 2:
        return False
    names, values = metrics(study), np.array(list(importances.values()))
    figure, axes = plt.subplots(figsize=(7, 1.3 + 0.45 * len(importances)))
    height = 0.8 / len(names)
    for index, name in enumerate(names):
        positions = np.arange(len(importances)) + (index - (len(names) - 1) / 2) * height
        color = (BLUE, ORANGE, GRAY)[index % 3]
        bars = axes.barh(positions, values[:, index], height, color=color, label=plain(name))
        axes.bar_label(bars, [f"{value:.2f}" for value in values[:, index]], padding=3, fontsize=8)
    labels = style.labels(list(importances))
    axes.set_yticks(range(len(importances)), [labels[name] for name in importances])
    axes.invert_yaxis()
    count = len(in_states(study, "COMPLETE"))
    axes.set(
        xlim=(0, 1.1 * values.max()),
        xlabel=f"share of the difference between the best {_good(count)} and all {count} complete trials",
        title="Importance of the parameters",
    )
    if len(names) > 1:
        axes.legend(fontsize=8, loc="lower right")
    save(figure, path)
    return True


def shares(study: "Study") -> dict[str, list[float]]:
    """The importance of each parameter.

    PED-ANOVA (S. Watanabe, A. Bansal, F. Hutter, IJCAI 2023, arXiv 2304.10255) in its form for conditional parameters
    (arXiv 2601.20800). fANOVA leaves conditional parameters out, and depends on a seed.

    Args:
        study: The search.

    Returns:
        Parameter -> its share for each objective, the largest first; empty with fewer than two parameters or
        `MIN_COMPLETE` complete trials, or if all trials are equally good.
    """
    complete = in_states(study, "COMPLETE")
    count = len(complete)
    if count < MIN_COMPLETE or len({name for trial in complete for name in trial.params}) < 2:
        return {}
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances  # here, because it takes a second

    evaluator = PedAnovaImportanceEvaluator(target_quantile=_good(count) / count)
    shares: dict[str, list[float]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # each call warns that lower is better, and about conditions that hold once
        for index, sign in enumerate(signs(study)):
            importances = get_param_importances(
                study,
                evaluator=evaluator,
                target=lambda trial, index=index, sign=sign: sign * trial.values[index],  # type: ignore[misc]
                normalize=False,
            )
            total = sum(importances[name] for name in sorted(importances))
            for name in sorted(importances):
                shares.setdefault(name, []).append(importances[name] / total if total else 0.0)
    shares = {name: values for name, values in shares.items() if any(values)}
    return dict(sorted(shares.items(), key=lambda item: -sum(item[1])))


def _good(count: int) -> int:
    """Number of complete trials that count as good: a tenth, minimum `TOP`."""
    return max(TOP, count // 10)
