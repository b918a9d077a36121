"""Section `prepare` of the configuration."""

from typing import Annotated

from pydantic import Field, NonNegativeInt

from ..core import config

Fraction = Annotated[float, Field(gt=0, lt=0.5)]


class Prepare(config.Section):
    """Section `prepare`: seed and fractions of the split.

    Attributes:
        seed: Seed of the split.
        validation: Expected fraction of the examples in the validation split.
        test: Expected fraction of the examples in the test split.
    """

    seed: NonNegativeInt
    validation: Fraction
    test: Fraction
