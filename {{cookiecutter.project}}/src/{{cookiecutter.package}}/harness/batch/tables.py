"""Batch prediction of the rows of a file."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import UserError
from ..inputs.tables import InputError, check_header, find_header
from ..preparation import table_files
from ..preparation.table_files import Part
from . import items
from . import items as batch_items

if TYPE_CHECKING:
    pass

BATCH_ROWS = 4096  # rows predicted at a time


def batches(path: Path, description: Mapping[str, Any]) -> batch_items.BatchInput:
    """Returns the rows of a file, for a batch prediction.

    They are read as `prepare` reads them; what the schema forbids is no error here, as it is none for the service.

    Args:
        path: A CSV file as the service takes it, of any size, or a Parquet file.
        description: The content of models/model.json.

    Raises:
        UserError: Where the file cannot be read, or lacks a column of the model.
    """
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".parquet"):
        raise UserError(f"{path}: this model takes rows of a table: give a file that ends in .csv or .parquet")
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    wanted = {column["name"]: column["type"] for column in description["columns"]}
    total: int | None = None
    try:
        if suffix == ".csv":
            with path.open("rb") as file:
                beginning = file.read(table_files.BLOCK).decode("utf-8-sig", "replace")
            delimiter, header = find_header(beginning, [*wanted])
        else:
            header = table_files.parquet_header(path)
            check_header(header, [*wanted])
            total = table_files.parquet_rows(path)
    except InputError as error:
        raise UserError(f"{path}: {error}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    id: str | None = description.get("id")
    if id is not None and header.count(id) != 1:
        id = None
    columns = wanted | ({id: "text"} if id else {})

    def read(done: int) -> Iterator[batch_items.Batch]:
        parts = (
            table_files.csv_parts(path, delimiter, "utf-8", columns)
            if suffix == ".csv"
            else table_files.parquet_parts(path, columns)
        )
        for part in parts:
            items = len(part.rows) + len(part.ragged)
            if done < items:
                yield from _batches(part, wanted, id, done)
            done = max(0, done - items)

    found = path.stat()
    keys = {"row": "int64"} | ({"id": "string"} if id else {})
    return batch_items.BatchInput(keys, f"{found.st_size} {found.st_mtime_ns}", total, "rows", 16 * BATCH_ROWS, read)


def _batches(part: Part, wanted: Mapping[str, str], id: str | None, done: int) -> Iterator[items.Batch]:
    """Yields the rows of a part without the first ones; those with too few or too many cells are in their place."""
    import pyarrow.compute as pc

    errors = {row: f"row {row} {cause}" for row, cause in part.ragged}
    feeds: dict[str, NDArray[Any]] = {}
    for name, kind in wanted.items():
        cells = part.values.column(name)
        values, bad = table_files.convert(cells, kind)
        for violation, mask in bad.items():
            for place in np.flatnonzero(mask).tolist():
                why = _told(violation, kind, cells[place].as_py())
                errors.setdefault(int(part.rows[place]), f"row {part.rows[place]}, column {name!r}: {why}")
        feeds[name] = table_files.numbers(values) if kind == "number" else np.asarray(pc.fill_null(values, ""), object)
    ids = table_files.convert(part.values.column(id), "text")[0].to_pylist() if id else []
    rows = np.concatenate([part.rows, np.array([row for row, _ in part.ragged], np.int64)])
    order = np.argsort(rows, kind="stable")
    for start in range(done, len(rows), BATCH_ROWS):
        chosen = order[start : start + BATCH_ROWS]
        numbers: list[int] = rows[chosen].tolist()
        told = [errors.get(number) for number in numbers]
        fine = chosen[np.array([error is None for error in told])]
        keys: dict[str, list[Any]] = {"row": numbers}
        if id:
            keys["id"] = [ids[place] if place < len(ids) else None for place in chosen]
        yield items.Batch(keys, told, {name: values[fine] for name, values in feeds.items()})


def _told(violation: str, kind: str, cell: Any) -> str:
    text = repr((cell.decode("utf-8", "backslashreplace") if isinstance(cell, bytes) else str(cell))[:50])
    if violation == "encoding":
        return f"{text} is not UTF-8"
    if violation == "size" and np.isfinite(float(cell)):
        return f"{text} is too large for the 32-bit numbers of the model"
    return f"{text} is {'not a finite number' if kind == 'number' else 'no text'}"
