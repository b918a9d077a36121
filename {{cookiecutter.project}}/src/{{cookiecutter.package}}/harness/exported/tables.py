"""The parts of a row: columns of a table, beside those of a typical row; values that they could have instead."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.text import date, entry
from ..inputs import tables
from ..inputs.table_notation import notation
from . import counterfactuals

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..contracts import Description

    Row = Mapping[str, NDArray[Any]]


def schema(description: Description) -> dict[str, Any]:
    """JSON schema of the attributions."""
    properties = {column["name"]: {"type": "number"} for column in description["columns"]}
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}


class Parts:
    """The columns of rows.

    Attributes:
        count: Number of columns.
        rows: Number of coalitions that explain one row, about.
    """

    rows = 128

    def __init__(self, description: Description, reference: Mapping[str, Any]) -> None:
        """Reads the typical row and the candidates.

        Args:
            description: Content of models/model.json.
            reference: Content of models/explain.json.
        """
        rule = notation(description)
        self._kinds = {column["name"]: column["type"] for column in description["columns"]}
        readers = {name: tables.cell_reader(kind, rule, name) for name, kind in self._kinds.items()}
        self._baseline = {
            name: _array(kind, [readers[name](reference["baseline"][name])]) for name, kind in self._kinds.items()
        }
        self._candidates = {
            name: _array(self._kinds[name], [readers[name](value) for value in values])
            for name, values in reference["values"].items()
            if name not in reference["fixed"]
        }
        self.count = len(self._kinds)

    def mixed(self, row: Row, coalitions: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
        """Rows with the columns of each coalition, the others from the typical row: column -> [M].

        Args:
            row: The row to explain: column -> [1].
            coalitions: Columns of `row`, in the order of the model's, bool [M, P].
        """
        members = np.ascontiguousarray(coalitions.T)
        pairs = zip(self._baseline.items(), members, strict=True)
        return {name: np.where(mask, row[name], typical) for (name, typical), mask in pairs}

    def text(self, row: Row, place: int) -> str:
        """A column in words, with its value and the typical one.

        Args:
            row: The row to explain: column -> [1].
            place: Index of the column.
        """
        name = list(self._kinds)[place]
        return f"{name} = {self._text(name, row[name][0])} (typically {self._text(name, self._baseline[name][0])})"

    def report(self, values: NDArray[np.float64]) -> dict[str, float]:
        """Attributions in a response of the service: column -> value."""
        return dict(zip(self._kinds, values.tolist(), strict=True))

    def costs(self, row: Row) -> dict[str, list[float]]:
        """How far each candidate is from the value in a row: column -> costs."""
        return {name: counterfactuals.costs(row[name][0], values) for name, values in self._candidates.items()}

    def changed(self, row: Row, trials: Sequence[counterfactuals.Changes]) -> dict[str, NDArray[Any]]:
        """A row with each of many sets of changes: column -> [M].

        Args:
            row: The row: column -> [1].
            trials: Sets of changes.
        """
        rows = {name: np.repeat(row[name], len(trials)) for name in self._kinds}
        for place, changes in enumerate(trials):
            for name, value in changes.items():
                rows[name][place] = self._candidates[name][value]
        return rows

    def described(self, row: Row, changes: counterfactuals.Changes) -> dict[str, dict[str, Any]]:
        """A set of changes in a response of the service: column -> its value in the row and the new one."""
        return {
            name: {"from": self._shown(name, row[name][0]), "to": self._shown(name, self._candidates[name][value])}
            for name, value in changes.items()
        }

    def _shown(self, name: str, value: Any) -> float | str | None:
        """A value as in requests."""
        if isinstance(value, str):
            return value or None
        if math.isnan(value):
            return None
        if self._kinds[name] != "date":
            return float(value)
        return date(float(value))

    def _text(self, name: str, value: Any) -> str:
        shown = self._shown(name, value)
        if shown is None:
            return "missing"
        return shown if isinstance(shown, str) else entry(shown)


def _array(kind: str, values: Sequence[float | str]) -> NDArray[Any]:
    return np.array(values, np.object_ if kind == "category" else np.float64)
