"""Checks of cells against the schema."""

import re
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
    "type": "fix the cell, or, if it means a missing value, add it to data.nulls and allow `nulls:` in the schema",
    "code": "fix the cell; if it means a missing value, add it to data.nulls and allow `nulls:` in the schema; or, if "
    "the column holds codes, name it in data.categories and infer the schema again",
    "size": "the model computes with 32-bit numbers: fix the cell, or make it empty and allow `nulls:` in the schema",
    "encoding": "set data.encoding to the encoding of the file, or save the whole file as UTF-8",
    "null": "fill in a value, or allow missing values with `nulls:` in the schema",
    "null in role": "fill in a value, or leave out such rows with data.on_invalid: drop",
    "word": "if it is a value, remove it from data.nulls; if not, allow missing values with `nulls:` in the schema",
    "word in role": "if it is a value, remove it from data.nulls; if not, leave out such rows with data.on_invalid: "
    "drop",
    "category": "fix the cell, or add it to the schema if it is valid",
    "range": "fix the cell, or widen `min:` and `max:` in the schema if it is valid",
    "duplicate": "remove one of the rows",
    "ragged": "quote cells that contain the delimiter or a line end, or remove surplus cells",
}
_CODE = re.compile(r"(?=.*\d)[\w./-]+")  # a text that may be a code, such as 2A004
_PANDERA = {
    "not_nullable": "null",
    "isin": "category",
    "greater_than_or_equal_to": "range",
    "less_than_or_equal_to": "range",
}  # pandera's name of a check -> kind of violation


class Cells(NamedTuple):
    """Cells of one column that violate the schema in the same way.

    Attributes:
        column: Name of the column.
        kind: Kind of violation, one of `ADVICE`.
        rows: Ascending positions in the part of the table, int64 [n].
    """

    column: str
    kind: str
    rows: NDArray[np.int64]


def build(columns: Mapping[str, Column]) -> "pandera.DataFrameSchema":
    """The schema as a pandera object, for float64, str and datetime64[us].

    Args:
        columns: The schema.
    """
    import pandera.pandas as pandera

    types = {"number": "float64", "date": "float64", "category": "str", "text": "str", "time": "datetime64[us]"}

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
    """All cells that violate the schema.

    pandera would take as long as reading the file. It therefore checks only columns whose extremes, nulls or texts show
    a violation, and is not imported for valid data.

    Args:
        rows: Columns of doubles, strings or timestamp[us].
        columns: Schema of these columns.
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
    """A suffix " (did you mean ...?)"; empty if no known word is similar.

    Args:
        word: The unknown word.
        known: The known words.
    """
    close = closest(word, known)
    return f" (did you mean {close!r}?)" if close else ""


def explain(kind: str, value: str, column: Column | None, path: Path, in_role: bool) -> str:
    """A violation in one line, with advice.

    Args:
        kind: Kind of violation, one of `ADVICE`.
        value: The cell as text, "" if empty; for a `ragged` row, the error.
        column: Schema of the cell's column; None for a whole row.
        path: File of the schema.
        in_role: Whether the column is target, id, time or group, and must have a value in every row.
    """
    if column is not None and column.private:
        value = "..." if value else ""
    case = kind if kind != "null" else ("word" if value else "null") + (" in role" if in_role else "")
    if kind == "type" and column is not None and column.type == "number" and not in_role and _CODE.fullmatch(value):
        case = "code"
    advice = ADVICE[case].replace("the schema", str(path))
    if kind == "category" and column is not None:
        known = column.categories or []
        return f"{value!r} is not among the {len(known)} known categories{suggestion(value, known)}: {advice}"
    if kind == "range" and column is not None:
        bounds = "..".join("" if bound is None else f"{bound:g}" for bound in (column.min, column.max))
        return f"{value} is outside {bounds}: {advice}"
    errors = {
        "type": f"{value!r} is not a {column.type if column else 'value'}",
        "size": f"{value} is too large or infinite",
        "encoding": f"{value!r} is not valid text",
        "null": f"{value!r} is a word for a missing value" if value else "is empty",
        "duplicate": f"{value!r} has occurred before",
        "ragged": value,
    }
    return f"{errors[kind]}: {advice}"
