"""The rows of a file as input of a batch prediction."""

import codecs
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..contracts import Description
from ..core.errors import UserError
from ..inputs.table_notation import UTF_8, Notation, notation
from ..inputs.tables import InputError, cell_reader, check_header, find_header, other_kind
from ..preparation.table_cells import convert, numbers
from ..preparation.table_files import BLOCK, Part, csv_parts, parquet_header, parquet_parts, parquet_rows
from .items import Batch, BatchInput

BATCH_ROWS = 4096  # number of rows in a batch


def batches(path: Path, description: Description) -> BatchInput:
    """The rows of a file, converted as in `prepare`.

    Cells that violate the schema are not errors here, just as in the service.

    Args:
        path: CSV file as the service accepts it, of any size, or Parquet file.
        description: Content of models/model.json.

    Raises:
        UserError: If the file cannot be read, or lacks a column of the model.
    """
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".parquet"):
        raise UserError(f"{path}: this model takes rows of a table: name a file that ends in .csv or .parquet")
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    wanted = {column["name"]: column["type"] for column in description["columns"]}
    total = None
    try:
        if suffix == ".csv":
            encoding = _encoding(path, notation(description).encoding)
            delimiter, header = _header(path, encoding, [*wanted])
            parts = partial(csv_parts, path, delimiter, encoding)
        else:
            header, total = parquet_header(path), parquet_rows(path)
            check_header(header, [*wanted])
            parts = partial(parquet_parts, path)
    except InputError as error:
        raise UserError(f"{path}: {error}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    id = description.get("id", "")
    columns = _Columns(wanted, id if header.count(id) == 1 else None, notation(description))

    def pieces(skip: int) -> Iterator[tuple[Part, int]]:
        for part in parts(columns.read, columns.notation):
            rows = len(part.rows) + len(part.ragged)
            if skip < rows:
                yield part, skip
            skip = max(0, skip - rows)

    stat = path.stat()
    keys = {"row": "int64"} | ({"id": "string"} if columns.id else {})
    stamp = f"{stat.st_size} {stat.st_mtime_ns}"
    return BatchInput(keys, stamp, total, "rows", 16 * BATCH_ROWS, pieces, partial(_batches, columns))


def _encoding(path: Path, configured: str) -> str:
    """Encoding of a CSV file: UTF-8, or else the one of the training data."""
    if configured != UTF_8:
        decoder = codecs.getincrementaldecoder(UTF_8)()
        try:
            with path.open("rb") as file:
                while block := file.read(BLOCK):
                    decoder.decode(block)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return configured
    return UTF_8


def _header(path: Path, encoding: str, names: list[str]) -> tuple[str, list[str]]:
    """Delimiter and header of a CSV file."""
    with path.open("rb") as file:
        data = file.read(BLOCK)
    if kind := other_kind(data):
        raise InputError(kind)
    beginning = data.decode("utf-8-sig" if encoding == UTF_8 else encoding, "replace")
    try:
        return find_header(beginning, names)
    except InputError:
        if encoding == UTF_8 and "\ufffd" in next(iter(beginning.splitlines()), ""):
            raise InputError("its header is not UTF-8: save the file as UTF-8") from None
        raise


class _Columns(NamedTuple):
    """The columns of a file to read.

    Attributes:
        model: Column of the model -> type.
        id: Column with the identifier of each row; None if the file lacks it.
        notation: How the cells are written.
    """

    model: Mapping[str, str]
    id: str | None
    notation: Notation

    @property
    def read(self) -> dict[str, str]:
        """Column -> type, for all columns to read."""
        return {**self.model, **({self.id: "text"} if self.id else {})}


def _batches(columns: _Columns, pieces: Iterable[tuple[Part, int]]) -> Iterator[Batch]:
    """Yields the batches of parts of the file; each comes with the number of its rows to skip."""
    for part, skip in pieces:
        yield from _part_batches(part, columns, skip)


def _part_batches(part: Part, columns: _Columns, skip: int) -> Iterator[Batch]:
    """Yields the batches of a part, ragged rows included, without the first `skip`."""
    feeds, errors = _converted(part, columns)
    ids = _ids(part, columns)
    rows = np.concatenate([part.rows, np.array([row for row, _ in part.ragged], np.int64)])
    order = np.argsort(rows, kind="stable")
    for start in range(skip, len(rows), BATCH_ROWS):
        chosen = order[start : start + BATCH_ROWS]
        keys: dict[str, list[Any]] = {"row": rows[chosen].tolist()}
        if columns.id:
            keys["id"] = [ids[place] if place < len(ids) else None for place in chosen]
        row_errors = [errors.get(row) for row in keys["row"]]
        valid = chosen[np.array([error is None for error in row_errors])]
        yield Batch(keys, row_errors, {name: values[valid] for name, values in feeds.items()})


def _ids(part: Part, columns: _Columns) -> list[str | None]:
    if not columns.id:
        return []
    values: list[str | None] = convert(part.values.column(columns.id), "text", columns.notation, columns.id)[
        0
    ].to_pylist()
    return values


def _converted(part: Part, columns: _Columns) -> tuple[dict[str, NDArray[Any]], dict[int, str]]:
    """Inputs of the exported model, and row number -> first error."""
    import pyarrow.compute as pc

    feeds: dict[str, NDArray[Any]] = {}
    errors = {row: f"row {row} {error}" for row, error in part.ragged}
    for name, type in columns.model.items():
        cells = part.values.column(name)
        values, bad = convert(cells, type, columns.notation, name)
        feeds[name] = np.asarray(pc.fill_null(values, ""), object) if type == "category" else numbers(values)
        for mask in bad.values():
            for place in np.flatnonzero(mask).tolist():
                row = int(part.rows[place])
                errors.setdefault(row, f"row {row}, column {name!r}: {_error(cells[place].as_py(), type, columns)}")
    return feeds, errors


def _error(cell: Any, type: str, columns: _Columns) -> str:
    """What the service says about a cell that cannot be used."""
    try:
        value = cell.decode() if isinstance(cell, bytes) else cell
        cell_reader(type, columns.notation, "")(value)
    except UnicodeDecodeError:
        return f"{cell.decode('utf-8', 'backslashreplace')[:50]!r} is not UTF-8"
    except ValueError as error:
        return str(error)
    return f"{str(cell)[:50]!r} cannot be used"
