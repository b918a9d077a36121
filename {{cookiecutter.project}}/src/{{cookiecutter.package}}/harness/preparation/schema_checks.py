"""Cells that violate the schema, and why."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.errors import closest
from .schema import Column

if TYPE_CHECKING:
    import pandera.pandas as pandera
    import pyarrow as pa

ADVICE = {
    "type": "fix the cell or make it empty",
    "size": "the model computes with 32-bit numbers: fix the cell or make it empty",
    "encoding": "save the file in one encoding, the one that data.encoding names",
    "null": "fill it in, or allow missing values with `nulls:` in the schema",
    "category": "fix the cell, or add it to the schema if it is right",
    "range": "fix the cell, or widen `min:` and `max:` in the schema if it is right",
    "duplicate": "remove one of the rows",
    "ragged": "quote a cell that holds the delimiter or a line end, remove surplus cells",
}
_PANDERA = {
    "not_nullable": "null",
    "isin": "category",
    "greater_than_or_equal_to": "range",
    "less_than_or_equal_to": "range",
}  # name of pandera's check -> kind of violation


class Cells(NamedTuple):
    """Cells of one column that violate the schema in the same way.

    Attributes:
        column: Name of the column.
        kind: Kind of violation, one of `ADVICE`.
        rows: int64 [n], ascending positions in the part of the table.
    """

    column: str
    kind: str
    rows: NDArray[np.int64]


def build(columns: Mapping[str, Column]) -> "pandera.DataFrameSchema":
    """The schema as pandera's object, for columns of float64, str and datetime64[us].

    Args:
        columns: The schema.
    """
    import pandera.pandas as pandera

    types = {"number": "float64", "category": "str", "text": "str", "time": "datetime64[us]"}

    def checks(column: Column) -> list[Any]:
        bounds = [pandera.Check.ge(column.min)] if column.min is not None else []
        bounds += [pandera.Check.le(column.max)] if column.max is not None else []
        return bounds + ([pandera.Check.isin(column.categories)] if column.categories is not None else [])

    return pandera.DataFrameSchema(
        {
            name: pandera.Column(types[column.type], checks(column), nullable=column.nulls > 0)
            for name, column in columns.items()
        },
        strict=True,
    )


def violations(rows: "pa.RecordBatch", columns: Mapping[str, Column]) -> list[Cells]:
    """All cells that the schema forbids.

    pandera takes as long as reading the file. It therefore checks only the columns whose extremes, nulls or texts show
    a violation; it is not even imported for sound data.

    Args:
        rows: Columns of doubles, strings or timestamp[us].
        columns: The schema of these columns.
    """
    suspects = {name: column for name, column in columns.items() if _suspicious(rows[name], column)}
    if not suspects:
        return []
    from pandera.errors import SchemaErrors

    try:
        build(suspects).validate(rows.select(list(suspects)).to_pandas(), lazy=True)
    except SchemaErrors as error:
        cases = error.failure_cases
        kinds = cases["check"].astype(str).str.split("(").str[0].map(_PANDERA)
        return [
            Cells(str(column), str(kind), np.unique(places.to_numpy(np.int64)))
            for (column, kind), places in cases["index"].groupby([cases["column"], kinds])
        ]
    return []


def _suspicious(values: "pa.Array", column: Column) -> bool:
    import pyarrow.compute as pc

    if values.null_count and not column.nulls:
        return True
    if column.type == "number" and not (column.min is None and column.max is None):
        extremes = pc.min_max(values).as_py()
        low, high = extremes["min"], extremes["max"]
        return low is not None and (
            (column.min is not None and low < column.min) or (column.max is not None and high > column.max)
        )
    if column.categories is not None:
        return not set(values.unique().drop_null().to_pylist()) <= set(column.categories)
    return False


def suggestion(word: str, known: list[str]) -> str:
    """The words "(did you mean ...?)" for the known word that is most like another, else nothing.

    Args:
        word: The unknown word.
        known: The known words.
    """
    close = closest(word, known)
    return f" (did you mean {close!r}?)" if close else ""


def explain(kind: str, value: str, column: Column | None, path: Path) -> str:
    """A violation in one line: what is wrong with a cell, and what to do.

    Args:
        kind: Kind of violation, one of `ADVICE`.
        value: The cell as text; what is wrong with the row if it is `ragged`.
        column: The schema of the cell's column, None for a whole row.
        path: The file of the schema.
    """
    advice = ADVICE[kind].replace("the schema", str(path))
    if kind == "category" and column is not None:
        known = column.categories or []
        return f"{value!r} is none of the {len(known)} known categories{suggestion(value, known)}: {advice}"
    if kind == "range" and column is not None:
        bounds = "..".join("" if bound is None else f"{bound:g}" for bound in (column.min, column.max))
        return f"{value} is outside {bounds}: {advice}"
    errors = {
        "type": f"{value!r} is no {column.type if column else 'value'}",
        "size": f"{value} is too large or infinite",
        "encoding": f"{value!r} is no valid text",
        "null": "is empty",
        "duplicate": f"{value!r} has occurred before",
        "ragged": value,
    }
    return f"{errors[kind]}: {advice}"
