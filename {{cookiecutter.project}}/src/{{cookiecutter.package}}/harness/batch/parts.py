"""Finished parts of a batch prediction, which survive an interruption."""

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..core import files

if TYPE_CHECKING:
    import pyarrow as pa

GROUP_ROWS, GROUP_BYTES = 1 << 16, 1 << 26  # maximum in memory when parts are joined


class Parts(NamedTuple):
    """The parts in a folder beside the output.

    Attributes:
        folder: The folder.
        fingerprint: Digest of input, model and format of the output.
    """

    folder: Path
    fingerprint: str

    def finished(self) -> list[Path]:
        """Finished parts, in order, after removing those of another fingerprint."""
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
            except (ArrowException, OSError):  # damaged, by a power failure for instance
                break
            parts.append(part)
        return parts

    def path(self, number: int) -> Path:
        """Path of a part."""
        return self.folder / f"{number:06}.parquet"

    def join(self, parts: Sequence[Path], schema: "pa.Schema", output: Path) -> dict[str, int]:
        """Joins all parts into the output, which is written atomically.

        Args:
            parts: All parts, in order.
            schema: Columns of the output.
            output: File to write: .csv or .parquet.

        Returns:
            `items` and `failed`, the numbers of all items and of those without prediction.
        """
        from pyarrow import csv, parquet

        items = failed = 0
        joined = self.folder / "joined"  # not beside the output, where `kill -9` would leave a stray file
        writer = csv.CSVWriter if output.suffix.lower() == ".csv" else parquet.ParquetWriter
        with files.replacing(joined) as temporary, writer(temporary, schema) as file:
            for table in _tables(parts, schema):
                file.write_table(table)
                items += len(table)
                failed += len(table) - table["error"].null_count
        os.replace(joined, output)
        return {"items": items, "failed": failed}


def _tables(parts: Sequence[Path], schema: "pa.Schema") -> Iterator["pa.Table"]:
    """Yields all predictions in order, in tables of bounded size."""
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
