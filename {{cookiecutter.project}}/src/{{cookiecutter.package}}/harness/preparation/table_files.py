"""Files of tables: their rows in batches, and cells turned into the types of the schema."""

import codecs
import csv as text
import glob
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.errors import UserError
from ..inputs.tables import NULLS

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK = 1 << 20  # bytes of a CSV file read at once
LARGEST = float(np.finfo(np.float32).max)  # the model computes in 32 bits


class Part(NamedTuple):
    """Some rows of a file.

    Attributes:
        rows: int64 [n], their numbers, from 1.
        values: The wanted columns, not yet of the schema's types.
        ragged: Number of a row with too few or too many cells, and what is wrong with it; such rows are left out.
    """

    rows: NDArray[np.int64]
    values: "pa.RecordBatch"
    ragged: Sequence[tuple[int, str]] = ()


class File(NamedTuple):
    """A file of a table.

    Attributes:
        name: What a person calls it.
        header: Gives the names of its columns.
        read: Gives its rows; asked with wanted column -> type it should have, a type of the schema.
    """

    name: str
    header: Callable[[], list[str]]
    read: Callable[[Mapping[str, str]], Iterator[Part]]


def find(path: str, suffix: str) -> tuple[Path, list[Path]]:
    """Returns what DVC must watch, and the files in the order of their names."""
    root = Path(path)
    if root.is_dir():
        files = sorted(file for file in root.glob(f"*.{suffix}") if not file.name.startswith("."))
        if not files:
            raise UserError(f"data.path: the folder {path!r} holds no *.{suffix} file: put one there, or name a file")
        return root, files
    if glob.has_magic(path) and not root.exists():
        files = sorted(map(Path, glob.glob(path, recursive=True)))
        if not files:
            raise UserError(f"data.path: no file is called {path!r}: correct the pattern")
        return next(parent for parent in root.parents if not glob.has_magic(str(parent))), files
    if not root.exists() and not root.is_symlink():
        raise UserError(f"data.path: there is no {path!r}; put the file there, then `dvc add {path}`")
    return root, [root]


@contextmanager
def _readable(path: Path, encoding: str = "") -> Iterator[None]:
    """Tells in one line what the reading of a file can end in."""
    import pyarrow as pa

    try:
        yield
    except UnicodeError:
        raise UserError(f"{path}: is not {encoding}: correct data.encoding, or save the file anew") from None
    except (pa.ArrowException, OSError, text.Error) as error:
        message = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise UserError(f"{path}: cannot be read: {message[:200]}") from None


def csv_header(path: Path, delimiter: str, encoding: str) -> list[str]:
    """Returns the names of a text file's columns.

    Args:
        path: The file.
        delimiter: Between two cells.
        encoding: Of the file.

    Raises:
        UserError: Where there is no header, or it is one column that holds another delimiter.
    """
    bom = "utf-8-sig" if _is_utf8(encoding) else encoding
    # Text is decoded in blocks: what is wrong below the header is told with its row later.
    with _readable(path, encoding), path.open(encoding=bom, newline="", errors="surrogateescape") as file:
        names = next((row for row in text.reader(file, delimiter=delimiter) if row), [])
        "".join(names).encode()
    if not names:
        raise UserError(f"{path}: the file is empty")
    others = [other for other in (",", ";", "\t", "|") if other != delimiter and other in names[0]]
    if len(names) == 1 and others:
        raise UserError(
            f"{path}: has the one column {names[0][:80]!r}: is data.delimiter {delimiter!r} right? It looks like "
            f"{others[0]!r}"
        )
    return names


def _is_utf8(encoding: str) -> bool:
    return codecs.lookup(encoding).name in ("utf-8", "ascii")


def csv_parts(path: Path, delimiter: str, encoding: str, wanted: Mapping[str, str]) -> Iterator[Part]:
    """Reads a file straight into its types; only where that fails, the rest of it as text, to find every bad cell."""
    import pyarrow as pa
    from pyarrow import csv

    def stream(types: dict[str, "pa.DataType"], handler: Callable[[Any], str] | None) -> Iterator["pa.RecordBatch"]:
        with csv.open_csv(
            path,
            # Only one thread knows the numbers of ragged rows.
            csv.ReadOptions(block_size=BLOCK, use_threads=handler is None, encoding=encoding),
            csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=handler),
            csv.ConvertOptions(
                column_types=types, include_columns=list(types), null_values=[*NULLS], strings_can_be_null=True
            ),
        ) as reader:
            yield from reader

    done = 0
    if "raw" not in wanted.values():
        try:
            types = {name: pa.float64() if type == "number" else pa.string() for name, type in wanted.items()}
            for batch in stream(types, None):
                yield Part(np.arange(done + 1, done + 1 + len(batch)), batch)
                done += len(batch)
            return
        except (pa.ArrowInvalid, UnicodeError):
            pass  # told below, with every other one
    ragged: list[tuple[int, str]] = []

    def note(row: Any) -> str:
        cells = f"has {row.actual_columns} cells, the header {row.expected_columns}"
        ragged.append((row.number - 1, cells))  # Arrow counts the header
        return "skip"

    def told(before: int) -> list[tuple[int, str]]:
        found = [row for row in ragged if row[0] < before]
        del ragged[: len(found)]
        return found

    upcoming, skip = 1, done
    with _readable(path, encoding):
        if not _has_rows(path, encoding):
            return
        for batch in stream(dict.fromkeys(wanted, pa.binary()), note):
            broken = np.asarray([number for number, _ in ragged], np.int64)
            rows = np.setdiff1d(np.arange(upcoming, upcoming + len(batch) + len(broken)), broken)[: len(batch)]
            upcoming = int(rows[-1]) + 1 if len(rows) else upcoming
            fresh = min(len(batch), max(0, len(batch) - skip))
            skip = max(0, skip - len(batch))
            yield Part(rows[len(batch) - fresh :], batch.slice(len(batch) - fresh), told(upcoming))
        if ragged:
            empty = pa.RecordBatch.from_pydict({name: pa.array([], pa.binary()) for name in wanted})
            yield Part(np.zeros(0, np.int64), empty, ragged)


def _has_rows(path: Path, encoding: str) -> bool:
    # A header without a line end is an error to Arrow, a table without rows to everybody else.
    with path.open(encoding=encoding, newline="", errors="replace") as file:
        return sum(1 for _ in zip(filter(str.strip, file), range(2), strict=False)) > 1


def parquet_header(path: Path) -> list[str]:
    """Returns the names of a Parquet file's columns."""
    from pyarrow import parquet

    with _readable(path), parquet.ParquetFile(path) as file:
        names: list[str] = file.schema_arrow.names
        return names


def parquet_rows(path: Path) -> int:
    """Returns the number of a Parquet file's rows."""
    from pyarrow import parquet

    with _readable(path), parquet.ParquetFile(path) as file:
        return int(file.metadata.num_rows)


def parquet_parts(path: Path, wanted: Mapping[str, str]) -> Iterator[Part]:
    """Reads the wanted columns of a Parquet file, a part of a row group at a time."""
    from pyarrow import parquet

    done = 0
    # Without the buffer, a whole row group would be read at once.
    with _readable(path), parquet.ParquetFile(path, pre_buffer=False, buffer_size=1 << 18) as file:
        for batch in file.iter_batches(max(1024, BLOCK // (8 * len(wanted))), columns=list(wanted)):
            yield Part(np.arange(done + 1, done + 1 + len(batch)), batch)
            done += len(batch)


def memory(name: str, load: Callable[[], "pa.Table"]) -> File:
    """Returns a table in memory as if it were a file."""

    def read(wanted: Mapping[str, str]) -> Iterator[Part]:
        for batch in load().select(list(wanted)).to_batches():
            yield Part(np.arange(1, 1 + len(batch)), batch)

    return File(name, lambda: list(load().column_names), read)


NUMBER = r"(?i)^[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf|infinity)$"


def convert(values: "pa.Array", type: str) -> tuple["pa.Array", dict[str, NDArray[np.bool_]]]:
    """Turns cells into the type that the schema wants.

    Args:
        values: Whatever the file holds.
        type: `number` -> double, `time` -> timestamp[us] in UTC, others -> string.

    Returns:
        The cells, null where that is impossible; and kind of violation -> bool [n], which cells are violations.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    kind, bad = values.type, {}
    if pa.types.is_dictionary(kind):
        values = values.dictionary_decode()
        kind = values.type
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        values, broken = _decode(values)
        if broken is not None:
            bad["encoding"] = broken
        kind = values.type
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    if pa.types.is_nested(kind) or (type == "number" and pa.types.is_temporal(kind)):
        bad["type"] = as_numpy(values.is_valid())
        values = pa.nulls(len(values), pa.float64() if type == "number" else pa.string())
    elif type == "number":
        if is_text:
            values, bad["type"] = _numbers(values)
        elif pa.types.is_boolean(kind):
            values = values.cast(pa.int8())
        values = values.cast(pa.float64(), safe=False)
    elif type == "time":
        values, bad["type"] = _times(values)
    else:
        values = values.cast(pa.string())
        if values.null_count < len(values):
            # ONNX knows no missing string: "" stands for it, in a file as well as in a request.
            blank = pc.equal(values, "")
            values = pc.if_else(blank, None, values) if pc.any(blank).as_py() else values
    if type == "number":
        found = numbers(values)
        large = np.abs(found) > LARGEST
        if large.any():
            bad["size"] = large
            values = nullable(np.where(large, np.nan, found))
        elif np.isnan(found).sum() != values.null_count:  # NaN in a Parquet file
            values = nullable(found)
    return values, {kind: mask for kind, mask in bad.items() if mask.any()}


def _decode(values: "pa.Array") -> tuple["pa.Array", NDArray[np.bool_] | None]:
    import pyarrow as pa

    try:
        return values.cast(pa.string()), None
    except pa.ArrowInvalid:
        cells, broken = values.to_pylist(), np.zeros(len(values), np.bool_)
        for row, cell in enumerate(cells):
            try:
                cells[row] = cell.decode() if cell is not None else None
            except UnicodeDecodeError:
                cells[row], broken[row] = None, True
        return pa.array(cells, pa.string()), broken


def _numbers(values: "pa.Array") -> tuple["pa.Array", NDArray[np.bool_]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        return values.cast(pa.float64()), np.zeros(len(values), np.bool_)
    except pa.ArrowInvalid:
        cells = pc.utf8_trim_whitespace(values.cast(pa.string()))
        cells = pc.if_else(pc.is_in(cells, pa.array([*NULLS])), None, cells)
        fine = pc.match_substring_regex(cells, NUMBER)
        return pc.if_else(fine, cells, None).cast(pa.float64()), as_numpy(pc.fill_null(pc.invert(fine), False))


def _times(values: "pa.Array") -> tuple["pa.Array", NDArray[np.bool_]]:
    import pyarrow as pa

    if pa.types.is_timestamp(values.type) or pa.types.is_date(values.type):
        zoned = values.cast(pa.timestamp("us", "UTC"), safe=False)
        return zoned.cast(pa.timestamp("us")), np.zeros(len(values), np.bool_)
    import pandas as pd

    text = values.cast(pa.string()).to_pandas()
    times = pd.to_datetime(text, format="ISO8601", utc=True, errors="coerce")
    bad = (times.isna() & text.notna()).to_numpy(np.bool_)
    return pa.array(times.dt.tz_localize(None).astype("datetime64[us]"), pa.timestamp("us"), from_pandas=True), bad


def as_numpy(values: "pa.Array") -> NDArray[Any]:
    """Returns an array of NumPy's, NaN where a number is missing."""
    found: NDArray[Any] = values.to_numpy(zero_copy_only=False)
    return found


def numbers(values: "pa.Array") -> NDArray[np.float64]:
    """Returns float64 [n], NaN where missing, never -0.0: equal numbers have equal bytes.

    Args:
        values: Doubles.
    """
    found: NDArray[np.float64] = as_numpy(values) + 0.0
    return found


def nullable(values: NDArray[np.float64]) -> "pa.Array":
    """Returns doubles whose bytes depend on the numbers alone, what lies under a null included.

    Args:
        values: float64 [n], NaN where missing.
    """
    import pyarrow as pa

    missing = np.isnan(values)
    return pa.array(np.where(missing, 0.0, values), mask=missing) if missing.any() else pa.array(values)
