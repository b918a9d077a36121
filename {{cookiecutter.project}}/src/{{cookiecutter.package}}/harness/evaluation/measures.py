"""Metrics with bootstrap intervals, and groups of examples."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core import text

Weights = NDArray[np.float64]
Measure = Callable[[Weights], dict[str, float]]
Report = dict[str, dict[str, float]]


class Evaluation(NamedTuple):
    """What was measured on the test split.

    Attributes:
        metrics: Metric -> value, and low and high where it has an interval. An undefined metric is left out.
            `baseline_<metric>` is that metric of the naive answer.
        labels: Metric -> what a person calls it, and what is better, for the table of the model card.
        headline: How much better than the naive answer the model is, in one sentence.
        notes: Sentences below the table: what is undefined, and why.
        sections: More lines of the model card.
        worst_title: What the worst examples are.
        worst: Rows of the test split, the worst first.
        titles: What is wrong with each of them.
        total: The number of rows from which they are the worst.
        limits: What to know before relying on the model.
    """

    metrics: Report
    labels: Mapping[str, tuple[str, str]]
    headline: str
    notes: Sequence[str]
    sections: Sequence[str]
    worst_title: str
    worst: Sequence[int]
    titles: Sequence[str]
    total: int
    limits: str


def bootstrap(measure: Measure, examples: int, resamples: int, confidence: float, seed: int) -> Report:
    """Returns every metric with its percentile bootstrap confidence interval (B. Efron, Annals of Statistics 7, 1979).

    A resample with replacement is a weight for each example: how often it was drawn. What does not depend on the
    weights (sorting, logarithms) is thus done once and not for every resample.

    Args:
        measure: Weights of the examples, float64 [N] -> metrics; NaN where one is undefined.
        examples: N.
        resamples: Number of resamples.
        confidence: Share of the resamples between the two ends, 0 to 1.
        seed: Of the resampling.

    Returns:
        Metric -> value, low, high. What is undefined on all examples is left out; a resample in which a metric is
        undefined does not count for it.
    """
    generator = np.random.default_rng(seed)
    values = {name: value for name, value in measure(np.ones(examples)).items() if not np.isnan(value)}
    samples: dict[str, list[float]] = {name: [] for name in values}
    for _ in range(resamples):
        drawn = np.bincount(generator.integers(0, examples, examples), minlength=examples)
        found = measure(drawn.astype(np.float64))
        for name, sample in samples.items():
            sample.append(found[name])
    report: Report = {}
    for name, value in values.items():
        low, high = np.nanquantile(samples[name], [(1 - confidence) / 2, (1 + confidence) / 2])
        report[name] = {"value": value, "low": float(low), "high": float(high)}
    return report


def grouped(name: str, values: NDArray[Any]) -> dict[str, NDArray[np.bool_]]:
    """Returns groups of examples by a column: one for each of its values, or of many numbers its quarters.

    Args:
        name: Of the column.
        values: float64 [N], NaN where missing, or str [N] (of objects), "" where missing.

    Returns:
        What the group is called -> bool [N].
    """
    missing = values == "" if values.dtype == object else np.isnan(values)
    groups = {f"{name} missing": missing} if missing.any() else {}
    kinds = np.unique(values[~missing])
    if values.dtype == object or len(kinds) <= 10:
        return groups | {f"{name} {kind}": values == kind for kind in kinds}
    edges = np.quantile(values[~missing], [0, 0.25, 0.5, 0.75, 1])
    quarter = np.searchsorted(edges[1:-1], values)
    for index, (low, high) in enumerate(itertools.pairwise(edges)):
        groups[f"{name} {text.number(low)} to {text.number(high)}"] = (quarter == index) & ~missing
    return groups
