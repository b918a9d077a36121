"""Section `gates` of conf/gates.yaml."""

from typing import Annotated, Any

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from ..core.config import Section


class Limits(Section):
    """The allowed range of a metric, inclusive.

    Attributes:
        min: Lower limit; None for no limit.
        max: Upper limit; None for no limit.
    """

    min: float | None = None
    max: float | None = None


class Comparison(Section):
    """The comparison with the champion on all test examples.

    Attributes:
        margin: Allowed loss of a version in the metric, as a share of the champion's value.
        confidence: Confidence of the bootstrap interval, between 0 and 1.
        resamples: Number of bootstrap resamples.
        seed: Seed of the bootstrap.
    """

    margin: NonNegativeFloat
    confidence: Annotated[float, Field(gt=0, lt=1)]
    resamples: Annotated[int, Field(ge=100)]
    seed: NonNegativeInt


class Slices(Section):
    """The comparison with the champion on slices of the test examples.

    Attributes:
        margin: Allowed loss of a version in a slice, as a share of the champion's value on all test examples.
        examples: Minimum size of a slice; smaller ones are not judged.
        columns: Columns whose values define more slices, as in `evaluate.slices`.
    """

    margin: NonNegativeFloat
    examples: PositiveInt
    columns: list[str]


class Robustness(Limits):
    """The allowed range of the metric under an attack or a natural change.

    Attributes:
        attack: Its name in reports/robustness/values.json.
        epsilon: Its epsilon, or the strength of a natural change.
    """

    attack: str
    epsilon: PositiveFloat


class Gates(Section):
    """The promotion gates; None disables a gate.

    Attributes:
        absolute: Test metric -> allowed range.
        champion: The comparison on all test examples.
        slices: The comparison on slices of the test examples.
        latency_ms: Maximum latency of the exported model, in ms.
        size_mb: Maximum size of the exported model, in 10^6 bytes.
        calibration: Maximum calibration error.
        membership: Maximum AUC of membership inference, of a model trained on the current data.
        robustness: The metric under an attack.
        custom: Name -> custom gate: its function as `_target_`, and the function's settings.
    """

    absolute: dict[str, Limits]
    champion: Comparison | None
    slices: Slices | None
    latency_ms: PositiveFloat | None
    size_mb: PositiveFloat | None
    calibration: NonNegativeFloat | None
    membership: Annotated[float, Field(ge=0.5, le=1)] | None = None
    robustness: Robustness | None = None
    custom: dict[str, dict[str, Any]] = Field(default_factory=dict)
