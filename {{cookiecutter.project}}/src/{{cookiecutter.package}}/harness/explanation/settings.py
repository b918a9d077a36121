"""Section `explain` of the configuration."""

from pydantic import NonNegativeInt, PositiveInt

from ..core import config


class Explain(config.Section):
    """Section `explain`: how many examples are explained, and at what cost.

    Attributes:
        seed: Seed of whatever is sampled.
        examples: Maximum number of test examples that are explained; 0 leaves the stage without work.
        shown: Maximum number of the worst examples that are shown one by one, and as many typical ones.
        background: Maximum number of training rows of a table with which an example is compared.
        budget: Maximum number of multiplications by the model's weights, in billions.
    """

    seed: NonNegativeInt
    examples: NonNegativeInt
    shown: PositiveInt
    background: PositiveInt
    budget: PositiveInt
