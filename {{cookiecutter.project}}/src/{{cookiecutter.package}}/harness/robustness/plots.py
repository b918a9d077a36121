"""Curves of robustness: the score by epsilon, and after natural changes."""

from collections.abc import Sequence

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from ..core.paths import ROBUSTNESS
from ..evaluation import plots
from ..evaluation.metrics import Estimate
from .contracts import Study

STYLES = ((plots.GRAY, "o"), (plots.BLUE, "s"), (plots.ORANGE, "^"), ("#5b3a8c", "D"))
SHADES = ("#a9c7e8", plots.BLUE, "#123456")  # the weakest change first; also distinct without color


def draw(study: Study, clean: Estimate, estimates: Sequence[Estimate]) -> None:
    """Draws curves.png.

    Args:
        study: All trials.
        clean: Mean score of the unchanged examples.
        estimates: Mean score after each trial.
    """
    count = len(study.attacks)
    names = {trial.name for trial in study.changes}
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, max(3.8, 1.6 + 0.4 * len(names))))
    attacks(left, study, clean, estimates[:count])
    changes(right, study, clean, estimates[count:])
    metric, examples = study.subject.kind.METRIC, len(study.subject.targets)
    interval = f"{100 * study.subject.settings.confidence:g}% intervals"
    figure.suptitle(f"{metric[0].upper()}{metric[1:]} of {examples} changed test examples, {interval}", fontsize=11)
    plots.save(figure, ROBUSTNESS / "curves.png")


def attacks(axes: Axes, study: Study, clean: Estimate, estimates: Sequence[Estimate]) -> None:
    """Draws the score of each attack by epsilon.

    Args:
        axes: Where.
        study: All trials.
        clean: Mean score of the unchanged examples.
        estimates: Mean score after each attack.
    """
    titles = dict.fromkeys(trial.title for trial in study.attacks)
    for title, (color, marker) in zip(titles, STYLES, strict=False):
        points = [(0.0, clean)] + [
            (trial.strength, estimate)
            for trial, estimate in zip(study.attacks, estimates, strict=True)
            if trial.title == title
        ]
        epsilons = [epsilon for epsilon, _ in points]
        middle, low, high = np.array([estimate for _, estimate in points], float).T
        axes.plot(epsilons, middle, color=color, marker=marker, label=title)
        axes.fill_between(epsilons, low, high, color=color, alpha=0.15, linewidth=0)
    axes.set(xlabel=f"epsilon, the largest change of a value ({study.unit})", ylabel=study.subject.kind.METRIC)
    axes.set_title("Attacks", fontsize=10)
    axes.set_ylim(bottom=0)
    axes.legend()


def changes(axes: Axes, study: Study, clean: Estimate, estimates: Sequence[Estimate]) -> None:
    """Draws the score after each natural change, a row for each.

    Args:
        axes: Where.
        study: All trials.
        clean: Mean score of the unchanged examples.
        estimates: Mean score after each natural change.
    """
    names = list(dict.fromkeys(trial.name for trial in study.changes))
    axes.axvline(clean.value, color=plots.GRAY, linestyle="--", label="unchanged")
    for row, name in enumerate(names):
        found = [e for trial, e in zip(study.changes, estimates, strict=True) if trial.name == name]
        for place, (estimate, color) in enumerate(zip(found, SHADES, strict=True)):
            height = row + 0.22 * (place - 1)
            value, low, high = np.array(estimate, float)
            axes.plot([low, high], [height, height], color=color, linewidth=1.5)
            label = ("weak", "middle", "strong")[place] if row == 0 else None
            axes.plot(value, height, "o", color=color, markersize=5, label=label)
    axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel(study.subject.kind.METRIC)
    axes.set_title("Natural changes", fontsize=10)
    axes.legend()
