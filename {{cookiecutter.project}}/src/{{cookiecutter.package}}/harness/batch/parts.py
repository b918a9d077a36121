"""Parts of a batch prediction: files beside the output that survive an interruption."""

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..core import files

if TYPE_CHECKING:
    import pyarrow as pa

GROUP_ROWS, GROUP_BYTES = 1 << 16, 1 << 26  # the most in memory when parts are joined


class Parts(NamedTuple):
    """The folder of the parts.

    Attributes:
        folder: The folder, beside the output.
        fingerprint: Digest of input, model and form of the output.
    """

    folder: Path
    fingerprint: str

    def finished(self) -> list[Path]:
        """The finished parts, in order; parts of another input or model are removed."""
        from pyarrow import ArrowException, parquet

        recorded = self.folder / "fingerprint"
        if recorded.exists() and recorded.read_text() != self.fingerprint:
            print("predict: the input or the model has changed since the interruption: starting over", file=sys.stderr)
            recorded.unlink()
        if not recorded.exists():
            for part in self.folder.glob("*.parquet*"):
                part.unlink()
            files.write_text(recorded, self.fingerprint)
        parts: list[Path] = []
        while (part := self.path(len(parts))).exists():
            try:
                parquet.read_metadata(part)
            except (ArrowException, OSError):  # damaged, by a disk that lost what it had promised to keep
                break
            parts.append(part)
        return parts

    def path(self, number: int) -> Path:
        """The path of a part."""
        return self.folder / f"{number:06}.parquet"

    def join(self, parts: Sequence[Path], schema: "pa.Schema", output: Path) -> dict[str, int]:
        """Writes the output from all parts, in one step.

        Args:
            parts: All parts, in order.
            schema: Columns of the output.
            output: The file to write: .csv or .parquet.

        Returns:
            Number of items, and of those that could not be predicted.
        """
        from pyarrow import csv, parquet

        items = failed = 0
        joined = self.folder / "joined"  # not beside the output: after `kill -9` nothing must be left there
        writer = csv.CSVWriter if output.suffix.lower() == ".csv" else parquet.ParquetWriter
        with files.replacing(joined) as temporary, writer(temporary, schema) as file:
            for table in _tables(parts, schema):
                file.write_table(table)
                items += len(table)
                failed += len(table) - table["error"].null_count
        os.replace(joined, output)
        return {"items": items, "failed": failed}


def _tables(parts: Sequence[Path], schema: "pa.Schema") -> Iterator["pa.Table"]:
    """Yields all predictions in order, in tables of the size of a row group."""
    import pyarrow as pa
    from pyarrow import parquet

    pending: list[pa.RecordBatch] = []
    for part in parts:
        with parquet.ParquetFile(part) as file:
            for batch in file.iter_batches():
                pending.append(batch)
                if sum(map(len, pending)) >= GROUP_ROWS or sum(batch.nbytes for batch in pending) >= GROUP_BYTES:
                    yield pa.Table.from_batches(pending, schema)
                    pending = []
    yield pa.Table.from_batches(pending, schema)
