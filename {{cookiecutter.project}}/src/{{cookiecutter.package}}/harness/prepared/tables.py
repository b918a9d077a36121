"""Prepared tables on disk, as inputs of a model."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..contracts import Inputs, Manifest
from ..core import config
from . import PREPARED
from . import manifest as read_manifest

if TYPE_CHECKING:
    import pyarrow as pa

SECTION = "features"
NAME, GROUP = "__name__", "__group__"  # columns of rows.arrow that are not features


def load(split: str, folder: Path = PREPARED) -> "pa.Table":
    """Features and names of a split's rows, memory-mapped.

    Args:
        split: `train`, `validation` or `test`.
        folder: Folder of the prepared data.
    """
    rows = _rows(split, folder)
    return rows.select([name for name in rows.column_names if name != GROUP])


def requests(split: str, places: Sequence[int], folder: Path = PREPARED) -> list[dict[str, Any]]:
    """Rows of a split, as the service takes them: column -> value, None if missing.

    Args:
        split: `train`, `validation` or `test`.
        places: Indices of the rows.
        folder: Folder of the prepared data.
    """
    dates = [column["name"] for column in read_manifest(folder)["columns"] if column["type"] == "date"]
    rows: list[dict[str, Any]] = load(split, folder).drop_columns([NAME]).take(list(places)).to_pylist()
    for row in rows:
        row |= {name: date_text(row[name]) for name in dates if row[name] is not None}
    return rows


def date_text(days: float) -> str:
    """A date as in requests: ISO 8601, without a time if that is 00:00.

    Args:
        days: Days since 1970-01-01 in UTC.
    """
    time = datetime(1970, 1, 1) + timedelta(days=days)
    return time.date().isoformat() if time == datetime.combine(time, datetime.min.time()) else time.isoformat()


def names(split: str, folder: Path = PREPARED) -> list[str]:
    """Names of a split's rows, in row order.

    Args:
        split: `train`, `validation` or `test`.
        folder: Folder of the prepared data.
    """
    texts: list[str] = _rows(split, folder)[NAME].to_pylist()
    return texts


def groups(split: str, folder: Path = PREPARED) -> NDArray[Any]:
    """Group of each row of a split, object [N] of str.

    Requires `data.group`.

    Args:
        split: `train`, `validation` or `test`.
        folder: Folder of the prepared data.
    """
    texts: NDArray[Any] = _rows(split, folder)[GROUP].to_numpy()
    return texts


def column(split: str, name: str, folder: Path = PREPARED) -> NDArray[Any]:
    """A feature of each row: float64 [N], NaN if missing, or object [N] of str, "" if missing.

    Args:
        split: `train`, `validation` or `test`.
        name: Name of the column.
        folder: Folder of the prepared data.
    """
    return _array(_rows(split, folder)[name])


def _rows(split: str, folder: Path) -> "pa.Table":
    import pyarrow as pa

    return pa.ipc.open_file(pa.memory_map(str(folder / split / "rows.arrow"))).read_all()


def batches(split: str, size: int, folder: Path = PREPARED) -> Iterator["pa.RecordBatch"]:
    """Batches of a split's rows, in row order.

    They are read instead of memory-mapped, so that memory is freed after each batch.

    Args:
        split: `train`, `validation` or `test`.
        size: Maximum number of rows in a batch.
        folder: Folder of the prepared data.
    """
    import pyarrow as pa

    with pa.OSFile(str(folder / split / "rows.arrow")) as file:
        reader = pa.ipc.open_file(file)
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            for start in range(0, len(batch), size):
                yield batch.slice(start, size)


def feeds(
    split: str, batch_size: int = 4096, folder: Path = PREPARED, rows: NDArray[np.int64] | None = None
) -> Iterator[dict[str, NDArray[Any]]]:
    """Batches of inputs for the exported model.

    Args:
        split: `train`, `validation` or `test`.
        batch_size: Maximum number of rows in a batch.
        folder: Folder of the prepared data.
        rows: Indices of the rows; None for all.

    Yields:
        Column -> float64 [n], NaN if missing, or object [n] of str, "" if missing.
    """
    taken = None if rows is None else _rows(split, folder).take(rows).to_batches(batch_size)
    for batch in batches(split, batch_size, folder) if taken is None else taken:
        yield _feed(batch)


def rows(split: str, places: Sequence[int], folder: Path = PREPARED) -> dict[str, NDArray[Any]]:
    """Some rows of a split, as inputs for the exported model, as in `feeds`.

    Args:
        split: `train`, `validation` or `test`.
        places: Indices of the rows, at least one.
        folder: Folder of the prepared data.
    """
    return _feed(load(split, folder).take(list(places)).combine_chunks().to_batches()[0])


def _feed(batch: "pa.RecordBatch") -> dict[str, NDArray[Any]]:
    return {
        name: _array(values)
        for name, values in zip(batch.schema.names, batch.columns, strict=True)
        if name not in (NAME, GROUP)
    }


def _array(values: "pa.Array | pa.ChunkedArray") -> NDArray[Any]:
    import pyarrow as pa
    import pyarrow.compute as pc

    known = values if pa.types.is_floating(values.type) else pc.fill_null(values, "")
    array: NDArray[Any] = known.to_numpy(zero_copy_only=False)
    return array


def inputs(manifest: Manifest, section: Mapping[str, Any]) -> Inputs:
    """The arrays on which a model is fitted, encoded on disk.

    The encoding is fitted on the training split; its graph becomes part of the exported model.

    Args:
        manifest: Manifest of the prepared data.
        section: Section `features` of the configuration.
    """
    import onnxruntime

    encoding = config.instantiate(section, load("train").drop_columns([NAME]), manifest["columns"])
    session = onnxruntime.InferenceSession(encoding.graph.SerializeToString(), providers=["CPUExecutionProvider"])
    output = session.get_outputs()[0]
    dtype = np.dtype(np.float64 if "double" in output.type else np.float32)
    scratch = Path(".dvc/tmp") if Path(".dvc/tmp").is_dir() else None  # not in /tmp, which may be in memory

    @cache  # a split that nobody asks for, such as `test` in the stage `train`, is not encoded
    def file(split: str) -> IO[bytes]:
        # An unnamed file, deleted with the last reference to `array`, even after `kill -9`.
        encoded = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115
        for feed in feeds(split):
            encoded.write(np.ascontiguousarray(session.run([output.name], feed)[0], dtype).data)
        encoded.flush()
        return encoded

    def array(split: str) -> NDArray[Any]:
        return np.memmap(file(split), dtype, "r", shape=(manifest["examples"][split], len(encoding.names)))

    return Inputs(output.name, array, encoding.layers, encoding.graph)


def describe(manifest: Manifest) -> dict[str, Any]:
    """Facts about the table for models/model.json."""
    return {key: manifest[key] for key in ("columns", "notation", "id") if key in manifest}
