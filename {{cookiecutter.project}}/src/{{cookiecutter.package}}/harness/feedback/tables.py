"""Labeled rows as a new file of a table: CSV or Parquet, as the configured source reads it."""

import contextlib
import csv
import fnmatch
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..contracts import Description
from ..core import files
from ..core.errors import UserError
from ..inputs.table_notation import notation
from ..inputs.tables import cell_reader
from ..preparation.schema import Column
from ..preparation.table import Table
from ..preparation.table_files import Part
from ..preparation.table_violations import check as violations
from ..preparation.table_violations import explained
from .contracts import Checked, Labeled
from .person import ANSWER, Person

if TYPE_CHECKING:
    import pyarrow as pa


def folder(source: Table) -> Path:
    """The folder of the table's files, to which one is added.

    Args:
        source: The table.

    Raises:
        UserError: If the table is no folder of files.
    """
    if source.path is None:
        raise UserError(
            f"data: {source.label} is inside a library, to which nothing can be added: choose `data: csv` or "
            "`data: parquet` in conf/config.yaml, with a table in data/raw"
        )
    root = source.path if source.path.is_dir() else source.path.parent
    new = (root / f"production-000001{_suffix(source)}").as_posix()
    if source.path.is_file() or (source.label != source.path.as_posix() and not fnmatch.fnmatch(new, source.label)):
        raise UserError(
            f"data.path: {source.label} would not read a new file {new}: set data.path to a folder, such as {root}"
        )
    return root


def _suffix(source: Table) -> str:
    return Path(source.files[0].name).suffix


def check(examples: Sequence[Labeled], source: Table) -> Checked:
    """The rows that do not violate the schema, if that would end `prepare`.

    Args:
        examples: Rows.
        source: The table.

    Raises:
        UserError: If rows lack a column that must not be missing.
    """
    columns = source.columns()
    _require_columns(source, columns)
    if not examples:
        return Checked([], [])
    part = Part("production", np.arange(1, len(examples) + 1), _batch(examples, source, columns))
    _, cells = violations(part, columns, source.notation(columns))
    if source.on_invalid != "stop":
        cells = []
    problems = []
    for found in cells:
        (first, *_) = explained(part, [found], source, columns, 1).listed
        problems.append(f"{len(found.rows)} row(s) left out: column {found.column!r}: {first.reason}")
    bad = {place for found in cells for place in found.rows.tolist()}
    foreign = {place for place, row in enumerate(zip(*part.values.columns, strict=True)) if not _fits(row, source)}
    if foreign:
        problems.append(f"{len(foreign)} row(s) left out: not all of their characters exist in {source.encoding}")
    bad |= foreign
    return Checked([example for place, example in enumerate(examples) if place not in bad], problems)


def _fits(row: Sequence[Any], source: Table) -> bool:
    """Whether the texts of a row can be written in the encoding of the table."""
    try:
        "".join(map(str, row)).encode(source.encoding)
    except UnicodeEncodeError:
        return False
    return True


def _require_columns(source: Table, columns: Mapping[str, Column]) -> None:
    for name, column in columns.items():
        if column.private and name not in source.roles and not column.nulls:
            raise UserError(
                f"{source.schema}: column {name!r} is private, so that rows from production lack it, and `nulls: 0` "
                "allows no missing values: allow them, or train without the column (data.drop)"
            )
    if source.time and columns[source.time].type == "number":
        raise UserError(f"data.time: {source.time!r} is a number, whose unit is unknown: rows cannot be dated")
    if source.keep and (unknown := [name for name in source.keep.columns if name not in columns]):
        raise UserError(
            f"the filter of the source needs column {unknown[0]!r}, which requests do not have: it would leave out "
            "all rows from production"
        )


def _batch(examples: Sequence[Labeled], source: Table, columns: Mapping[str, Column]) -> "pa.RecordBatch":
    """The rows as texts, as they will stand in the file."""
    import pyarrow as pa

    rows = [_texts(example, source, columns) for example in examples]
    return pa.RecordBatch.from_pydict({name: pa.array([row[name] for row in rows], pa.string()) for name in columns})


def _texts(example: Labeled, source: Table, columns: Mapping[str, Column]) -> dict[str, str]:
    """Column -> text of a row; empty if missing."""
    moment = datetime.fromtimestamp(example.time, UTC).replace(tzinfo=None).isoformat(timespec="seconds")
    roles: dict[str | None, Any] = {
        source.id: f"{example.id}-{example.place}",
        source.group: example.id,  # the rows of a request stay together
        source.time: moment,
        source.target: example.actual,
    }
    public = {name: value for name, value in example.example.items() if name in columns and not columns[name].private}
    values = {name: roles.get(name, public.get(name)) for name in columns}
    return {name: _text(value, columns[name].type == "number", source.decimal) for name, value in values.items()}


def _text(value: Any, is_number: bool, decimal: str) -> str:
    """A value of a JSON request as the cell of a file."""
    if value is None or value != value:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float) and is_number:
        return str(value).replace(".", decimal)
    return str(value)


def write(examples: Sequence[Labeled], source: Table, name: str) -> list[Path]:
    """Writes rows to a new file of the table.

    Args:
        examples: Rows.
        source: The table.
        name: Name of the file, without suffix.

    Returns:
        The file.
    """
    columns = source.columns()
    path = folder(source) / f"{name}{_suffix(source)}"
    rows = _batch(examples, source, columns)
    with files.replacing(path) as temporary:
        if path.suffix == ".parquet":
            _write_parquet(rows, source, columns, temporary)
        else:
            _write_csv(rows, source, temporary)
    return [path]


def _dropped(source: Table) -> list[str]:
    """Columns that every file has, and that are left out; a column without a name need not be there."""
    return [name for name in source.drop if name]


def _write_csv(rows: "pa.RecordBatch", source: Table, path: Path) -> None:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=source.delimiter, lineterminator="\n")
    empty = [""] * len(_dropped(source))
    writer.writerow([*rows.schema.names, *_dropped(source)])
    for row in zip(*(column.to_pylist() for column in rows.columns), strict=True):
        writer.writerow([*row, *empty])
    path.write_text(text.getvalue(), encoding=source.encoding, newline="")


def _write_parquet(rows: "pa.RecordBatch", source: Table, columns: Mapping[str, Column], path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    part = Part("production", np.arange(1, len(rows) + 1), rows)
    converted, _ = violations(part, columns, source.notation(columns))
    table = pa.table(
        {name: converted[name] if columns[name].type == "number" else rows[name] for name in columns}
        | {name: pa.nulls(len(rows), pa.string()) for name in _dropped(source)}
    )
    parquet.write_table(table, path)


def feeds(examples: Sequence[Mapping[str, Any]], description: Description) -> dict[str, NDArray[Any]]:
    """Inputs of the exported model of rows that the service has kept; private values are missing.

    Args:
        examples: Rows: column -> value as in a request.
        description: Content of models/model.json.
    """
    rule, found = notation(description), {}
    for column in description["columns"]:
        name, is_category = column["name"], column["type"] == "category"
        read = cell_reader(column["type"], rule, name)
        cells = [_read(read, row.get(name)) for row in examples]
        found[name] = (
            np.array(["" if cell is None else cell for cell in cells], np.object_)
            if is_category
            else np.array(cells, np.float64)
        )
    return found


def _read(read: Callable[[object], float | str], cell: object) -> float | str | None:
    """A cell as the model gets it; None for a hash of it, which is no value."""
    try:
        return read(cell)
    except ValueError:
        return None


def strip(file: Path, name: str, source: Table, person: Person, to: Path | None) -> tuple[int, set[str]]:
    """Copies a file of the table without a person; the bytes of all other rows stay as they are in CSV.

    Args:
        file: The file, under any name.
        name: Its path in the folder.
        source: The table.
        person: The person.
        to: Where to; None to count only.

    Returns:
        Number of rows of the person, and the ids of the answers that they come from.
    """
    if Path(name).suffix != _suffix(source):
        return 0, set()
    if name.endswith(".parquet"):
        return _strip_parquet(file, name, source, person, to)
    if person.answers:
        with file.open(encoding=source.encoding, newline="") as lines:
            _require_same(name, sum(1 for _ in _records(lines, source.delimiter)) - 1, person)
    count, ids = 0, set[str]()
    with contextlib.ExitStack() as stack:
        lines = stack.enter_context(file.open(encoding=source.encoding, newline=""))
        out = stack.enter_context(to.open("w", encoding=source.encoding, newline="")) if to else None
        header: list[str] = []
        for place, (text, cells) in enumerate(_records(lines, source.delimiter), -1):
            if not header:
                header = [name.removeprefix("\ufeff") for name in cells]
            elif _is_of(dict(zip(header, cells, strict=False)), place, source, person, ids):
                count += 1
                continue
            if out:
                out.write(text)
    return count, ids


def _require_same(name: str, rows: int, person: Person) -> None:
    """Rejects a file whose ledger does not tell which row comes from which answer.

    Raises:
        UserError: If rows of the file were removed or added by hand, and the person may be among them.
    """
    if rows != len(person.answers) and person.ids & {*person.answers}:
        raise UserError(
            f"{name}: has {rows} rows, and its ledger {len(person.answers)}: rows were changed by hand, so that none "
            "is known by its answer: remove the person's row and its line in the ledger by hand"
        )


def _records(lines: Iterator[str], delimiter: str) -> Iterator[tuple[str, list[str]]]:
    """Yields each record of a CSV file as its text, of one line or several, and its cells."""
    taken: list[str] = []

    def noted() -> Iterator[str]:
        for line in lines:
            taken.append(line)
            yield line

    for cells in csv.reader(noted(), delimiter=delimiter):
        yield "".join(taken), cells
        taken.clear()


def _is_of(row: Mapping[str, Any], place: int, source: Table, person: Person, ids: set[str]) -> bool:
    """Whether a row is the person's; adds the id of the answer that it comes from, if any."""
    by_value = person.column in row and person.has_value(row[person.column])
    roles = [row[name] for name in (source.id, source.group) if name and name in row]
    answers = {found[0] for cell in roles if (found := ANSWER.match(str(cell)))} | {*person.answers[place : place + 1]}
    by_id = source.id is not None and source.id in row and person.has_id(row[source.id])
    if not (by_value or by_id or answers & person.ids):
        return False
    ids |= answers
    return True


def _strip_parquet(file: Path, name: str, source: Table, person: Person, to: Path | None) -> tuple[int, set[str]]:
    from pyarrow import parquet

    table, ids = parquet.read_table(file), set[str]()
    _require_same(name, len(table), person)
    names = [each for each in dict.fromkeys([person.column, source.id, source.group]) if each in table.column_names]
    rows = table.select(names).to_pylist() if names else [{}] * len(table)
    keep = [not _is_of(row, place, source, person, ids) for place, row in enumerate(rows)]
    if to is not None:
        parquet.write_table(table.filter(keep), to)
    return keep.count(False), ids
