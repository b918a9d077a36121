"""Section `gates` of conf/gates.yaml."""

from typing import Annotated, Any

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from ..core.config import Section


class Limits(Section):
    """The range of a metric, ends included.

    Attributes:
        min: The least, if any.
        max: The most, if any.
    """

    min: float | None = None
    max: float | None = None


class Comparison(Section):
    """The comparison with the champion on all test examples.

    Attributes:
        margin: By how much a version may be worse, as a share of the champion's value.
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
        margin: By how much a version may be worse in a slice, as a share of the champion's value on all test examples.
        examples: Smaller slices are not judged.
        columns: Columns of a table, inputs of the model or `data.group`, whose values are slices too.
    """

    margin: NonNegativeFloat
    examples: PositiveInt
    columns: list[str]


class Gates(Section):
    """The promotion gates; None switches one off.

    Attributes:
        absolute: Test metric -> its range.
        champion: The comparison on all test examples.
        slices: The comparison on slices of them.
        latency_ms: The most that one answer of the exported model may take.
        size_mb: The largest exported model, in 10^6 bytes.
        calibration: The largest calibration error.
        custom: Name -> a gate of the project's own: its function as `_target_`, and the function's settings.
    """

    absolute: dict[str, Limits]
    champion: Comparison | None
    slices: Slices | None
    latency_ms: PositiveFloat | None
    size_mb: PositiveFloat | None
    calibration: NonNegativeFloat | None
    custom: dict[str, dict[str, Any]] = Field(default_factory=dict)
