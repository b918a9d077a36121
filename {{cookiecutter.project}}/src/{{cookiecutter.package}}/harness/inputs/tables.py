"""Rows of a table, decoded from JSON bodies and CSV files.

The exported model encodes the raw columns: a number is float64, NaN if missing; a category is text, "" if missing.
NumPy is imported in `_feeds`, because processes of the service that do not predict import this module too.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import pydantic
from annotated_types import Len

from ..contracts import Description
from .contracts import MAX_JSON_VALUES, JsonLimits
from .table_dates import date_reader
from .table_notation import LARGEST, TRUTH, UTF_8, Notation, level_reader, notation, null_numbers, number_reader

if TYPE_CHECKING:
    from numpy.typing import NDArray

FILE = "A CSV file in UTF-8 with a header; other columns than the model's are ignored"
MAX_ROWS = 100_000  # of a CSV file, empty lines included
MAX_LINE = 2**20  # characters of a line of a CSV file: cells of a row are split without a pause
MAX_TEXT = 4096  # bytes of a category in JSON
MAX_SHOWN = 80  # characters of a name in a message
DELIMITERS = (",", ";", "\t", "|")
# First bytes of a file -> what it is, for those that are taken for CSV files.
_OTHER = {
    b"PK\x03\x04": "an Excel workbook or a ZIP archive: save the table as CSV",
    b"\xd0\xcf\x11\xe0": "an Excel workbook: save the table as CSV",
    b"\x1f\x8b": "compressed with gzip: unpack it",
    b"PAR1": "a Parquet file: name it .parquet",
    b"%PDF": "a PDF",
}
# Text that certainly is a number, for the documentation; longer exponents can be too large.
_DOCUMENTED = r"[+-]?([0-9]{1,9}\.?[0-9]*|\.[0-9]+)([eE]([+]?[0-2]?[0-9]|-[0-9]+))?"


class InputError(ValueError):
    """An unusable file; the message is one line for the user."""


def names(description: Description) -> set[str]:
    """Names of the exported model's inputs."""
    return {column["name"] for column in description["columns"]}


def json_limits(description: Description, most: int) -> JsonLimits:
    """Limits of a JSON body.

    Args:
        description: Content of models/model.json.
        most: Maximum number of instances.
    """
    columns = description["columns"]
    most = max(1, min(most, MAX_JSON_VALUES // len(columns)))
    # A character of a name or of text can be an escape sequence of 12.
    row = sum(12 * len(each["name"]) + (MAX_TEXT if each["type"] == "category" else 64) + 16 for each in columns)
    # Text may contain brackets, braces and colons.
    return JsonLimits(most, 200 + most * (row + 16), 20 + 4 * most * (len(columns) + 1))


def request_model(description: Description, most: int) -> type[pydantic.BaseModel]:
    """Pydantic model of a JSON body: objects with exactly the model's columns.

    Args:
        description: Content of models/model.json.
        most: Maximum number of instances.
    """
    config = pydantic.ConfigDict(extra="forbid", strict=True)
    # By alias: the name of a column may not be an identifier.
    fields: Any = {
        f"column_{i}": (Any, pydantic.Field(alias=column["name"])) for i, column in enumerate(description["columns"])
    }
    row: Any = pydantic.create_model("Row", __config__=config, **fields)
    rows: Any = Annotated[list[row], Len(1, most), pydantic.FailFast()]
    return pydantic.create_model("Rows", __config__=config, instances=(rows, ...))


def _readers(description: Description) -> dict[str, Callable[[object], float | str]]:
    """Column -> function that reads its cells."""
    rule = notation(description)
    return {column["name"]: cell_reader(column["type"], rule, column["name"]) for column in description["columns"]}


def cell_reader(type: str, rule: Notation, name: str) -> Callable[[object], float | str]:
    """A function from a cell of a column to its value, which raises ValueError.

    Args:
        type: Type of the column.
        rule: How the cells are written.
        name: Name of the column.
    """
    if type == "category":
        return level_reader(rule, name)
    return number_reader(rule) if type == "number" else date_reader(rule)


def from_json(instances: Sequence[Any], description: Description) -> dict[str, NDArray[Any]]:
    """The inputs of the exported model, from parsed instances.

    Args:
        instances: Rows of the model that `request_model` returns.
        description: Content of models/model.json.

    Raises:
        InputError: If a value cannot be used; the message names the instance, from 0, and the column.
    """
    columns, codes = [], null_numbers(notation(description))
    for i, (name, read) in enumerate(_readers(description).items()):
        cells = [getattr(row, f"column_{i}") for row in instances]
        is_number = description["columns"][i]["type"] == "number"
        columns.append(cells if is_number and not codes and _are_numbers(cells) else _read(cells, name, read))
    return _feeds(columns, description)


def _are_numbers(cells: Sequence[Any]) -> bool:
    """Whether no cell needs to be read, as in most columns of numbers."""
    return {*map(type, cells)} <= {float, int} and all(-LARGEST <= cell <= LARGEST for cell in cells)


def _read(cells: Sequence[Any], name: str, read: Callable[[object], float | str]) -> list[float | str]:
    values = []
    for row, cell in enumerate(cells):
        try:
            values.append(read(cell))
        except ValueError as error:
            raise InputError(f"instances[{row}].{name}: {error}") from None
    return values


def from_file(data: bytes, description: Description) -> dict[str, NDArray[Any]]:
    """The inputs of the exported model, from a CSV file.

    Args:
        data: Content of the file: UTF-8, with or without a byte order mark, or the encoding of the training data; with
            a header, separated by the first of `DELIMITERS` with which the header has the model's columns. Other
            columns are ignored, so that the training file can be sent unchanged.
        description: Content of models/model.json.

    Raises:
        InputError: If the file cannot be used; the message names the row, from 1 below the header, and the column.
    """
    text = _text(data, notation(description).encoding)
    columns = description["columns"]
    delimiter, header = find_header(text, [column["name"] for column in columns])
    places = [(header.index(name), name, read) for name, read in _readers(description).items()]
    values: list[list[float | str]] = [[] for _ in columns]
    row = 0
    for row, cells in enumerate(_rows(text, delimiter)):
        if not row:
            continue  # the header
        if row > MAX_ROWS:
            raise InputError(f"it has more than {MAX_ROWS:,} rows: send it in parts")
        if len(cells) != len(header):
            raise InputError(f"row {row} has {len(cells)} cells, the header has {len(header)}")
        for column, (place, name, read) in zip(values, places, strict=True):
            try:
                column.append(read(cells[place]))
            except ValueError as error:
                raise InputError(f"row {row}, column {name!r}: {error}") from None
    if not row:
        raise InputError("it has a header only: at least one row is expected")
    return _feeds(values, description)


def instance(description: Description) -> str:
    """Description of an instance for users."""
    names = [column["name"] for column in description["columns"]]
    return f"an object with a value or null for each of: {_listed(names)}"


def instance_schema(description: Description) -> dict[str, Any]:
    """The JSON schema of an instance."""
    rule = notation(description)
    words = [re.sub(r"[\\^$.*+?()\[\]{}|]", r"\\\g<0>", word) for word in ("", *TRUTH, *rule.nulls)]
    written = _DOCUMENTED.replace(r"\.", re.escape(rule.decimal))
    number = {
        "type": ["number", "string", "boolean", "null"],
        "minimum": -LARGEST,
        "maximum": LARGEST,
        "pattern": f"^({written}|{'|'.join(words)})$",
    }
    category = {"type": ["string", "number", "boolean", "null"]}
    date = {"type": ["string", "null"], "format": "date"}
    kinds = {"number": number, "date": date, "category": category}
    properties = {column["name"]: kinds[column["type"]] for column in description["columns"]}
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def other_kind(data: bytes) -> str | None:
    """What a file is, if its first bytes show that it is no CSV file.

    Args:
        data: Content of the file, or its beginning.
    """
    return next((f"is {kind}" for start, kind in _OTHER.items() if data.startswith(start)), None)


def _text(data: bytes, encoding: str) -> str:
    if kind := other_kind(data):
        raise InputError(f"it {kind}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if encoding != UTF_8:
            with suppress(UnicodeError):
                return data.decode(encoding)
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
    reader = csv.reader(_lines(text), delimiter=delimiter, strict=strict)
    empty = 0
    try:
        for row in reader:
            if row:
                yield row
            elif (empty := empty + 1) > MAX_ROWS:
                raise InputError(f"it has more than {MAX_ROWS:,} empty lines: remove them")
    except csv.Error as error:
        raise InputError(f"line {reader.line_num} is not valid CSV: {error}") from None


def _lines(text: str) -> Iterator[str]:
    """Yields the lines of a text, with their ends."""
    # Not StringIO: it takes four bytes for each character.
    file = io.TextIOWrapper(io.BytesIO(text.encode("utf-8", "surrogatepass")), "utf-8", "surrogatepass", newline="")
    for number, line in enumerate(iter(lambda: file.readline(MAX_LINE + 1), ""), 1):
        if len(line) > MAX_LINE:
            raise InputError(f"line {number} has more than {MAX_LINE:,} characters")
        yield line


def _listed(names: Sequence[str]) -> str:
    """Names in one line of a message: a cell of a header may be anything."""
    shown = (f"{name[:MAX_SHOWN]}..." if len(name) > MAX_SHOWN else name for name in names[:30])
    text = ", ".join("".join(each if each.isprintable() else "?" for each in name) for name in shown)
    return text + (f" and {len(names) - 30} more" if len(names) > 30 else "")


def _feeds(columns: Sequence[Sequence[float | str]], description: Description) -> dict[str, NDArray[Any]]:
    """Column -> float64 or object [N], from the values of each column."""
    import numpy as np

    return {
        column["name"]: np.array(values, np.object_ if column["type"] == "category" else np.float64)
        for column, values in zip(description["columns"], columns, strict=True)
    }
