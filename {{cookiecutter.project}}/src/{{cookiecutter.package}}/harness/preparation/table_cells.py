"""Conversion of cells to the types of the schema."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..inputs.tables import NULLS

if TYPE_CHECKING:
    import pyarrow as pa

Bad = dict[str, NDArray[np.bool_]]  # kind of violation -> mask of the cells with it, bool [n]

LARGEST = float(np.finfo(np.float32).max)  # the model computes in 32-bit arithmetic
NUMBER = r"(?i)^[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf|infinity)$"


def convert(values: "pa.Array", type: str) -> tuple["pa.Array", Bad]:
    """Cells converted to a type of the schema.

    Args:
        values: Cells, of the type in the file.
        type: Type in the schema: `number` gives doubles, `time` timestamp[us] in UTC, any other type strings.

    Returns:
        The cells, null if they cannot be converted; and kind of violation -> mask of the cells with it, bool [n].
    """
    import pyarrow as pa

    values, undecodable = _decoded(values)
    if pa.types.is_nested(values.type) or (type == "number" and pa.types.is_temporal(values.type)):
        nulls = {"number": pa.float64(), "time": pa.timestamp("us")}.get(type, pa.string())
        converted, bad = pa.nulls(len(values), nulls), {"type": as_numpy(values.is_valid())}
    else:
        converted, bad = _CONVERTERS.get(type, _texts)(values)
    return converted, {kind: mask for kind, mask in (undecodable | bad).items() if mask.any()}


def _decoded(values: "pa.Array") -> tuple["pa.Array", Bad]:
    """Cells with dictionaries decoded, and bytes decoded to text."""
    import pyarrow as pa

    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
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


def _numbers(values: "pa.Array") -> tuple["pa.Array", Bad]:
    import pyarrow as pa

    bad: Bad = {}
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type) or pa.types.is_string_view(values.type):
        values, bad = _parsed(values)
    elif pa.types.is_boolean(values.type):
        values = values.cast(pa.int8())
    values = values.cast(pa.float64(), safe=False)
    cells = numbers(values)
    too_large = np.abs(cells) > LARGEST
    if too_large.any():
        return nullable(np.where(too_large, np.nan, cells)), bad | {"size": too_large}
    if np.isnan(cells).sum() != values.null_count:  # NaN in a Parquet file
        values = nullable(cells)
    return values, bad


def _parsed(texts: "pa.Array") -> tuple["pa.Array", Bad]:
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        return texts.cast(pa.float64()), {}
    except pa.ArrowInvalid:
        cells = pc.utf8_trim_whitespace(texts.cast(pa.string()))
        cells = pc.if_else(pc.is_in(cells, pa.array([*NULLS])), None, cells)
        is_number = pc.match_substring_regex(cells, NUMBER)
        bad = as_numpy(pc.fill_null(pc.invert(is_number), False))
        return pc.if_else(is_number, cells, None).cast(pa.float64()), {"type": bad}


def _times(values: "pa.Array") -> tuple["pa.Array", Bad]:
    import pyarrow as pa

    if pa.types.is_timestamp(values.type) or pa.types.is_date(values.type):
        return values.cast(pa.timestamp("us", "UTC"), safe=False).cast(pa.timestamp("us")), {}
    import pandas as pd

    text = values.cast(pa.string()).to_pandas()
    times = pd.to_datetime(text, format="ISO8601", utc=True, errors="coerce")
    bad = (times.isna() & text.notna()).to_numpy(np.bool_)
    without_zone = times.dt.tz_localize(None).astype("datetime64[us]")
    return pa.array(without_zone, pa.timestamp("us"), from_pandas=True), {"type": bad}


def _texts(values: "pa.Array") -> tuple["pa.Array", Bad]:
    import pyarrow as pa
    import pyarrow.compute as pc

    values = values.cast(pa.string())
    if values.null_count < len(values):
        # ONNX has no missing strings; "" stands for them, in files as in requests.
        blank = pc.equal(values, "")
        values = pc.if_else(blank, None, values) if pc.any(blank).as_py() else values
    return values, {}


_CONVERTERS: dict[str, Callable[["pa.Array"], tuple["pa.Array", Bad]]] = {"number": _numbers, "time": _times}


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
