"""Prepared tables on disk, and what a model is fitted on."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from .. import contracts, prepared
from ..core import config

if TYPE_CHECKING:
    import pyarrow as pa

SECTION = "features"


def load(split: str, folder: Path = prepared.PREPARED) -> "pa.Table":
    """Returns the rows of a split, memory-mapped.

    Args:
        split: `train`, `validation` or `test`.
        folder: Where the prepared data lie.
    """
    rows = _rows(split, folder)
    return rows.select([name for name in rows.column_names if name != GROUP])


def groups(split: str, folder: Path = prepared.PREPARED) -> NDArray[Any]:
    """Returns which group each row of a split is of, where data.group says so: str [N] (of objects).

    Args:
        split: `train`, `validation` or `test`.
        folder: Where the prepared data lie.
    """
    found: NDArray[Any] = _rows(split, folder)[GROUP].to_numpy()
    return found


def _rows(split: str, folder: Path) -> "pa.Table":
    import pyarrow as pa

    return pa.ipc.open_file(pa.memory_map(str(folder / split / "rows.arrow"))).read_all()


class Names(Sequence[str]):
    """The names of a split's rows, on disk."""

    def __init__(self, split: str, folder: Path) -> None:
        """Opens them."""
        self._names = load(split, folder)[NAME]

    def __len__(self) -> int:
        """Returns the number of rows."""
        return len(self._names)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        """Returns the name of a row."""
        found = self._names[row]
        return found.to_pylist() if isinstance(row, slice) else found.as_py()  # type: ignore[no-any-return]


def names(split: str, folder: Path = prepared.PREPARED) -> Names:
    """Returns what a person calls the rows of a split, in their order."""
    return Names(split, folder)


def feeds(split: str, batch_size: int = 4096, folder: Path = prepared.PREPARED) -> Iterator[dict[str, NDArray[Any]]]:
    """Yields what the exported model is asked with, in the order of the rows.

    Args:
        split: `train`, `validation` or `test`.
        batch_size: The most rows in memory at a time.
        folder: Where the prepared data lie.

    Yields:
        Column -> float64 [n], NaN where missing, or str [n] (of objects), "" where missing.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    for batch in batches(split, batch_size, folder):
        yield {
            name: values.to_numpy(zero_copy_only=False)
            if pa.types.is_floating(values.type)
            else pc.fill_null(values, "").to_numpy(zero_copy_only=False)
            for name, values in zip(batch.schema.names, batch.columns, strict=True)
            if name not in (NAME, GROUP)
        }


def inputs(manifest: contracts.Manifest, section: Mapping[str, Any]) -> contracts.Inputs:
    """Returns what a model is fitted on: every split, encoded once by the graph that becomes part of the model.

    Args:
        manifest: Of the prepared data.
        section: Section `features` of the configuration.
    """
    import onnxruntime

    encoding = config.instantiate(section, load("train").drop_columns([NAME]), manifest["columns"])
    session = onnxruntime.InferenceSession(encoding.graph.SerializeToString(), providers=["CPUExecutionProvider"])
    output = session.get_outputs()[0]
    place = Path(".dvc/tmp") if Path(".dvc/tmp").is_dir() else None  # not in /tmp, which may lie in memory
    # Files without a name, which go with the last reference to `array`: not even `kill -9` leaves one behind.
    files = {split: tempfile.TemporaryFile(dir=place) for split in prepared.SPLITS}  # noqa: SIM115
    dtype = np.dtype(np.float64 if "double" in output.type else np.float32)
    for split, file in files.items():
        for feed in feeds(split):
            file.write(np.ascontiguousarray(session.run([output.name], feed)[0], dtype).tobytes())
        file.flush()

    def array(split: str) -> NDArray[Any]:
        return np.memmap(files[split], dtype, "r", shape=(manifest["examples"][split], len(encoding.names)))

    return contracts.Inputs(output.name, array, encoding.layers, encoding.graph)


def describe(manifest: contracts.Manifest) -> dict[str, Any]:
    """Returns what the service and batch predictions must know of a table."""
    return {key: manifest[key] for key in ("columns", "id") if key in manifest}


NAME, GROUP = "__name__", "__group__"


def batches(split: str, size: int, folder: Path = prepared.PREPARED) -> Iterator["pa.RecordBatch"]:
    """Yields rows in order, at most `size` at a time, read and not mapped: what is done with leaves the memory."""
    import pyarrow as pa

    with pa.OSFile(str(folder / split / "rows.arrow")) as file:
        reader = pa.ipc.open_file(file)
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            for start in range(0, len(batch), size):
                yield batch.slice(start, size)
