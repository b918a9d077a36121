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

import argparse
import difflib
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from .. import cli, config
from ..cli import UserError
from .table_files import LARGEST, as_numpy, convert

if TYPE_CHECKING:
    import pandera.pandas as pandera
    import pyarrow as pa

    from .tables import Table

MAX_CATEGORIES = 1000
MOSTLY = 0.9  # a column with so many numbers is meant to hold numbers: the rest are violations

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
            f"data.schema: there is no {path}: write it with `python -m {__package__}.schema`, read and commit it"
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


class _Seen:
    """What a pass over a column has seen, in bounded memory."""

    def __init__(self) -> None:
        self.rows = self.nulls = self.numbers = self.times = 0
        self.low, self.high = math.inf, -math.inf
        self.values: set[str] | None = set()

    def add(self, values: "pa.Array", is_time: bool) -> None:
        import pyarrow.compute as pc

        self.rows += len(values)
        self.nulls += values.null_count
        counted = values.value_counts()  # each different cell is looked at once
        cells, counts = counted.field("values"), as_numpy(counted.field("counts"))
        numbers, _ = convert(cells, "number")
        self.numbers += int(counts[as_numpy(numbers.is_valid())].sum())
        if len(numbers) > numbers.null_count:
            extremes = pc.min_max(numbers).as_py()
            self.low, self.high = min(self.low, extremes["min"]), max(self.high, extremes["max"])
        elif is_time:
            times, _ = convert(cells, "time")
            self.times += int(counts[as_numpy(times.is_valid())].sum())
        if self.values is not None:
            text, _ = convert(cells, "text")
            self.values.update(text.drop_null().to_pylist())
            if len(self.values) > MAX_CATEGORIES:
                self.values = None

    def mostly(self, count: int) -> bool:
        return count > 0 and count >= MOSTLY * (self.rows - self.nulls)


def infer(source: "Table") -> dict[str, Column]:
    """Reads all of a table and returns the schema it meets.

    Args:
        source: The table.

    Raises:
        UserError: Where the files or the configured columns do not fit, or nothing is in them.
    """
    names = source.header()
    seen = {name: _Seen() for name in names}
    for _, part in source.chunks(dict.fromkeys(names, "raw")):
        for name, values in zip(names, part.values.columns, strict=True):
            seen[name].add(values, name == source.time)
    if not names or not seen[names[0]].rows:
        raise UserError(f"{source.label}: has no rows below its header, nothing can be learnt from it")
    return {name: _column(name, found, source) for name, found in seen.items()}


def _column(name: str, seen: _Seen, source: "Table") -> Column:
    numeric, constant = seen.mostly(seen.numbers), seen.values is not None and len(seen.values) < 2
    role = name in (source.target, source.id, source.time, source.group)
    nulls = 0.0 if role else min(1.0, math.ceil(200 * seen.nulls / seen.rows) / 100)
    if name == source.time and not numeric:
        if not seen.mostly(seen.times):
            raise UserError(f"data.time: column {name!r} holds neither numbers nor times such as 2026-01-31T12:00:00")
        return Column(type="time")
    if name in (source.id, source.group) and name != source.target:
        return Column(type="text", unique=name == source.id)
    wants_category = name in source.categories or (name == source.target and source.problem == "classification")
    if name == source.target and source.problem == "regression" and not numeric:
        raise UserError(f"data.target: column {name!r} holds no numbers: choose another one or problem: classification")
    if numeric and not wants_category:
        if bad := seen.rows - seen.nulls - seen.numbers:
            print(
                f"schema: column {name!r}: {bad} cells are no usable numbers; `prepare` will list them", file=sys.stderr
            )
        low, high = _range(seen.low, seen.high)
        return Column(type="number", min=low, max=high, nulls=nulls, constant=constant)
    if seen.values is None and not wants_category:
        print(
            f"schema: column {name!r} has more than {MAX_CATEGORIES} different texts: an identifier or a free text? "
            "Name it in data.drop, or leave it as it is: new texts are then allowed",
            file=sys.stderr,
        )
    if seen.values is None and name == source.target:
        raise UserError(
            f"data.target: column {name!r} has more than {MAX_CATEGORIES} classes: choose problem: regression or "
            "another column"
        )
    categories = None if seen.values is None else sorted(seen.values)
    return Column(type="category", categories=categories, nulls=nulls, constant=constant)


def _range(low: float, high: float) -> tuple[float, float]:
    """Returns the range seen, wider by half its width at both ends (a constant: by half its size), in 3 digits."""
    slack = (high - low) / 2 or abs(low) / 2 or 1.0
    step = 10.0 ** (math.floor(math.log10(slack)) - 1)
    wide = (math.floor((low - slack) / step) * step, math.ceil((high + slack) / step) * step)
    lowest, highest = (float(f"{max(-LARGEST, min(LARGEST, bound)):.12g}") for bound in wide)
    return (max(0.0, lowest) if low >= 0 else lowest), (min(0.0, highest) if high <= 0 else highest)


def write(columns: Mapping[str, Column], path: Path) -> None:
    """Writes a schema as YAML, what is as by default left out.

    Args:
        columns: Column -> what it may hold.
        path: The file.
    """
    import yaml

    content = {"columns": {name: column.model_dump(exclude_defaults=True) for name, column in columns.items()}}
    text = yaml.safe_dump(content, default_flow_style=None, width=100, allow_unicode=True, sort_keys=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    head = "# `prepare` checks every row against this; data/schema.py of the package explains each key.\n"
    path.write_text(head + text, encoding="utf-8")


def main() -> None:
    """Infers the schema of the configured table and writes it."""
    from omegaconf import OmegaConf

    from . import tables

    parser = argparse.ArgumentParser(prog=f"python -m {__package__}.schema", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--force", action="store_true", help="overwrite the file that is there")
    force = parser.parse_args().force
    raw: Any = OmegaConf.to_container(OmegaConf.create(config.compose()))
    config.check({"data": raw.get("data")}, {}, ["data"])
    source = config.instantiate(raw["data"])
    if not isinstance(source, tables.Table):
        raise UserError(f"data: {raw['data']['_target_']} reads no table; only tables have a schema")
    if source.schema.exists() and not force:
        raise UserError(f"{source.schema} exists: edit it, or overwrite it with --force and read the difference")
    columns = infer(source)
    write(columns, source.schema)
    print(f"{source.schema}: {len(columns)} columns. Read it, correct it, commit it", file=sys.stderr)


if __name__ == "__main__":
    cli.run(main)
