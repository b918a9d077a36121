"""Protocols of the modules that say what is counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..contracts import Description


class Subject(Protocol):
    """What is counted of inputs: `images` or `tables`."""

    def columns(self, description: Description, monitored: Sequence[str]) -> dict[str, str]:
        """Columns that can be counted -> their type: `number`, `category` or `date`.

        Args:
            description: Content of models/model.json.
            monitored: Names of columns; empty for the default.

        Raises:
            UserError: If there is no such column.
        """

    def values(self, feeds: Mapping[str, NDArray[Any]], columns: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Values of columns: float64 [N], NaN if missing, or object [N] of str, "" if missing.

        Args:
            feeds: Inputs of the exported model: name -> array [N, ...].
            columns: Names of the columns.
        """


class Verdicts(Protocol):
    """What is counted of answers: `classification` or `regression`."""

    def answers(self, outputs: NDArray[np.float32], description: Description) -> NDArray[Any]:
        """Answers: object [N] of str, or float64 [N].

        Args:
            outputs: Outputs of the exported model, float32 [N, ...].
            description: Content of models/model.json, with `decision` if there is one.
        """

    def choices(self, description: Description) -> list[str] | None:
        """All possible answers; None for numbers.

        Args:
            description: Content of models/model.json, with `decision` if there is one.
        """

    def confidence(self, outputs: NDArray[np.float32], description: Description) -> NDArray[np.float64]:
        """The number by which right answers are foretold, float64 [N].

        Args:
            outputs: Outputs of the exported model, float32 [N, ...].
            description: Content of models/model.json, with `decision` if there is one.
        """

    def right(
        self, outputs: NDArray[np.float32], targets: NDArray[Any], description: Description
    ) -> NDArray[np.bool_] | None:
        """Whether answers are right, bool [N]; None if the model cannot tell.

        Args:
            outputs: Outputs of the exported model, float32 [N, ...].
            targets: Targets: class indices, int64 [N], or numbers, float64 [N].
            description: Content of models/model.json, with `decision` if there is one.
        """
