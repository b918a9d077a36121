"""CSV and Parquet files, read in parts of bounded size."""

import codecs
import csv as text
import glob
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.errors import UserError, one_line
from ..inputs.table_notation import Notation
from ..inputs.tables import DELIMITERS
from . import table_guesses

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK = 1 << 20  # bytes of a file that are read at once
AS_BYTES = Notation(())  # for cells that are not read as numbers


class Part(NamedTuple):
    """A part of a file: consecutive rows.

    Attributes:
        file: Name of the file.
        rows: Row numbers in the file, from 1 below the header, int64 [n].
        values: The requested columns, not yet converted to the types of the schema.
        ragged: Row number and error of each row with too few or too many cells; not in `rows` and `values`.
    """

    file: str
    rows: NDArray[np.int64]
    values: "pa.RecordBatch"
    ragged: Sequence[tuple[int, str]] = ()


class File(NamedTuple):
    """A file of a table.

    Attributes:
        name: Name of the file in messages.
        header: Reads the names of the columns.
        read: Reads the rows in parts. Arguments: column -> type in the schema, or `raw` for unconverted cells; how the
            cells are written.
        index_columns: Reads the names of the columns that are the index of a pandas DataFrame.
    """

    name: str
    header: Callable[[], list[str]]
    read: Callable[[Mapping[str, str], Notation], Iterator[Part]]
    index_columns: Callable[[], list[str]] = list


def csv_files(path: str, delimiter: str, encoding: str) -> tuple[Path, list[File]]:
    """The CSV files of a table.

    Args:
        path: A file, a folder or a pattern.
        delimiter: The character between two cells.
        encoding: Name of the encoding.

    Returns:
        The path of the data, a dependency in dvc.yaml, and the files, sorted by name.

    Raises:
        UserError: If there is no file, or Python does not know the encoding.
    """
    try:
        codecs.lookup(encoding)
    except LookupError:
        raise UserError(
            f"data.encoding: Python does not know {encoding!r}; common encodings: utf-8, latin-1, cp1252"
        ) from None
    root, paths = _matching(path, "csv")
    files = [
        File(
            file.as_posix(),
            partial(csv_header, file, delimiter, encoding),
            partial(csv_parts, file, delimiter, encoding),
        )
        for file in paths
    ]
    return root, files


def parquet_files(path: str) -> tuple[Path, list[File]]:
    """The Parquet files of a table.

    Args:
        path: A file, a folder or a pattern.

    Returns:
        The path of the data, a dependency in dvc.yaml, and the files, sorted by name.

    Raises:
        UserError: If there is no file.
    """
    root, paths = _matching(path, "parquet")
    files = [
        File(
            file.as_posix(),
            partial(parquet_header, file),
            partial(parquet_parts, file),
            partial(parquet_index, file),
        )
        for file in paths
    ]
    return root, files


def memory(name: str, load: Callable[[], "pa.Table"]) -> File:
    """A table in memory, with the interface of a file.

    Args:
        name: Name of the table in messages.
        load: Returns the table.
    """

    def read(wanted: Mapping[str, str], notation: Notation) -> Iterator[Part]:
        for batch in load().select(list(wanted)).to_batches():
            yield Part(name, np.arange(1, 1 + len(batch)), batch)

    return File(name, lambda: list(load().column_names), read)


def _matching(path: str, suffix: str) -> tuple[Path, list[Path]]:
    root = Path(path)
    if root.is_dir():
        files = sorted(file for file in root.glob(f"*.{suffix}") if not file.name.startswith("."))
        if not files:
            raise UserError(f"data.path: the folder {path!r} has no *.{suffix} file: put one there, or name a file")
        return root, files
    if glob.has_magic(path) and not root.exists():
        files = sorted(map(Path, glob.glob(path, recursive=True)))
        if not files:
            raise UserError(f"data.path: no file matches {path!r}: correct the pattern")
        return next(parent for parent in root.parents if not glob.has_magic(str(parent))), files
    if not root.exists() and not root.is_symlink():
        raise UserError(f"data.path: there is no {path!r}; put the file there, then `dvc add {path}`")
    return root, [root]


@contextmanager
def _readable(path: Path, encoding: str = "") -> Iterator[None]:
    """Converts errors of reading a file to a `UserError`."""
    import pyarrow as pa

    try:
        yield
    except UnicodeError:
        raise UserError(f"{path}: {table_guesses.undecodable(path, encoding)}") from None
    except (pa.ArrowException, OSError, text.Error) as error:
        message = getattr(error, "strerror", None) or one_line(error, 200)
        raise UserError(f"{path}: cannot be read: {message}") from None


def csv_header(path: Path, delimiter: str, encoding: str) -> list[str]:
    """Column names of a CSV file, without unnamed columns that hold nothing.

    Args:
        path: The file.
        delimiter: The character between two cells.
        encoding: Name of the encoding.

    Raises:
        UserError: If there is no header, or a single column.
    """
    is_utf8 = codecs.lookup(encoding).name in ("utf-8", "ascii")
    with_mark = "utf-8-sig" if is_utf8 else encoding
    # The first block is decoded as a whole: errors below the header are reported later, with their row.
    with _readable(path, encoding), path.open(encoding=with_mark, newline="", errors="surrogateescape") as file:
        rows = (row for row in text.reader(file, delimiter=delimiter) if row)
        names = next(rows, [])
        "".join(names).encode()  # raises UnicodeError for escaped bytes in the header
        names = _without_empty(names, rows)
        below = next(rows, [])
    if not names:
        raise UserError(f"{path}: the file is empty")
    if len(names) == 1:
        doubt = table_guesses.single_column(names[0], below, DELIMITERS)
        raise UserError(
            f"{path}: has a single column, {names[0][:80]!r}: is data.delimiter {delimiter!r} right?{doubt}"
        )
    return names


def _without_empty(names: list[str], rows: Iterator[list[str]]) -> list[str]:
    """Names of columns, without unnamed ones that hold nothing, such as those of a delimiter at the end of each line.

    Args:
        names: The header.
        rows: The other rows, read only if a name is empty.
    """
    empty = {place for place, name in enumerate(names) if not name}
    while empty and (row := next(rows, None)) is not None:
        empty -= {place for place in empty if place < len(row) and row[place].strip()}
    return [name for place, name in enumerate(names) if place not in empty]


def csv_parts(
    path: Path, delimiter: str, encoding: str, wanted: Mapping[str, str], notation: Notation
) -> Iterator[Part]:
    """Rows of a CSV file, parsed to the types of the schema.

    From the first cell that cannot be parsed, the rest of the file is read as bytes, to report every bad cell.

    Args:
        path: The file.
        delimiter: The character between two cells.
        encoding: Name of the encoding.
        wanted: Column -> type in the schema, or `raw`.
        notation: How the cells are written.
    """
    import pyarrow as pa

    name, rows_read = path.as_posix(), 0
    stream = partial(_csv_batches, path, delimiter, encoding)
    if "raw" not in wanted.values():
        number = pa.string() if notation.thousands else pa.float64()  # Arrow knows no mark between thousands
        types = {column: number if type == "number" else pa.string() for column, type in wanted.items()}
        try:
            for batch in stream(types, notation):
                yield Part(name, np.arange(rows_read + 1, rows_read + 1 + len(batch)), batch)
                rows_read += len(batch)
            return
        except (pa.ArrowInvalid, UnicodeError):
            pass  # reported below, with every other bad cell
    with _readable(path, encoding):
        if _has_rows(path, encoding):
            yield from _csv_as_text(name, stream, [*wanted], rows_read)


def _csv_batches(
    path: Path,
    delimiter: str,
    encoding: str,
    types: Mapping[str, "pa.DataType"],
    notation: Notation = AS_BYTES,
    on_ragged: Callable[[Any], str] | None = None,
) -> Iterator["pa.RecordBatch"]:
    from pyarrow import csv

    with csv.open_csv(
        path,
        # Arrow knows the numbers of ragged rows only with a single thread.
        csv.ReadOptions(block_size=BLOCK, use_threads=on_ragged is None, encoding=encoding),
        csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=on_ragged),
        # Texts stay as they are: `convert` decides which of them mean a missing value.
        csv.ConvertOptions(
            column_types=types,
            include_columns=[*types],
            null_values=["", *notation.nulls],
            decimal_point=notation.decimal,
        ),
    ) as reader:
        yield from reader


def _csv_as_text(
    file: str, stream: Callable[..., Iterator["pa.RecordBatch"]], columns: Sequence[str], skip: int
) -> Iterator[Part]:
    """Rows of a CSV file as bytes, without the first `skip`."""
    import pyarrow as pa

    ragged: list[tuple[int, str]] = []

    def note(row: Any) -> str:
        cells = f"has {row.actual_columns} cells, the header {row.expected_columns}"
        ragged.append((row.number - 1, cells))  # Arrow counts the header
        return "skip"

    upcoming = 1  # number of the next row
    for batch in stream(dict.fromkeys(columns, pa.binary()), on_ragged=note):
        left_out = np.asarray([row for row, _ in ragged], np.int64)
        rows = np.setdiff1d(np.arange(upcoming, upcoming + len(batch) + len(left_out)), left_out)[: len(batch)]
        upcoming = int(rows[-1]) + 1 if len(rows) else upcoming
        passed = [(row, error) for row, error in ragged if row < upcoming]
        del ragged[: len(passed)]
        start = min(skip, len(batch))
        skip -= start
        yield Part(file, rows[start:], batch.slice(start), passed)
    if ragged:
        no_rows = pa.RecordBatch.from_pydict({name: pa.array([], pa.binary()) for name in columns})
        yield Part(file, np.zeros(0, np.int64), no_rows, ragged)


def _has_rows(path: Path, encoding: str) -> bool:
    # For Arrow, a header without a line end is an error; here, it is a table without rows.
    with path.open(encoding=encoding, newline="", errors="replace") as file:
        return sum(1 for _ in zip(filter(str.strip, file), range(2), strict=False)) > 1


def parquet_header(path: Path) -> list[str]:
    """Column names of a Parquet file."""
    from pyarrow import parquet

    with _readable(path), parquet.ParquetFile(path) as file:
        names: list[str] = file.schema_arrow.names
        return names


def parquet_index(path: Path) -> list[str]:
    """Columns of a Parquet file that are the index of a pandas DataFrame.

    https://pandas.pydata.org/docs/development/developer.html#storing-pandas-dataframe-objects-in-apache-parquet-format
    """
    from pyarrow import parquet

    with _readable(path), parquet.ParquetFile(path) as file:
        index = (file.schema_arrow.pandas_metadata or {}).get("index_columns", [])
        return [name for name in index if isinstance(name, str)]  # a range of numbers is no column


def parquet_rows(path: Path) -> int:
    """Number of rows of a Parquet file."""
    from pyarrow import parquet

    with _readable(path), parquet.ParquetFile(path) as file:
        return int(file.metadata.num_rows)


def parquet_parts(path: Path, wanted: Mapping[str, str], notation: Notation) -> Iterator[Part]:
    """Rows of a Parquet file, in parts of a row group.

    Args:
        path: The file.
        wanted: Columns to read; their types are ignored, cells have the types of the file.
        notation: Ignored as well: `convert` applies it.
    """
    from pyarrow import parquet

    rows_read = 0
    # Without `buffer_size`, a whole row group would be read at once.
    with _readable(path), parquet.ParquetFile(path, pre_buffer=False, buffer_size=1 << 18) as file:
        for batch in file.iter_batches(max(1024, BLOCK // (8 * len(wanted))), columns=[*wanted]):
            yield Part(path.as_posix(), np.arange(rows_read + 1, rows_read + 1 + len(batch)), batch)
            rows_read += len(batch)
