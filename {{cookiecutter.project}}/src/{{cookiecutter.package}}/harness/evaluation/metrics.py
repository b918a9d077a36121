"""Metrics with bootstrap confidence intervals, and groups of examples."""

import itertools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.text import number

Weights = NDArray[np.float64]  # weights of the examples, [N]
Weighted = Callable[[Weights], float]  # weights -> value of a metric, NaN if undefined
Metrics = Callable[[Weights], dict[str, float]]  # weights -> metric -> value, NaN if undefined


class Metric(NamedTuple):
    """A metric: name, direction and definition.

    Attributes:
        title: Name in the model card.
        better: Direction in the model card, "higher" for instance.
        function: Targets [N], outputs [N, ...] -> function from weights to the value. Computations that do not depend
            on the weights are done here once, not in every resample of the bootstrap.
    """

    title: str
    better: str
    function: Callable[[NDArray[Any], NDArray[Any]], Weighted]


class Estimate(NamedTuple):
    """Value of a metric, with the ends of its optional confidence interval."""

    value: float
    low: float | None = None
    high: float | None = None


def together(table: Mapping[str, Metric], targets: NDArray[Any], outputs: NDArray[Any]) -> Metrics:
    """Several metrics as one function of the weights.

    Args:
        table: Name -> metric.
        targets: Targets, [N].
        outputs: Outputs of a model, [N, ...].
    """
    functions = {name: metric.function(targets, outputs) for name, metric in table.items()}
    return lambda weights: {name: function(weights) for name, function in functions.items()}


def mean(numbers: NDArray[np.float64]) -> Weighted:
    """Weighted mean of the examples' numbers, as a function of the weights."""
    return lambda weights: float(weights @ numbers / weights.sum())


def unweighted(metrics: Metrics, examples: int) -> dict[str, float]:
    """Metric -> value with weight 1 for every example, NaN if undefined."""
    return metrics(np.ones(examples))


def bootstrap(metrics: Metrics, examples: int, resamples: int, confidence: float, seed: int) -> dict[str, Estimate]:
    """Metrics with percentile bootstrap confidence intervals.

    In a resample with replacement, the weight of an example is the number of times that it was drawn.
    Source: B. Efron, Bootstrap Methods: Another Look at the Jackknife, Annals of Statistics 7, 1979.

    Args:
        metrics: Function from weights to metrics.
        examples: Number of examples.
        resamples: Number of resamples.
        confidence: Fraction of the resamples between the two ends, 0 to 1.
        seed: Seed of the resampling.

    Returns:
        Metric -> estimate, without metrics that are undefined on all examples. Resamples in which a metric is undefined
        are ignored for this metric.
    """
    generator = np.random.default_rng(seed)
    defined = {name: value for name, value in unweighted(metrics, examples).items() if not np.isnan(value)}
    samples: dict[str, list[float]] = {name: [] for name in defined}
    for _ in range(resamples):
        drawn = np.bincount(generator.integers(0, examples, examples), minlength=examples)
        resampled = metrics(drawn.astype(np.float64))
        for name, sample in samples.items():
            sample.append(resampled[name])
    ends = [(1 - confidence) / 2, (1 + confidence) / 2]
    return {name: Estimate(value, *np.nanquantile(samples[name], ends).tolist()) for name, value in defined.items()}


def grouped(name: str, values: NDArray[Any]) -> dict[str, NDArray[np.bool_]]:
    """Groups of examples by the values or quartiles of a column.

    Quartiles separate numbers with more than ten distinct values.

    Args:
        name: Name of the column.
        values: float64 [N], NaN if missing, or object [N] of str, "" if missing.

    Returns:
        Name of the group -> mask, bool [N].
    """
    missing = values == "" if values.dtype == object else np.isnan(values)
    groups = {f"{name} missing": missing} if missing.any() else {}
    distinct = np.unique(values[~missing])
    if values.dtype == object or len(distinct) <= 10:
        return groups | {f"{name} {value}": values == value for value in distinct}
    edges = np.quantile(values[~missing], [0, 0.25, 0.5, 0.75, 1])
    quarter = np.searchsorted(edges[1:-1], values)
    for index, (low, high) in enumerate(itertools.pairwise(edges)):
        groups[f"{name} {number(low)} to {number(high)}"] = (quarter == index) & ~missing
    return groups
