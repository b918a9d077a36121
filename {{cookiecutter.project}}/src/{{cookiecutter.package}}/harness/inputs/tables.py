"""Rows of a table, decoded from JSON bodies and CSV files.

The exported model encodes the raw columns: a number is float64, NaN if missing; a category is text, "" if missing.
NumPy is imported in `_feeds`, because processes of the service that do not predict import this module too.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import pydantic
from annotated_types import Len

from ..contracts import Description

if TYPE_CHECKING:
    from numpy.typing import NDArray

FILE = "A CSV file in UTF-8 with a header; other columns than the model's are ignored"
MAX_ROWS = 100_000  # of a CSV file
# Cells of a CSV file that mean a missing value, in `prepare` as well.
NULLS = ("", "NA", "N/A", "#N/A", "n/a", "NaN", "nan", "NULL", "null", "None")
DELIMITERS = (",", ";", "\t", "|")
# float() alone would also accept 1_000 and non-ASCII digits, which CSV readers reject.
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


class InputError(ValueError):
    """An unusable file; the message is one line for the user."""


def request_model(description: Description, most: int) -> type[pydantic.BaseModel]:
    """Pydantic model of a JSON body: objects with exactly the model's columns.

    Args:
        description: Content of models/model.json.
        most: Maximum number of instances.
    """
    config = pydantic.ConfigDict(extra="forbid", strict=True)
    number: Any = Annotated[float, pydantic.Field(allow_inf_nan=False)] | None
    # By alias: the name of a column may not be an identifier.
    fields: Any = {
        f"column_{i}": (number if column["type"] == "number" else str | None, pydantic.Field(alias=column["name"]))
        for i, column in enumerate(description["columns"])
    }
    row: Any = pydantic.create_model("Row", __config__=config, **fields)
    rows: Any = Annotated[list[row], Len(1, most), pydantic.FailFast()]
    return pydantic.create_model("Rows", __config__=config, instances=(rows, ...))


def from_json(instances: Sequence[Any], description: Description) -> dict[str, NDArray[Any]]:
    """The inputs of the exported model, from parsed instances.

    Args:
        instances: Rows of the model that `request_model` returns.
        description: Content of models/model.json.
    """
    columns = range(len(description["columns"]))
    return _feeds([[getattr(row, f"column_{i}") for row in instances] for i in columns], description)


def from_file(data: bytes, description: Description) -> dict[str, NDArray[Any]]:
    """The inputs of the exported model, from a CSV file.

    Args:
        data: Content of the file: UTF-8, with or without a byte order mark, with a header, separated by the first of
            `DELIMITERS` with which the header has the model's columns. Other columns are ignored, so that the training
            file can be sent unchanged.
        description: Content of models/model.json.

    Raises:
        InputError: If the file cannot be used; the message names the row, from 1 below the header, and the column.
    """
    text = _text(data)
    columns = description["columns"]
    delimiter, header = find_header(text, [column["name"] for column in columns])
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
            try:
                column.append(_value(cells[place], is_number))
            except ValueError as error:
                raise InputError(f"row {row}, column {name!r}: {error}") from None
    if not row:
        raise InputError("it has a header only: at least one row is expected")
    return _feeds(values, description)


def _value(cell: str, is_number: bool) -> float | str | None:
    cell = cell.strip() if is_number else cell
    if cell in NULLS:
        return None
    if not is_number:
        return cell
    if _NUMBER.fullmatch(cell) and math.isfinite(number := float(cell)):
        return number
    raise ValueError(f"{cell[:50]!r} is not a finite number")


def instance(description: Description) -> str:
    """Description of an instance for users."""
    names = [column["name"] for column in description["columns"]]
    return f"an object with a value or null for each of: {_listed(names)}"


def instance_schema(description: Description) -> dict[str, Any]:
    """The JSON schema of an instance."""
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
    """Delimiter and header of a CSV file.

    The delimiter is the first of `DELIMITERS` with which the header has all names.

    Args:
        text: Content of a CSV file, or its beginning.
        names: Columns of the model.

    Raises:
        InputError: If there is no header, or it lacks or repeats a name.
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
    """Rejects a header that lacks or repeats a column of the model.

    Args:
        header: Header of a file.
        names: Columns of the model.

    Raises:
        InputError: Naming the columns.
    """
    if missing := [name for name in names if name not in header]:
        raise InputError(f"the header lacks the model's {_listed(missing)}; it has {_listed(header)}")
    if repeated := [name for name in names if header.count(name) > 1]:
        raise InputError(f"the header names column {repeated[0]!r} more than once")


def _rows(text: str, delimiter: str, strict: bool = True) -> Iterator[list[str]]:
    """Yields the cells of each row, header first, empty lines skipped."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=strict)
    try:
        yield from (row for row in reader if row)
    except csv.Error as error:
        raise InputError(f"line {reader.line_num} is not valid CSV: {error}") from None


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:30]) + (f" and {len(names) - 30} more" if len(names) > 30 else "")


def _feeds(columns: Sequence[Sequence[float | str | None]], description: Description) -> dict[str, NDArray[Any]]:
    """Column -> float64 or object [N], from the values of each column."""
    import numpy as np

    feeds: dict[str, NDArray[Any]] = {}
    for column, values in zip(description["columns"], columns, strict=True):
        if column["type"] == "number":
            feeds[column["name"]] = np.array([math.nan if value is None else value for value in values], np.float64)
        else:
            feeds[column["name"]] = np.array(["" if value is None else value for value in values], np.object_)
    return feeds
