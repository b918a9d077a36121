"""Metrics with bootstrap confidence intervals, and groups of examples."""

import itertools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.text import entry, number

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
        among: Targets [N], outputs [N, ...] -> the examples that count, bool [N]; None if all do.
    """

    title: str
    better: str
    function: Callable[[NDArray[Any], NDArray[Any]], Weighted]
    among: Callable[[NDArray[Any], NDArray[Any]], NDArray[np.bool_]] | None = None


class Estimate(NamedTuple):
    """Value of a metric, with the ends of its optional confidence interval."""

    value: float
    low: float | None = None
    high: float | None = None


def interval(estimate: Estimate | None, digits: int = 3) -> str:
    """A value with its interval, if it has one, as text.

    Args:
        estimate: The estimate; None, if it is undefined, becomes "-".
        digits: Number of significant digits.
    """
    if estimate is None:
        return "-"
    if estimate.low is None:
        return number(estimate.value, digits)
    value, low, high = (number(each, digits) for each in estimate)
    return f"{value} ({low} to {high})"


def evenly_spaced(examples: int, most: int) -> NDArray[np.int64]:
    """Indices of at most `most` examples, evenly spaced, int64 [n]."""
    return np.linspace(0, examples - 1, min(examples, most)).round().astype(np.int64)


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


def area(positive: NDArray[np.bool_], scores: NDArray[np.floating[Any]]) -> Weighted:
    """Area under the ROC curve, as a function of the weights; undefined without positives or without negatives.

    It is the Mann-Whitney statistic: the fraction of (positive, negative) pairs in the correct order, where ties count
    half. Source: J. A. Hanley, B. J. McNeil, Radiology 143, 1982.

    Args:
        positive: Whether an example is positive, [N].
        scores: Scores, higher for a positive, [N].
    """
    order, starts = _runs(scores)
    positive = positive[order]

    def metric(weights: Weights) -> float:
        weights = weights[order]
        positives = np.add.reduceat(weights * positive, starts)
        negatives = np.add.reduceat(weights, starts) - positives
        pairs = float(positives.sum() * negatives.sum())
        return float(positives @ (np.cumsum(negatives) - negatives / 2)) / pairs if pairs else float("nan")

    return metric


def true_positive_rate(positive: NDArray[np.bool_], scores: NDArray[np.floating[Any]], rate: float) -> Weighted:
    """True positive rate at a false positive rate, as a function of the weights; undefined as `area` is.

    Between two points of the ROC curve, it is on the line that joins them: a draw decides which of equal scores count.
    Without it, guessing would find none of them.

    Args:
        positive: Whether an example is positive, [N].
        scores: Scores, higher for a positive, [N].
        rate: False positive rate, below 1.
    """
    order, starts = _runs(-scores)
    positive = positive[order]

    def metric(weights: Weights) -> float:
        weights = weights[order]
        positives = np.add.reduceat(weights * positive, starts)
        negatives = np.append(0.0, np.cumsum(np.add.reduceat(weights, starts) - positives))
        found = np.append(0.0, np.cumsum(positives))
        if not (found[-1] and negatives[-1]):
            return float("nan")
        allowed = rate * negatives[-1]
        after = int(np.searchsorted(negatives, allowed, side="right"))
        part = (allowed - negatives[after - 1]) / (negatives[after] - negatives[after - 1])
        return float((found[after - 1] + part * (found[after] - found[after - 1])) / found[-1])

    return metric


def _runs(scores: NDArray[np.floating[Any]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ascending order of the scores, and the first index of each run of equal ones in this order."""
    order = np.argsort(scores, kind="stable")
    return order, np.flatnonzero(np.diff(scores[order], prepend=-np.inf))


def share(hits: NDArray[np.bool_], among: NDArray[np.bool_]) -> Weighted:
    """Weighted fraction of hits among some of the examples, undefined if there are none.

    Args:
        hits: Whether an example is a hit, [N].
        among: Whether an example counts, [N].
    """
    both, counted = (hits & among).astype(np.float64), among.astype(np.float64)

    def metric(weights: Weights) -> float:
        total = float(weights @ counted)
        return float(weights @ both) / total if total else float("nan")

    return metric


def grouped(
    name: str, values: NDArray[Any], show: Callable[[float], str] | None = None
) -> dict[str, NDArray[np.bool_]]:
    """Groups of examples by the values or quartiles of a column.

    Quartiles separate numbers with more than ten distinct values; of many equal ones, they are fewer than four. With
    `show`, they end at values of the column: between two dates there are times of which nobody would think.

    Args:
        name: Name of the column.
        values: float64 [N], NaN if missing, or object [N] of str, "" if missing.
        show: Text of a value; by default a number with as many digits as tell the quartiles apart.

    Returns:
        Name of the group -> mask, bool [N].
    """
    missing = values == "" if values.dtype == object else np.isnan(values)
    distinct, codes = np.unique(values[~missing], return_inverse=True)
    none = "without a value" if "missing" in distinct.tolist() else "missing"  # a level may have the name
    groups = {f"{name} {none}": missing} if missing.any() else {}
    if values.dtype == object or len(distinct) <= 10:
        places = np.full(len(values), -1)
        places[~missing] = codes
        words = distinct if values.dtype == object else distinguished(distinct)
        texts = [show(value) for value in distinct] if show else words
        return groups | {f"{name} {text}": places == index for index, text in enumerate(texts)}
    known, quarters = values[~missing], [0, 0.25, 0.5, 0.75, 1]
    edges = np.unique(np.quantile(known, quarters, method="nearest") if show else np.quantile(known, quarters))
    quarter = np.searchsorted(edges[1:-1], values)
    ends = [show(edge) for edge in edges] if show else distinguished(edges)
    for index, (low, high) in enumerate(itertools.pairwise(ends)):
        groups[f"{name} {low} to {high}"] = (quarter == index) & ~missing
    return groups


def distinguished(numbers: NDArray[np.float64]) -> list[str]:
    """Distinct numbers as distinct texts, with as few digits as possible.

    Args:
        numbers: Numbers, all different.
    """
    texts = ([entry(value, digits) for value in numbers] for digits in range(4, 18))
    return next((found for found in texts if len({*found}) == len(found)), [repr(float(value)) for value in numbers])
