"""Promotion gates: the checks that a version must pass to become champion.

A custom gate is a function in your part of the package, and an entry in conf/gates/default.yaml that names it:

    custom:
      nodes: {_target_: <package>.gates.nodes, most: 1000}

The function takes the `Evidence`, and the settings as keyword-only parameters, and returns a `Gate`:

    def nodes(evidence: Evidence, *, most: int) -> Gate:
        return at_most("nodes", len(onnx.load(evidence.candidate.model).graph.node), most)
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import evaluation
from ..contracts import Description, Manifest
from ..core import config, files, text
from ..core.errors import UserError
from ..core.paths import ROBUSTNESS
from ..core.text import number
from ..evaluation import slices as evaluation_slices
from ..evaluation.metrics import Metrics, bootstrap
from .settings import Comparison, Gates, Limits, Robustness, Slices

Groups = Mapping[str, NDArray[np.bool_]]  # name of a group -> its test examples, bool [N]


class Gate(NamedTuple):
    """The outcome of a gate.

    Attributes:
        name: Name of the gate.
        measured: The measured value, as text.
        wanted: The condition, as text.
        passed: Whether the condition is met; None if there is nothing to judge.
    """

    name: str
    measured: str
    wanted: str
    passed: bool | None


class Criterion(NamedTuple):
    """The metric by which versions are compared.

    Attributes:
        name: Name of the metric in reports/metrics.json.
        higher: Whether higher is better.
    """

    name: str
    higher: bool

    def improvement(self, candidate: Metrics, champion: Metrics, weights: NDArray[np.float64]) -> float:
        """The improvement of the candidate over the champion.

        Args:
            candidate: The candidate's metrics.
            champion: The champion's metrics.
            weights: Weights of the test examples, float64 [N].
        """
        difference = candidate(weights)[self.name] - champion(weights)[self.name]
        return (difference if self.higher else -difference) + 0.0  # no -0.0


class Scored(NamedTuple):
    """A model with its outputs for the test examples.

    Attributes:
        model: The ONNX file.
        description: The content of the model's model.json.
        outputs: Outputs for the test examples, float32 [N, ...].
        metrics: Function from weights of the test examples, float64 [N], to metrics; an undefined metric is NaN.
    """

    model: Path
    description: Description
    outputs: NDArray[np.float32]
    metrics: Metrics


class Evidence(NamedTuple):
    """The facts by which gates judge.

    Attributes:
        candidate: The version to promote.
        champion: The current champion, if there is one to compare with.
        criterion: The metric by which they are compared.
        values: Metrics of the candidate on the test split; an undefined metric is NaN.
        manifest: The manifest of data/prepared.
        targets: Targets of the test examples [N].
        batch: The first batch of test inputs: input -> array.
    """

    candidate: Scored
    champion: Scored | None
    criterion: Criterion
    values: Mapping[str, float]
    manifest: Manifest
    targets: NDArray[Any]
    batch: Mapping[str, NDArray[Any]]


def judge(evidence: Evidence, settings: Gates) -> list[Gate]:
    """The outcome of every enabled gate.

    Args:
        evidence: The facts.
        settings: The gates.

    Raises:
        UserError: If a gate names a metric, a column or an attack that does not exist.
    """
    outcomes = absolute(evidence.values, settings.absolute)
    if evidence.champion:
        outcomes += _compared(evidence, evidence.champion, settings)
    if settings.latency_ms is not None:
        from ..exported import inference

        latency = inference.latency(evidence.candidate.model, evidence.batch)
        outcomes.append(at_most("latency", latency, settings.latency_ms, " ms"))
    if settings.size_mb is not None:
        size = evidence.candidate.model.stat().st_size / 1e6
        outcomes.append(at_most("size", size, settings.size_mb, " MB"))
    if settings.calibration is not None:
        error = evaluation.evaluator(evidence.manifest).calibration_error(evidence.values)
        outcomes.append(at_most("calibration", error, settings.calibration))
    if settings.robustness is not None:
        outcomes.append(robustness(evidence.candidate.description, settings.robustness))
    return outcomes + [config.instantiate(section, evidence) for section in settings.custom.values()]


def _compared(evidence: Evidence, other: Scored, settings: Gates) -> list[Gate]:
    criterion, pair = evidence.criterion, (evidence.candidate.metrics, other.metrics)
    outcomes = []
    if settings.champion:
        outcomes.append(champion(criterion, *pair, len(evidence.targets), settings.champion))
    if settings.slices:
        outcomes.append(slices(criterion, *pair, groups(evidence, settings.slices.columns), settings.slices))
    return outcomes


def absolute(metrics: Mapping[str, float], limits: Mapping[str, Limits]) -> list[Gate]:
    """The gates of test metrics; an undefined metric does not pass.

    Args:
        metrics: Metric -> value, NaN if undefined.
        limits: Metric -> allowed range.

    Raises:
        UserError: If a metric does not exist.
    """
    if unknown := [name for name in limits if name not in metrics]:
        raise UserError(f"gates.absolute: {unknown[0]} is not a test metric: choose from {', '.join(metrics)}")
    return [_absolute(name, metrics[name], limit) for name, limit in limits.items()]


def _absolute(name: str, value: float, limit: Limits) -> Gate:
    wanted = [
        f"at {word} {number(end)}" for word, end in (("least", limit.min), ("most", limit.max)) if end is not None
    ]
    if np.isnan(value):
        return Gate(name, "undefined", ", ".join(wanted), False)
    low, high = (limit.min is None or value >= limit.min), (limit.max is None or value <= limit.max)
    return Gate(name, number(value), ", ".join(wanted), low and high)


def champion(criterion: Criterion, candidate: Metrics, other: Metrics, examples: int, settings: Comparison) -> Gate:
    """Tests a version for non-inferiority to the champion, by a paired bootstrap.

    Both models are evaluated on the same resamples, so that examples that are hard for both do not widen the interval
    of their difference. On a small test split, finding no difference proves little. The worse end of the interval must
    therefore lie within the margin (G. Piaggio et al., Reporting of Noninferiority and Equivalence Randomized Trials,
    JAMA 308, 2012).

    Args:
        criterion: The metric to compare.
        candidate: The candidate's metrics.
        other: The champion's metrics.
        examples: Number of test examples.
        settings: Margin and bootstrap.
    """

    def difference(weights: NDArray[np.float64]) -> dict[str, float]:
        return {criterion.name: criterion.improvement(candidate, other, weights)}

    (interval,) = bootstrap(difference, examples, settings.resamples, settings.confidence, settings.seed).values()
    low, high = (np.nan if end is None else end for end in (interval.low, interval.high))  # NaN does not pass
    least = -settings.margin * abs(other(np.ones(examples))[criterion.name])
    measured = f"{improved(interval.value)} (interval {number(low)} to {number(high)})"
    return Gate(f"{criterion.name} and champion", measured, f"interval from {number(least)}", low >= least)


def improved(difference: float) -> str:
    """An improvement in words: by how much a version is better or worse.

    Args:
        difference: The improvement; negative for a version that is worse, NaN if it is undefined.
    """
    if np.isnan(difference):
        return "undefined"
    if difference == 0:
        return "equal"
    return f"{'worse' if difference < 0 else 'better'} by {number(abs(difference))}"


def slices(criterion: Criterion, candidate: Metrics, other: Metrics, groups: Groups, settings: Slices) -> Gate:
    """Compares a version with the champion in each group of test examples.

    Args:
        criterion: The metric to compare.
        candidate: The candidate's metrics.
        other: The champion's metrics.
        groups: The groups.
        settings: Margin, and minimum size of a group.
    """
    judged = {name: group.astype(np.float64) for name, group in groups.items() if group.sum() >= settings.examples}
    if not judged:
        return Gate("slices", f"all have fewer than {settings.examples} examples", "", None)
    examples = len(next(iter(judged.values())))
    least = -settings.margin * abs(other(np.ones(examples))[criterion.name])
    better = {name: criterion.improvement(candidate, other, group) for name, group in judged.items()}
    worst = sorted(better, key=lambda name: better[name])
    failed = [name for name in worst if not better[name] >= least]  # NaN fails
    listed = ", ".join(f"{improved(better[name])} ({name})" for name in (failed or worst)[:3])
    rest = f" and {len(failed) - 3} more" if len(failed) > 3 else ""
    return Gate(f"slices ({len(judged)})", f"{listed}{rest}", f"worse by up to {number(-least)}", not failed)


def robustness(description: Description, limit: Robustness) -> Gate:
    """The gate of the metric under an attack, as the stage `robustness` measured it.

    Args:
        description: The content of the version's model.json.
        limit: The attack and the allowed range.

    Raises:
        UserError: If nothing, another model or another attack was measured.
    """
    file = ROBUSTNESS / "values.json"
    values = files.read_json(file) if file.exists() else {}
    if not values:
        raise UserError("gates.robustness: nothing was measured: set robustness: default in conf/, then `dvc repro`")
    if values["sha256"] != description["sha256"]:
        raise UserError(f"gates.robustness: {file} is about another model: check out the version's commit, `dvc pull`")
    measured = {(row["name"], row["strength"]): row["value"] for row in values["attacks"] + values["changes"]}
    name, epsilon = limit.attack, limit.epsilon
    if (name, epsilon) not in measured:
        known = ", ".join(f"{attack} {strength:g}" for attack, strength in measured)
        raise UserError(f"gates.robustness: {name} {epsilon:g} was not measured: choose from {known}")
    return _absolute(f"{values['metric']}, {name} {epsilon:g}", measured[name, epsilon], limit)


def groups(evidence: Evidence, columns: Sequence[str]) -> Groups:
    """The groups of test examples, by target and by columns.

    Args:
        evidence: The facts.
        columns: Names as in `evaluate.slices`.

    Raises:
        UserError: If a column does not exist.
    """
    evaluator = evaluation.evaluator(evidence.manifest)
    result: dict[str, NDArray[np.bool_]] = evaluator.groups(evidence.targets, evidence.manifest)
    for masks in evaluation_slices.masks(columns, evidence.manifest, "gates.slices.columns").values():
        result |= masks
    return result


def at_most(name: str, value: float | None, limit: float, unit: str = "") -> Gate:
    """The gate of a number with an upper limit.

    Args:
        name: Name of the gate.
        value: The measured value; None if there is nothing to judge.
        limit: The largest value that passes.
        unit: Unit of the value and the limit.
    """
    wanted = f"at most {number(limit)}{unit}"
    if value is None:
        return Gate(name, "nothing to judge", wanted, None)
    return Gate(name, f"{number(value)}{unit}", wanted, value <= limit)


def failed(outcomes: Sequence[Gate]) -> list[str]:
    """The names of the failed gates."""
    return [gate.name for gate in outcomes if gate.passed is False]


def table(outcomes: Sequence[Gate]) -> str:
    """The outcomes as plain text, a line for each gate."""
    return "\n".join(text.aligned([("gate", "", "measured", "wanted"), *_rows(outcomes)]))


def markdown(outcomes: Sequence[Gate]) -> str:
    """The outcomes as a Markdown table."""
    return "\n".join(text.table(("", "gate", "measured", "wanted"), _rows(outcomes), words=4))


def _rows(outcomes: Sequence[Gate]) -> list[tuple[str, str, str, str]]:
    words = {True: "passed", False: "FAILED", None: "-"}
    return [(words[gate.passed], gate.name, gate.measured, gate.wanted) for gate in outcomes]
