"""What is counted of the rows of a table: their columns."""

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from ..contracts import Description
from ..core.errors import UserError, choice


def columns(description: Description, monitored: Sequence[str]) -> dict[str, str]:
    """Columns of the model -> their type.

    A date moves on by itself, so it is counted only if it is named.

    Args:
        description: Content of models/model.json.
        monitored: Names of columns; empty for all but dates.

    Raises:
        UserError: If the model has no such column.
    """
    types = {column["name"]: column["type"] for column in description["columns"]}
    for name in monitored:
        if name not in types:
            raise UserError(f"evaluate.monitored: the model has no column {name!r}; {choice(name, [*types])}")
    names = monitored or [name for name, kind in types.items() if kind != "date"]
    return {name: types[name] for name in names}


def values(feeds: Mapping[str, NDArray[Any]], columns: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Values of columns: float64 [N], NaN if missing, or object [N] of str, "" if missing.

    Args:
        feeds: Column -> array [N].
        columns: Names of the columns.
    """
    return {name: feeds[name] for name in columns}
