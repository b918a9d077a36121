"""Gates: through what a version must pass to become champion; plain functions of what was measured."""

from collections.abc import Mapping, Sequence
from typing import Annotated, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from ..core.config import Section
from ..core.text import number
from ..evaluation.metrics import Metrics, bootstrap


class Limits(Section):
    """Between what a metric must lie, ends included.

    Attributes:
        min: The least, if any.
        max: The most, if any.
    """

    min: float | None = None
    max: float | None = None


class Comparison(Section):
    """How a version is compared with the champion.

    Attributes:
        margin: By how much it may be worse, as a share of the champion's value.
        confidence: Of the bootstrap interval, between 0 and 1.
        resamples: Number of bootstrap resamples.
        seed: Of the bootstrap.
    """

    margin: NonNegativeFloat
    confidence: Annotated[float, Field(gt=0, lt=1)]
    resamples: Annotated[int, Field(ge=100)]
    seed: NonNegativeInt


class Slices(Section):
    """How parts of the test split are compared with the champion.

    Attributes:
        margin: By how much a part may be worse, as a share of the champion's value on all test examples.
        examples: Smaller parts are not judged.
        columns: Of a table, what the model is asked with or `data.group`; their values are parts too.
    """

    margin: NonNegativeFloat
    examples: PositiveInt
    columns: list[str]


class Gates(Section):
    """Section `gates` of conf/gates.yaml; None switches a gate off.

    Attributes:
        absolute: Metric -> between what it must lie.
        champion: The comparison on all test examples.
        slices: The comparison on parts of them.
        latency_ms: The most that one answer of the exported model may take.
        size_mb: The largest that the exported model may be, in 10^6 bytes.
        calibration: The largest error of calibration.
    """

    absolute: dict[str, Limits]
    champion: Comparison | None
    slices: Slices | None
    latency_ms: PositiveFloat | None
    size_mb: PositiveFloat | None
    calibration: NonNegativeFloat | None


class Gate(NamedTuple):
    """What came out at a gate.

    Attributes:
        name: The gate's.
        measured: What was found, for a person.
        wanted: What is asked for.
        passed: None where there is nothing to judge.
    """

    name: str
    measured: str
    wanted: str
    passed: bool | None


class Metric(NamedTuple):
    """What versions are compared by.

    Attributes:
        name: As the target calls it.
        higher: Whether more of it is better.
    """

    name: str
    higher: bool

    def better(self, own: Metrics, other: Metrics, weights: NDArray[np.float64]) -> float:
        """Returns by how much a version is better than another one.

        Args:
            own: The version's metrics.
            other: The other's.
            weights: Of the examples, float64 [N].
        """
        difference = own(weights)[self.name] - other(weights)[self.name]
        return (difference if self.higher else -difference) + 0.0  # no -0.0


def absolute(metrics: Mapping[str, float], limits: Mapping[str, Limits]) -> list[Gate]:
    """Holds test metrics against limits; an undefined one does not pass.

    Args:
        metrics: Metric -> value, NaN where undefined.
        limits: Metric -> limits.
    """
    found = []
    for name, limit in limits.items():
        ends = [
            f"at {word} {number(end)}" for word, end in (("least", limit.min), ("most", limit.max)) if end is not None
        ]
        value = metrics[name]
        passed = (limit.min is None or value >= limit.min) and (limit.max is None or value <= limit.max)
        undefined = bool(np.isnan(value))
        found.append(Gate(name, "undefined" if undefined else number(value), ", ".join(ends), passed and not undefined))
    return found


def champion(metric: Metric, own: Metrics, other: Metrics, examples: int, settings: Comparison) -> Gate:
    """Tests whether a version is not worse than the champion (non-inferiority, by a paired bootstrap interval).

    The same resamples are drawn for both, so that what makes an example hard for either does not blur the
    difference. That no difference is found would prove little on a small test split: the interval's worse end
    must lie within the margin (G. Piaggio et al., Reporting of Noninferiority and Equivalence Randomized Trials, JAMA
    308, 2012).

    Args:
        metric: What is compared.
        own: The version's metrics.
        other: The champion's.
        examples: Number of test examples.
        settings: Margin and bootstrap.
    """

    def difference(weights: NDArray[np.float64]) -> dict[str, float]:
        return {metric.name: metric.better(own, other, weights)}

    found = bootstrap(difference, examples, settings.resamples, settings.confidence, settings.seed)[metric.name]
    least = -settings.margin * abs(other(np.ones(examples))[metric.name])
    shown = f"better by {number(found.value)} ({number(found.low)} to {number(found.high)})"
    return Gate(f"{metric.name} and champion", shown, f"interval from {number(least)}", (found.low or 0.0) >= least)


def slices(
    metric: Metric, own: Metrics, other: Metrics, groups: Mapping[str, NDArray[np.bool_]], settings: Slices
) -> Gate:
    """Compares a version with the champion in each group of test examples.

    Args:
        metric: What is compared.
        own: The version's metrics.
        other: The champion's.
        groups: What the group is called -> bool [N].
        settings: Margin, and the smallest group that is judged.
    """
    judged = {name: group.astype(np.float64) for name, group in groups.items() if group.sum() >= settings.examples}
    if not judged:
        return Gate("slices", f"all have less than {settings.examples} examples", "", None)
    examples = len(next(iter(judged.values())))
    least = -settings.margin * abs(other(np.ones(examples))[metric.name])
    better = {name: metric.better(own, other, group) for name, group in judged.items()}
    worst = sorted(better, key=lambda name: better[name])
    failed = [name for name in worst if not better[name] >= least]
    shown = ", ".join(f"{number(better[name])} ({name})" for name in (failed or worst)[:3])
    more = f" and {len(failed) - 3} more" if len(failed) > 3 else ""
    return Gate(f"slices ({len(judged)})", f"better by {shown}{more}", f"at least {number(least)}", not failed)


def at_most(name: str, value: float | None, limit: float, unit: str = "") -> Gate:
    """Holds a number against the largest that passes; None is nothing to judge.

    Args:
        name: The gate's.
        value: What was measured.
        limit: The largest that passes.
        unit: Of both.
    """
    wanted = f"at most {number(limit)}{unit}"
    return Gate(name, "nothing to judge", wanted, None) if value is None else (
        Gate(name, f"{number(value)}{unit}", wanted, value <= limit)
    )  # fmt: skip


def table(found: Sequence[Gate]) -> str:
    """Returns what came out, a line a gate."""
    rows = [("gate", "", "measured", "wanted"), *_rows(found)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def markdown(found: Sequence[Gate]) -> str:
    """Returns the same as a Markdown table."""
    rows = [("", "gate", "measured", "wanted"), ("---",) * 4, *_rows(found)]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)


def _rows(found: Sequence[Gate]) -> list[tuple[str, str, str, str]]:
    words = {True: "passed", False: "FAILED", None: "-"}
    return [(words[gate.passed], gate.name, gate.measured, gate.wanted) for gate in found]
