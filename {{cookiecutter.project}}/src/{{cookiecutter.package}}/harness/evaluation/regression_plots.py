"""Plots of a regression model: predictions, residuals, prediction intervals."""

from collections.abc import Mapping
from pathlib import Path
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from matplotlib import pyplot as plt
from numpy.typing import NDArray

from ..core.text import percent
from .metrics import evenly_spaced
from .plots import BLUE, GRAY, ORANGE, plain, save

Numbers = NDArray[np.float64]
POINTS = 2000  # maximum number in a plot: more would only overlap


class Points(NamedTuple):
    """The test examples of a plot.

    Attributes:
        name: Name of the target.
        targets: float64 [N].
        predictions: float64 [N].
    """

    name: str
    targets: Numbers
    predictions: Numbers


def predictions(points: Points, mean: float, path: Path) -> None:
    """Scatter plot of actual against predicted values.

    Actual values are on the vertical axis, so that the vertical distance is the residual (G. Pineiro et al., How to
    evaluate models: observed vs. predicted or predicted vs. observed?, Ecological Modelling 216, 2008).

    Args:
        points: The test examples.
        mean: Prediction of the baseline.
        path: PNG file to write.
    """
    name, targets, predicted = points
    rows = evenly_spaced(len(targets), POINTS)
    x, y = predicted[rows], targets[rows]
    ends = [min(x.min(), y.min()), max(x.max(), y.max())]
    figure, axes = plt.subplots(figsize=(5, 5))
    axes.plot(ends, ends, color=GRAY, linestyle="--", label="perfect")
    axes.axvline(mean, color=ORANGE, linewidth=1, label="baseline: always the mean")
    axes.scatter(x, y, color=BLUE, linewidths=0, **_points(len(rows)), label="test examples")
    axes.set(
        xlabel=f"predicted {plain(name)}", ylabel=f"actual {plain(name)}", title="Predicted and actual", aspect="equal"
    )
    axes.locator_params(nbins=6)  # more labels of large numbers would overlap
    axes.legend(loc="upper left", fontsize=8)
    save(figure, path)


def residuals(points: Points, path: Path) -> None:
    """Residuals against predictions, histogram of residuals, and normal Q-Q plot.

    Args:
        points: The test examples.
        path: PNG file to write.
    """
    name, targets, predicted = points
    residual = targets - predicted
    rows = evenly_spaced(len(targets), POINTS)
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 4))
    left.axhline(0, color=GRAY, linestyle="--")
    left.scatter(predicted[rows], residual[rows], color=BLUE, linewidths=0, **_points(len(rows)))
    left.set(xlabel=f"predicted {plain(name)}", ylabel="actual - predicted", title="Residuals")
    middle.hist(residual, bins=min(60, max(10, int(np.sqrt(len(residual))))), color=BLUE)
    middle.axvline(0, color=GRAY, linestyle="--")
    middle.set(xlabel="actual - predicted", ylabel="examples", title="Histogram")
    # Plotting positions (i - 0.5) / N (A. Hazen, 1914), at a subset of the ranks if there are many.
    positions = (evenly_spaced(len(residual), POINTS) + 0.5) / len(residual)
    normal = np.array([NormalDist().inv_cdf(position) for position in positions])
    right.plot(normal, residual.mean() + residual.std() * normal, color=GRAY, linestyle="--", label="normal errors")
    right.scatter(normal, np.sort(residual)[rows], color=BLUE, linewidths=0, s=14, label="residuals")
    right.set(xlabel="standard normal quantile", ylabel="quantile of the residuals", title="Q-Q plot")
    right.legend(loc="upper left", fontsize=8)
    save(figure, path)


def intervals(
    points: Points, half: float | None, level: float, coverage: Mapping[float, float | None], path: Path
) -> None:
    """Prediction intervals of some examples, and coverage by level.

    Args:
        points: The test examples.
        half: Half-width of the intervals; None if they are undefined.
        level: Level of the intervals.
        coverage: Level -> fraction of the test examples in their interval, None if undefined.
        path: PNG file to write.
    """
    name, targets, predicted = points
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.4), width_ratios=[3, 2])
    order = np.argsort(predicted, kind="stable")[evenly_spaced(len(predicted), 150)]
    x, y, middle = np.arange(len(order)), targets[order], predicted[order]
    left.plot(x, middle, color=BLUE, label="predicted")
    if half is None:
        left.scatter(x, y, s=14, color=GRAY, label="actual")
        left.set_title("No intervals: too few validation examples")
    else:
        inside = np.abs(y - middle) <= half
        left.fill_between(x, middle - half, middle + half, color=BLUE, alpha=0.15, linewidth=0, label="interval")
        left.scatter(x[inside], y[inside], s=14, color=GRAY, label="actual, inside")
        left.scatter(x[~inside], y[~inside], s=22, color=ORANGE, marker="D", label="actual, outside")
        left.set_title(f"{level:.0%} prediction intervals hold {percent(coverage[level] or 0)} of the test examples")
    left.set(xlabel="test examples by prediction", ylabel=plain(name), xticks=[])
    left.legend(loc="upper left", fontsize=8)
    defined = {nominal: share for nominal, share in coverage.items() if share is not None}
    right.plot([0.4, 1], [0.4, 1], color=GRAY, linestyle="--", label="as promised")
    right.plot(list(defined), list(defined.values()), "o-", color=BLUE, label="test split")
    right.set(xlabel="level", ylabel="share inside", title="Coverage by level")
    right.legend(loc="upper left", fontsize=8)
    save(figure, path)


def _points(count: int) -> dict[str, Any]:
    """Size and opacity of points: small and faint if there are many."""
    return {"s": 22, "alpha": 0.7} if count <= 300 else {"s": 8, "alpha": 0.35}
