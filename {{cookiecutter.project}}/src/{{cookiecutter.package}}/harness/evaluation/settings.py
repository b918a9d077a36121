"""Section `evaluate` of the configuration."""

from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveInt

from ..core import config


class Evaluate(config.Section):
    """Section `evaluate`: bootstrap and examples.

    Attributes:
        seed: Seed of the bootstrap.
        resamples: Number of bootstrap resamples.
        confidence: Confidence level of the metrics' intervals, between 0 and 1.
        examples: Maximum number of examples with the largest errors in the model card.
        shipped: Maximum number of test examples on the page of the service; they are released with the model.
    """

    seed: NonNegativeInt
    resamples: Annotated[int, Field(ge=100)]
    confidence: Annotated[float, Field(gt=0, lt=1)]
    examples: PositiveInt
    shipped: NonNegativeInt
