"""How a model of tables is asked: read requests, as raw rows.

Nothing is encoded here: the exported model takes the columns as they are. A number is float64, NaN where missing; a
category is text, "" where missing. The service imports this module where it does not predict as well: NumPy is
imported where arrays are made.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import pydantic
from annotated_types import Len

if TYPE_CHECKING:
    import numpy as np

FILE = "A CSV file in UTF-8 with a header; other columns than the model's are ignored"
MAX_ROWS = 100_000  # of a file
# Cells of a CSV file that are no value, for `prepare` as well.
NULLS = ("", "NA", "N/A", "#N/A", "n/a", "NaN", "nan", "NULL", "null", "None")
DELIMITERS = (",", ";", "\t", "|")
# float() alone would take 1_000 and digits of other scripts, which no reader of CSV files does.
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


class InputError(ValueError):
    """The file cannot be used; the message is one line for a person."""


def request_model(description: Mapping[str, Any], most: int) -> type[pydantic.BaseModel]:
    """Make the model that parses and checks a JSON body: rows as objects, each with exactly the model's columns.

    Args:
        description: models/model.json.
        most: The most instances of one request.
    """
    config = pydantic.ConfigDict(extra="forbid", strict=True)
    number: Any = Annotated[float, pydantic.Field(allow_inf_nan=False)] | None
    # Fields have names of their own: the columns' may be no identifiers.
    fields: Any = {
        f"column_{i}": (number if column["type"] == "number" else str | None, pydantic.Field(alias=column["name"]))
        for i, column in enumerate(description["columns"])
    }
    row: Any = pydantic.create_model("Row", __config__=config, **fields)
    rows: Any = Annotated[list[row], Len(1, most), pydantic.FailFast()]
    return pydantic.create_model("Rows", __config__=config, instances=(rows, ...))


def from_json(instances: Sequence[Any], description: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Convert parsed instances to what the exported model takes.

    Args:
        instances: Objects of the model that `request_model` made.
        description: models/model.json.
    """
    return _feeds(
        [[getattr(row, f"column_{i}") for row in instances] for i in range(len(description["columns"]))], description
    )


def from_file(data: bytes, description: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Read a CSV file as what the exported model takes.

    Args:
        data: Its content: UTF-8, with or without a byte order mark, with a header, separated by the first of
            `DELIMITERS` that finds the model's columns. Other columns are ignored, so that the file which trained the
            model can be sent as it is.
        description: models/model.json.

    Raises:
        InputError: The file cannot be used; the message names the row, from 1 below the header, and the column.
    """
    text = _text(data)
    columns = description["columns"]
    names = [column["name"] for column in columns]
    delimiter, header = find_header(text, names)
    places = [(header.index(column["name"]), column["name"], column["type"] == "number") for column in columns]
    values: list[list[float | str | None]] = [[] for _ in columns]
    row = 0
    for row, cells in enumerate(_rows(text, delimiter)):
        if not row:
            continue  # the header
        if row > MAX_ROWS:
            raise InputError(f"it has more than {MAX_ROWS:,} rows: send it in parts")
        if len(cells) != len(header):
            raise InputError(f"row {row} has {len(cells)} cells, the header has {len(header)}")
        for column, (place, name, is_number) in zip(values, places, strict=True):
            cell = cells[place].strip() if is_number else cells[place]
            if cell in NULLS:
                column.append(None)
            elif not is_number:
                column.append(cell)
            elif _NUMBER.fullmatch(cell) and math.isfinite(number := float(cell)):
                column.append(number)
            else:
                raise InputError(f"row {row}, column {name!r}: {cell[:50]!r} is not a finite number")
    if not row:
        raise InputError("it has a header only: at least one row is expected")
    return _feeds(values, description)


def instance(description: Mapping[str, Any]) -> str:
    """Say what an instance is."""
    names = [column["name"] for column in description["columns"]]
    return f"an object with a value or null for each of: {_listed(names)}"


def instance_schema(description: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON schema of an instance."""
    kinds = {column["name"]: "number" if column["type"] == "number" else "string" for column in description["columns"]}
    return {
        "type": "object",
        "properties": {name: {"type": [kind, "null"]} for name, kind in kinds.items()},
        "required": list(kinds),
        "additionalProperties": False,
    }


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"line {line} is not UTF-8 (byte 0x{data[error.start]:02x}): save the file as UTF-8") from None


def find_header(text: str, names: Sequence[str]) -> tuple[str, list[str]]:
    """Return the first of `DELIMITERS` with which the header has all names, and the header.

    Args:
        text: The content of a CSV file, or its beginning.
        names: The model's columns.

    Raises:
        InputError: There is no header, or it lacks a name or has one twice.
    """
    longest: list[str] = []
    for delimiter in DELIMITERS:
        header = next(_rows(text, delimiter, strict=False), [])
        if {*names} <= {*header}:
            break
        longest = max(longest, header, key=len)
    else:
        header = longest
    if not header:
        raise InputError("it is empty: a header and at least one row are expected")
    check_header(header, names)
    return delimiter, header


def check_header(header: Sequence[str], names: Sequence[str]) -> None:
    """Refuse a header that lacks a name or has one twice.

    Args:
        header: Of a file.
        names: The model's columns.

    Raises:
        InputError: Naming the columns.
    """
    if missing := [name for name in names if name not in header]:
        raise InputError(f"the header lacks the model's {_listed(missing)}; it has {_listed(header)}")
    if twice := [name for name in names if header.count(name) > 1]:
        raise InputError(f"the header names column {twice[0]!r} more than once")


def _rows(text: str, delimiter: str, strict: bool = True) -> Iterator[list[str]]:
    """Yield the cells of each row, header first; empty lines are left out."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=strict)
    try:
        yield from filter(None, reader)
    except csv.Error as error:
        raise InputError(f"line {reader.line_num} is not valid CSV: {error}") from None


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:30]) + (f" and {len(names) - 30} more" if len(names) > 30 else "")


def _feeds(values: Sequence[Sequence[float | str | None]], description: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Convert values, a sequence a column, to float64 and object arrays [N]."""
    import numpy as np

    feeds = {}
    for column, found in zip(description["columns"], values, strict=True):
        if column["type"] == "number":
            feeds[column["name"]] = np.array([math.nan if value is None else value for value in found], np.float64)
        else:
            feeds[column["name"]] = np.array(["" if value is None else value for value in found], np.object_)
    return feeds
