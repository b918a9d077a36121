"""Section `evaluate` of the configuration."""

from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveInt

from ..core import config


class Evaluate(config.Section):
    """Section `evaluate`.

    Attributes:
        seed: Of the bootstrap.
        resamples: Number of bootstrap resamples.
        confidence: Of the metrics' intervals, between 0 and 1.
        examples: The most shown of those that the model gets most wrong.
        shipped: The most that go where the model goes, for people to try it with.
    """

    seed: NonNegativeInt
    resamples: Annotated[int, Field(ge=100)]
    confidence: Annotated[float, Field(gt=0, lt=1)]
    examples: PositiveInt
    shipped: NonNegativeInt
