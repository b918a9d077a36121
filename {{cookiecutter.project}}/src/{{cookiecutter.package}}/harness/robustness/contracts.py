"""Scores of a kind of target, and the results of changing its examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..contracts import Description, Manifest
    from ..evaluation.settings import Evaluate


class Kind(Protocol):
    """Scores of a kind of target: module `classification` or `regression`.

    Outputs are those of the exported model for the examples, float32 [n, ...], targets are [n].

    Attributes:
        METRIC: Name of the mean score in the report.
        HARM: Sign of a change of the score that makes it worse.
    """

    METRIC: str
    HARM: int

    def score(self, outputs: NDArray[np.float32], targets: NDArray[Any]) -> NDArray[np.float64]:
        """Score of each example, [n]."""

    def loss(self, outputs: NDArray[np.float32], targets: NDArray[Any]) -> NDArray[np.float64]:
        """What an attack increases, [n]."""

    def settled(self, outputs: NDArray[np.float32], targets: NDArray[Any]) -> NDArray[np.bool_]:
        """Mask of the examples that an attack need not change any further, [n]."""

    def answer(self, output: NDArray[np.float32], manifest: Manifest) -> str:
        """The answer for one example, as text."""

    def directions(
        self, description: Description, columns: Sequence[str], targets: NDArray[Any]
    ) -> list[NDArray[np.float64]]:
        """Slopes of a linear model's losses, of which one leads to the worst change.

        Args:
            description: Content of models/model.json, with coefficients.
            columns: Names of the F columns that change.
            targets: Targets of the examples, [n].

        Returns:
            Arrays [n, F].
        """


class Subject(NamedTuple):
    """The test examples to change, and the model that answers them.

    Attributes:
        rows: Rows of the test split, int64 [n].
        targets: Their targets, [n].
        total: Number of examples in the test split.
        manifest: Manifest of the prepared data.
        description: Content of models/model.json.
        kind: Scores of the target.
        outputs: Inputs of the exported model -> outputs, float32 [m, ...].
        settings: Section `evaluate` of the configuration.
    """

    rows: NDArray[np.int64]
    targets: NDArray[Any]
    total: int
    manifest: Manifest
    description: Description
    kind: Kind
    outputs: Callable[[Mapping[str, NDArray[Any]]], NDArray[np.float32]]
    settings: Evaluate


class Trial(NamedTuple):
    """The examples after one change.

    Attributes:
        name: Name of the attack or natural change, for the gate.
        title: The same in words, with the effort of an attack.
        strength: Largest change of a number (epsilon), or strength of a natural change.
        outputs: Outputs of the exported model, float32 [n, ...].
        values: The changed numbers, [n, ...]; None if no example of them is shown.
    """

    name: str
    title: str
    strength: float
    outputs: NDArray[np.float32]
    values: NDArray[Any] | None = None


class Study(NamedTuple):
    """All trials with a model.

    Attributes:
        subject: The examples and the model.
        unit: What an epsilon is measured in, in words.
        clean: Outputs for the unchanged examples, float32 [n, ...].
        attacks: Changes within epsilon; the first is noise. Every attack has every epsilon.
        changes: Natural changes, such as fog or missing values.
        notes: What was left out, in sentences.
    """

    subject: Subject
    unit: str
    clean: NDArray[np.float32]
    attacks: Sequence[Trial]
    changes: Sequence[Trial]
    notes: Sequence[str]

    @property
    def middle(self) -> float:
        """The epsilon of which the report shows examples."""
        return middle([trial.strength for trial in self.attacks])


def middle(epsilons: Sequence[float]) -> float:
    """The epsilon of which the report shows examples, the upper one of two in the middle."""
    distinct = sorted(set(epsilons))
    return distinct[len(distinct) // 2]
