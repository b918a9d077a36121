"""Conversion of cells to the types of the schema."""

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..inputs.table_dates import date_reader
from ..inputs.table_notation import (
    LARGEST,
    Notation,
    TooLarge,
    level_reader,
    null_numbers,
    number_reader,
)

if TYPE_CHECKING:
    import pyarrow as pa

Bad = dict[str, NDArray[np.bool_]]  # kind of violation -> mask of the cells with it, bool [n]


def convert(values: "pa.Array", type: str, notation: Notation, column: str) -> tuple["pa.Array", Bad]:
    """Cells converted to a type of the schema.

    Args:
        values: Cells, of the type in the file.
        type: Type in the schema: `number` gives doubles, `date` doubles of days since 1970, `time` timestamp[us] in
            UTC, any other type strings.
        notation: How the cells are written.
        column: Name of the column.

    Returns:
        The cells, null if they are missing or cannot be converted; and kind of violation -> mask of the cells with it,
        bool [n].
    """
    import pyarrow as pa

    values, undecodable = _decoded(values)
    if holds_no_values(values.type) or (type == "number" and pa.types.is_temporal(values.type)):
        nulls = {"number": pa.float64(), "date": pa.float64(), "time": pa.timestamp("us")}.get(type, pa.string())
        converted, bad = pa.nulls(len(values), nulls), {"type": as_numpy(values.is_valid())}
    elif type == "number":
        converted, bad = _numbers(values, notation)
    elif type == "date":
        converted, bad = _dates(values, notation)
    elif type == "time":
        converted, bad = _times(values, notation)
    else:
        converted, bad = _mapped(values, level_reader(notation, column)), {}
    return converted, {kind: mask for kind, mask in (undecodable | bad).items() if mask.any()}


def holds_no_values(type: "pa.DataType") -> bool:
    """Whether cells of a type are no texts, numbers, truth values or times, but lists, for example, or durations.

    Args:
        type: Type in the file.
    """
    import pyarrow as pa

    return bool(pa.types.is_nested(type) or pa.types.is_duration(type) or pa.types.is_interval(type))


def stored(values: "pa.Array") -> "pa.Array":
    """Cells with dictionaries decoded, in a type that Arrow's functions take.

    Args:
        values: Cells, of the type in the file.
    """
    import pyarrow as pa

    if pa.types.is_dictionary(values.type):
        return stored(values.dictionary_decode())
    if isinstance(values, pa.ExtensionArray):
        if not pa.types.is_fixed_size_binary(values.storage.type):
            return stored(values.storage)
        return pa.array([None if cell is None else str(cell) for cell in values.to_pylist()], pa.string())  # UUIDs
    if pa.types.is_float16(values.type):
        return _shortest(values)
    if pa.types.is_fixed_size_binary(values.type) or pa.types.is_binary_view(values.type):
        return values.cast(pa.binary())
    return values.cast(pa.string()) if pa.types.is_string_view(values.type) else values


def _shortest(values: "pa.Array") -> "pa.Array":
    """Doubles of the shortest texts of narrower floats: 0.1, not 0.10000000149011612."""
    import pyarrow as pa

    shortest = pa.array([str(number) for number in as_numpy(values)])
    return pa.array(shortest.cast(pa.float64()), mask=as_numpy(values.is_null()))


def _decoded(values: "pa.Array") -> tuple["pa.Array", Bad]:
    """Cells as `stored`, and bytes decoded to text."""
    import pyarrow as pa

    values = stored(values)
    if not (pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type)):
        return values, {}
    try:
        return values.cast(pa.string()), {}
    except pa.ArrowInvalid:
        cells, undecodable = values.to_pylist(), np.zeros(len(values), np.bool_)
        for row, cell in enumerate(cells):
            try:
                cells[row] = cell.decode() if cell is not None else None
            except UnicodeDecodeError:
                cells[row], undecodable[row] = None, True
        return pa.array(cells, pa.string()), {"encoding": undecodable}


def _numbers(values: "pa.Array", notation: Notation) -> tuple["pa.Array", Bad]:
    import pyarrow as pa

    bad: Bad = {}
    if _is_text(values):
        values, bad = _parsed(values, notation)
    elif pa.types.is_boolean(values.type):
        values = values.cast(pa.int8())
    values = values.cast(pa.float64(), safe=False)
    cells = numbers(values)
    too_large = np.abs(cells) > LARGEST
    codes = [*null_numbers(notation)]
    missing = np.isin(cells, codes) if codes else np.False_
    if too_large.any():
        bad = bad | {"size": bad.get("size", False) | too_large}
    if (invalid := too_large | missing).any():
        return nullable(np.where(invalid, np.nan, cells)), bad
    if np.isnan(cells).sum() != values.null_count:  # NaN in a Parquet file
        values = nullable(cells)
    return values, bad


def _is_text(values: "pa.Array") -> bool:
    import pyarrow as pa

    return bool(
        pa.types.is_string(values.type) or pa.types.is_large_string(values.type) or pa.types.is_string_view(values.type)
    )


def _parsed(texts: "pa.Array", notation: Notation) -> tuple["pa.Array", Bad]:
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = pc.if_else(pc.is_in(texts, pa.array(["", *notation.nulls], texts.type)), None, texts)
    if notation.plain:
        with suppress(pa.ArrowInvalid):
            return texts.cast(pa.float64()), {}
    return _read(texts, number_reader(notation))


def _read(cells: "pa.Array", read: Callable[[object], float]) -> tuple["pa.Array", Bad]:
    """Doubles that a function reads from cells, each distinct one once."""
    encoded = cells.dictionary_encode()
    size = len(encoded.dictionary)
    values, kinds = np.full(size + 1, np.nan), np.zeros(size + 1, "<U4")
    for place, cell in enumerate(encoded.dictionary.to_pylist()):
        try:
            values[place] = read(cell)
        except TooLarge:
            kinds[place] = "size"
        except ValueError:
            kinds[place] = "type"
    indices = as_numpy(encoded.indices.fill_null(size))
    return nullable(values[indices]), {kind: kinds[indices] == kind for kind in ("type", "size")}


def _dates(values: "pa.Array", notation: Notation) -> tuple["pa.Array", Bad]:
    import pyarrow as pa

    if not (pa.types.is_timestamp(values.type) or pa.types.is_date(values.type)):
        return _read(_plain(values), date_reader(notation))
    microseconds = values.cast(pa.timestamp("us", "UTC"), safe=False).cast(pa.int64())
    return nullable(as_numpy(microseconds.cast(pa.float64())) / 86_400e6), {}


def _times(values: "pa.Array", notation: Notation) -> tuple["pa.Array", Bad]:
    import pyarrow as pa

    if pa.types.is_timestamp(values.type) or pa.types.is_date(values.type):
        return values.cast(pa.timestamp("us", "UTC"), safe=False).cast(pa.timestamp("us")), {}
    import pandas as pd

    text = _mapped(values, level_reader(Notation(notation.nulls), "")).to_pandas()
    times = pd.to_datetime(text, format="ISO8601", utc=True, errors="coerce")
    bad = (times.isna() & text.notna()).to_numpy(np.bool_)
    without_zone = times.dt.tz_localize(None).astype("datetime64[us]")
    return pa.array(without_zone, pa.timestamp("us"), from_pandas=True), {"type": bad}


def _mapped(values: "pa.Array", read: Callable[[object], str]) -> "pa.Array":
    """Texts of cells, null if missing; each distinct cell is read once."""
    import pyarrow as pa

    encoded = _plain(values).dictionary_encode()
    # ONNX has no missing strings; "" stands for them, in files as in requests.
    texts = pa.array([read(cell) or None for cell in encoded.dictionary.to_pylist()], pa.string())
    return texts.take(encoded.indices)


def _plain(values: "pa.Array") -> "pa.Array":
    """Cells that Python sees as a text, an integer, a float or a truth value."""
    import pyarrow as pa

    if pa.types.is_float32(values.type):
        return _shortest(values)
    plain = pa.types.is_integer(values.type) or pa.types.is_floating(values.type) or pa.types.is_boolean(values.type)
    return values if plain or _is_text(values) else values.cast(pa.string())


def as_numpy(values: "pa.Array") -> NDArray[Any]:
    """An Arrow array as a NumPy array, with NaN for missing numbers."""
    array: NDArray[Any] = values.to_numpy(zero_copy_only=False)
    return array


def numbers(values: "pa.Array") -> NDArray[np.float64]:
    """Doubles as float64 [n], NaN if missing.

    -0.0 becomes 0.0, so that equal numbers have equal bytes.
    """
    array: NDArray[np.float64] = as_numpy(values) + 0.0
    return array


def nullable(values: NDArray[np.float64]) -> "pa.Array":
    """Doubles as an Arrow array with canonical bytes: 0.0 below every null.

    Args:
        values: float64 [n], NaN if missing.
    """
    import pyarrow as pa

    missing = np.isnan(values)
    return pa.array(np.where(missing, 0.0, values), mask=missing) if missing.any() else pa.array(values)
