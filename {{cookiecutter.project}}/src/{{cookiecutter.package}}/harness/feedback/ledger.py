"""The ledger: which examples from production the data hold, and who labeled them.

Hidden files beside the data, and so versioned with them, one for each `collect` that added examples:
.production-000001.csv. An example that is in the ledger is not added again, also if somebody has removed it.
"""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..core import files
from ..core.errors import UserError
from .contracts import Labeled

NAME = "production-{:06}"
FIELDS = ("id", "index", "contributor", "agrees")


class Entry(NamedTuple):
    """An example in the ledger.

    Attributes:
        id: Id of the answer.
        place: Position in the request.
        contributor: Who labeled it.
        agrees: Whether the model was right: `yes`, `no`, or empty if it was not sure.
    """

    id: str
    place: int
    contributor: str
    agrees: str


class Ledger(NamedTuple):
    """The ledger of a folder.

    Attributes:
        folder: The folder.
        entries: All examples.
        number: Number of the next file.
    """

    folder: Path
    entries: Sequence[Entry]
    number: int

    @property
    def name(self) -> str:
        """Name of the next file of examples, without suffix."""
        return NAME.format(self.number)

    @property
    def keys(self) -> set[tuple[str, int]]:
        """Id and position of all examples."""
        return {(entry.id, entry.place) for entry in self.entries}

    def add(self, examples: Sequence[Labeled]) -> Path:
        """Adds examples, after they are written; returns the file.

        Args:
            examples: The examples.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(FIELDS)
        for example in examples:
            agrees = {True: "yes", False: "no", None: ""}[example.agrees]
            writer.writerow([example.id, example.place, example.contributor, agrees])
        path = self.folder / f".{self.name}.csv"
        files.write_text(path, text.getvalue())
        return path


def read(folder: Path) -> Ledger:
    """The ledger of a folder.

    Args:
        folder: The folder.

    Raises:
        UserError: If a file of it is damaged.
    """
    entries, number = [], 1
    for path in sorted(folder.glob(".production-*.csv")):
        try:
            with path.open(newline="", encoding="utf-8") as file:
                for row in csv.DictReader(file, strict=True):
                    entries.append(Entry(row["id"], int(row["index"]), row["contributor"], row["agrees"]))
            number = max(number, int(path.stem.rpartition("-")[2]) + 1)
        except (ValueError, KeyError, csv.Error):
            raise UserError(f"{path}: is damaged: `dvc checkout` restores the committed version") from None
    return Ledger(folder, entries, number)
