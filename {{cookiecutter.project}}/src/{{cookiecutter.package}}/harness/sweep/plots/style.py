"""The style of a sweep's plots: colors, labels, curves."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from ...evaluation.plots import BLUE, GRAY, ORANGE, plain, wide
from .. import trials

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

PALE, DARK = "#c9d8ea", "#0b2a52"
COLORS = LinearSegmentedColormap.from_list("best to worst", [DARK, BLUE, PALE])
PRUNED: Mapping[str, Any] = {"facecolors": "none", "edgecolors": GRAY, "linewidths": 0.9, "s": 22}
LEGEND: Mapping[str, Any] = {"fontsize": 8, "loc": "upper left", "bbox_to_anchor": (1, 1)}  # beside the axes


def labels(names: Sequence[str]) -> dict[str, str]:
    """Parameter -> its label: `dropout (model=cnn)` for `model=cnn: model.dropout`."""
    short = trials.short(list(dict.fromkeys(map(trials.override_key, names))))
    conditions = {name: name.rpartition(": ")[0] for name in names}
    lines = {name: f"\n({condition})" if condition else "" for name, condition in conditions.items()}
    return {name: plain(short[trials.override_key(name)] + lines[name]) for name in names}


def brief(value: Any) -> str:
    """The text of a value at a tick, at most 18 characters."""
    text = plain(trials.text(value))
    return text if len(text) <= 18 else f"{text[:17]}…"


def curve(trial: "FrozenTrial", metric: str) -> dict[int, float]:
    """Epoch -> finite value of a trial's metric."""
    rows = trial.user_attrs.get("history", ())
    values = {epoch: row[metric] for epoch, row in enumerate(rows) if metric in row} or trial.intermediate_values
    return {epoch: value for epoch, value in values.items() if math.isfinite(value)}


def last_scores(study: "Study", pruned: Sequence["FrozenTrial"]) -> dict[int, float]:
    """Pruned trial -> its first objective in the last epoch."""
    curves = {trial.number: curve(trial, trials.metrics(study)[0]) for trial in pruned}
    return {number: values[max(values)] for number, values in curves.items() if values}


def mark_failed(axes: Axes, positions: Sequence[float]) -> None:
    """Marks failed trials, which have no score, at the lower edge."""
    if positions:
        heights = [0.02] * len(positions)
        edge = axes.get_xaxis_transform()
        axes.plot(positions, heights, "x", color=ORANGE, markersize=5, transform=edge, label="failed", clip_on=False)


def log_if_wide(axes: Axes, axis: Literal["x", "y"], values: Sequence[float]) -> None:
    """Makes an axis logarithmic if its values differ by orders of magnitude."""
    if wide(values):
        axes.set(**{f"{axis}scale": "log"})


def whole_numbers() -> ticker.Locator:
    """Ticks at whole numbers: trials, epochs."""
    return ticker.MaxNLocator(integer=True, steps=[1, 2, 5, 10])
