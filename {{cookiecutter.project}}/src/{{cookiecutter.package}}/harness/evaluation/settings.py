"""Section `evaluate` of the configuration."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Tag,
    model_validator,
)

from ..core import config
from ..core.errors import UserError, choice

if TYPE_CHECKING:
    from ..contracts import Manifest

Fraction = Annotated[float, Field(gt=0, lt=1)]
Name = Annotated[str, BeforeValidator(str)]  # of a class: YAML reads 4 as a number
Cost = Annotated[
    Annotated[PositiveFloat, Tag("cost")] | Annotated[dict[Name, PositiveFloat], Tag("answer")],
    Discriminator(lambda value: "answer" if isinstance(value, dict) else "cost"),
]
Costs = dict[Name, Cost]


class Decision(config.Section):
    """How a class is answered; without this section, it is the most probable one.

    Attributes:
        sensitivity: Class -> fraction of its examples to find, at least; of two classes.
        costs: Class -> cost of a wrong answer to an example of it, or answer -> cost; what is not named costs 1.
        coverage: Fraction of the prediction sets that contain the true class; None for no sets.
        abstain: Whether the label is left open if the prediction set has several classes.
    """

    sensitivity: Annotated[dict[str, Fraction], Field(min_length=1, max_length=1)] | None = None
    costs: Costs | None = None
    coverage: Fraction | None = None
    abstain: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.sensitivity and self.costs:
            raise ValueError("sensitivity and costs are two goals of one decision: choose one")
        if not (self.sensitivity or self.costs or self.coverage):
            raise ValueError("nothing is decided here: set sensitivity, costs or coverage, or null")
        if self.abstain and not self.coverage:
            raise ValueError("abstain needs prediction sets: set coverage, for instance to 0.9")
        return self


class Evaluate(config.Section):
    """Section `evaluate`: bootstrap, examples, slices, decision.

    Attributes:
        seed: Seed of the bootstrap.
        resamples: Number of bootstrap resamples.
        confidence: Confidence level of the metrics' intervals, between 0 and 1.
        examples: Maximum number of examples with the largest errors in the model card.
        shipped: Maximum number of test examples on the page of the service; they are released with the model.
        slices: Columns by which the test examples are also evaluated apart: inputs of the model or `data.group`;
            `brightness`, `contrast` or `size` of pictures.
        decision: How a class is answered; None for the most probable one.
        monitored: Columns that are compared in production, at most 50; of pictures `brightness`, `contrast`,
            `sharpness`; empty for all, of a table without dates.
        quasi_identifiers: Columns of a table by which together a person could be recognized; the model card tells the
            size of the smallest group of rows that are alike in them.
        fixed: Columns of a table that a person cannot change, such as age; counterfactuals and attacks leave them
            unchanged.
    """

    seed: NonNegativeInt
    resamples: Annotated[int, Field(ge=100)]
    confidence: Fraction
    examples: PositiveInt
    shipped: NonNegativeInt
    slices: list[str] = Field(default_factory=list)
    decision: Decision | None = None
    monitored: Annotated[list[str], Field(max_length=50)] = Field(default_factory=list)
    quasi_identifiers: list[str] = Field(default_factory=list)  # pictures have no columns
    fixed: list[str] = Field(default_factory=list)


def check_fixed(fixed: Sequence[str], manifest: "Manifest", key: str = "fixed") -> None:
    """Rejects a fixed column that the model does not have.

    Args:
        fixed: Names of columns.
        manifest: Manifest of the prepared data.
        key: Key of the setting.

    Raises:
        UserError: Naming the column, and the one that is probably meant.
    """
    known = [column["name"] for column in manifest.get("columns", [])]
    for name in fixed:
        if name in known:
            continue
        if not known:
            raise UserError(f"evaluate.{key}: {name!r} is no column, because pictures have no columns: remove it")
        raise UserError(f"evaluate.{key}: the model has no column {name!r}; {choice(name, known)}")
