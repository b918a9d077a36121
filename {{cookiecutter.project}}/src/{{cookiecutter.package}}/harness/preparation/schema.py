"""The schema of a table: inferred once, reviewed, committed; every later run of `prepare` is checked against it.

    python -m <package>.data.schema            writes the file that data.schema names
    python -m <package>.data.schema --force    overwrites it: read the difference before you commit

One line a column, to be read in a review. pandera's own YAML takes ten lines for the same and knows no null rate, so
this file is turned into pandera's objects instead, which judge the rows:

    age: {type: number, min: 0, max: 130, nulls: 0.02}

type        number | category | text (an identifier or group) | time
min, max    of a number. Inferred: the range seen, wider by half its width at both ends; without negative values seen,
            not below 0. Meant for a wrong unit or a -999, not for outliers
categories  all that may occur; left out above 1,000: then any text may
nulls       the largest fraction of missing values. Inferred: twice the one seen; 0: a missing value is a violation
unique      no value may occur twice
constant    the column had one value only, and may have so; another one that becomes constant is a violation
"""

import difflib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..core import config
from ..core.errors import UserError
from ..core.paths import NAME

if TYPE_CHECKING:
    import pandera.pandas as pandera
    import pyarrow as pa


LISTED = 1000  # violations kept in the report; all of them are counted


def stop_at(problems: Sequence[str]) -> None:
    """Stops at what no policy can mend."""
    if len(problems) == 1:
        raise UserError(problems[0])
    for problem in problems[:LISTED]:
        print(f"prepare: {problem}", file=sys.stderr)
    if problems:
        raise UserError(f"the table does not fit in {len(problems)} ways, listed above")


MAX_CATEGORIES = 1000
Rate = Annotated[float, Field(ge=0, le=1)]


class Column(config.Section):
    """A line of the schema; see above."""

    type: Literal["number", "category", "text", "time"]
    min: float | None = None
    max: float | None = None
    categories: list[str] | None = None
    nulls: Rate = 0.0
    unique: bool = False
    constant: bool = False


class Cells(NamedTuple):
    """Cells of one column of a chunk that violate the schema in the same way.

    Attributes:
        column: Its name.
        kind: One of `ADVICE`.
        rows: int64 [n], positions in the chunk, ascending.
    """

    column: str
    kind: str
    rows: NDArray[np.int64]


ADVICE = {
    "type": "mend the cell or make it empty",
    "size": "the model computes with 32-bit numbers: mend the cell or make it empty",
    "encoding": "save the file in one encoding, the one that data.encoding names",
    "null": "fill it in, or allow missing values with `nulls:` in the schema",
    "category": "mend the cell, or add it to the schema if it is right",
    "range": "mend the cell, or widen `min:` and `max:` in the schema if it is right",
    "duplicate": "remove one of the rows",
    "ragged": "quote a cell that holds the delimiter or a line end, remove what is too much",
}


def load(path: Path) -> dict[str, Column]:
    """Returns the schema: column -> what it may hold, in the file's order.

    Args:
        path: The file.

    Raises:
        UserError: Where it is missing, no YAML, or a line of it is not valid.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"data.schema: there is no {path}: write it with `python -m {NAME} schema`, read and commit it"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path} cannot be read as YAML: {' '.join(str(error).split())}") from None
    columns = content.get("columns") if isinstance(content, dict) else None
    if not isinstance(columns, dict) or not columns or not all(isinstance(name, str) for name in columns):
        raise UserError(f"{path}: `columns:` with a line for each column is expected (quote names that are numbers)")
    config.check(columns, dict.fromkeys(columns, Column), origin=str(path))
    return {name: Column.model_validate(values) for name, values in columns.items()}


def build(columns: Mapping[str, Column]) -> "pandera.DataFrameSchema":
    """Returns the schema as pandera's object; it takes float64, str and datetime64[us] columns.

    Args:
        columns: Column -> what it may hold.
    """
    import pandera.pandas as pandera

    kinds = {"number": "float64", "category": "str", "text": "str", "time": "datetime64[us]"}

    def checks(column: Column) -> list[Any]:
        found = [pandera.Check.ge(column.min)] if column.min is not None else []
        found += [pandera.Check.le(column.max)] if column.max is not None else []
        return found + ([pandera.Check.isin(column.categories)] if column.categories is not None else [])

    return pandera.DataFrameSchema(
        {
            name: pandera.Column(kinds[column.type], checks(column), nullable=column.nulls > 0)
            for name, column in columns.items()
        },
        strict=True,
    )


def violations(chunk: "pa.RecordBatch", columns: Mapping[str, Column]) -> list[Cells]:
    """Returns every cell that the schema forbids.

    pandera takes as long as reading the file does. So it is asked about those columns of a chunk only whose extremes,
    nulls or set of values show that something is wrong; with sound data it is never imported.

    Args:
        chunk: Typed columns: double, string or timestamp[us].
        columns: Column -> what it may hold; those of the chunk.
    """
    suspects = {name: column for name, column in columns.items() if _suspicious(chunk[name], column)}
    if not suspects:
        return []
    from pandera.errors import SchemaErrors

    try:
        build(suspects).validate(chunk.select(list(suspects)).to_pandas(), lazy=True)
    except SchemaErrors as error:
        cases = error.failure_cases
        kinds = cases["check"].astype(str).str.split("(").str[0].map(_KINDS)
        return [
            Cells(str(column), str(kind), np.unique(rows.to_numpy(np.int64)))
            for (column, kind), rows in cases["index"].groupby([cases["column"], kinds])
        ]
    return []


_KINDS = {
    "not_nullable": "null",
    "isin": "category",
    "greater_than_or_equal_to": "range",
    "less_than_or_equal_to": "range",
}


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


def closest(word: str, known: Sequence[str]) -> str:
    """Returns a question about the known word that is most like this one, if one is."""
    close = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def reason(kind: str, value: str, column: Column | None, path: Path) -> str:
    """Returns what is wrong with a cell and what to do, in one line.

    Args:
        kind: One of `ADVICE`.
        value: The cell, as text.
        column: What it may hold; None where the whole row is wrong.
        path: The schema.
    """
    advice = ADVICE[kind].replace("the schema", str(path))
    if kind == "category" and column is not None:
        known = column.categories or []
        return f"{value!r} is none of the {len(known)} known categories{closest(value, known)}: {advice}"
    if kind == "range" and column is not None:
        bounds = "..".join("" if bound is None else f"{bound:g}" for bound in (column.min, column.max))
        return f"{value} is outside {bounds}: {advice}"
    what = {
        "type": f"{value!r} is no {column.type if column else 'value'}",
        "size": f"{value} is too large or infinite",
        "encoding": f"{value!r} is no valid text",
        "null": "is empty",
        "duplicate": f"{value!r} has occurred before",
        "ragged": value,
    }
    return f"{what[kind]}: {advice}"
