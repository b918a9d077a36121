"""The writer of a table's splits."""

import hashlib
import io
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .schema import Column
from .table_cells import nullable, numbers
from .table_files import BLOCK

if TYPE_CHECKING:
    import pyarrow as pa

CELLS = 1 << 20  # number of cells that are written at once


def canonical(rows: "pa.RecordBatch", fields: "pa.Schema") -> "pa.RecordBatch":
    """The columns of rows.arrow, with canonical bytes.

    Args:
        rows: These columns, and perhaps others.
        fields: Columns of rows.arrow.
    """
    import pyarrow as pa

    columns = [rows[name] for name in fields.names]
    columns = [nullable(numbers(cells)) if pa.types.is_floating(cells.type) else cells for cells in columns]
    return pa.RecordBatch.from_arrays(columns, schema=fields)


class SplitWriter:
    """Writer of rows.arrow and targets.npy of a split.

    Attributes:
        rows: Number of rows.
        digest: SHA-256 object of both files.
        values: Feature -> up to two distinct values, None if missing; a constant feature has one.
        counts: Class -> number of rows.
        low: Smallest target.
        high: Largest target.
    """

    def __init__(self, folder: Path, fields: "pa.Schema", features: Mapping[str, Column], dtype: type) -> None:
        """Opens the files.

        Args:
            folder: Folder of the split.
            fields: Columns of rows.arrow.
            features: Schema of the features.
            dtype: Type of the targets.
        """
        import pyarrow as pa

        self.rows = 0
        self.digest = hashlib.sha256()
        self.values: dict[str, set[Any]] = {name: set() for name in features}
        self.counts: Counter[int] = Counter()
        self.low, self.high = np.inf, -np.inf
        self._folder, self._fields, self._dtype = folder, fields, np.dtype(dtype)
        self._sink = _DigestingFile(folder / "rows.arrow", self.digest)
        self._writer = pa.ipc.new_file(self._sink, fields)
        self._targets = (folder / "targets.npy").open("wb")
        self._pending: list[pa.RecordBatch] = []
        self._cells = 0
        _write_npy_header(self._targets, self._dtype, 0)

    def add(self, rows: "pa.RecordBatch", targets: NDArray[Any]) -> None:
        """Appends rows and their targets.

        Args:
            rows: The columns of rows.arrow, as `canonical` gives them.
            targets: Numbers or indices of classes, [n].
        """
        if not len(targets):
            return
        self._note(rows, targets)
        self._targets.write(np.ascontiguousarray(targets, self._dtype).tobytes())
        self._pending.append(rows)
        self._cells += len(rows) * len(self._fields)
        if self._cells >= CELLS:
            self._flush()

    def _note(self, rows: "pa.RecordBatch", targets: NDArray[Any]) -> None:
        import pyarrow.compute as pc

        self.rows += len(targets)
        if self._dtype == np.int64:
            self.counts.update(dict(enumerate(np.bincount(targets).tolist())))
        self.low, self.high = min(self.low, float(targets.min())), max(self.high, float(targets.max()))
        for name, values in self.values.items():
            if len(values) < 2:
                values |= {*pc.min_max(rows[name]).as_py().values()}
                values |= {None} if rows[name].null_count else set()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._pending:
            self._writer.write_batch(pa.concat_batches(self._pending))
            self._pending, self._cells = [], 0

    def close(self) -> None:
        """Completes and closes the files, and completes their digest."""
        self._flush()
        self._writer.close()
        self._sink.close()
        self._targets.seek(0)
        _write_npy_header(self._targets, self._dtype, self.rows)
        self._targets.close()
        with (self._folder / "targets.npy").open("rb") as file:
            while block := file.read(BLOCK):
                self.digest.update(block)


class _DigestingFile(io.FileIO):
    """A file that updates a digest with the bytes written to it."""

    def __init__(self, path: Path, digest: Any) -> None:
        super().__init__(path, "wb")
        self._digest = digest

    def write(self, data: Any) -> int:
        self._digest.update(data)
        return super().write(data) or 0


def _write_npy_header(file: Any, dtype: np.dtype[Any], rows: int) -> None:
    # NumPy pads the header for the largest number of rows, so that it can be rewritten when the number is known.
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (rows,)}
    np.lib.format.write_array_header_1_0(file, header)
