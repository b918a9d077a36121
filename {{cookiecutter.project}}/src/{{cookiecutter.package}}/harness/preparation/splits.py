"""The random split, and files that every preparation writes."""

import contextlib
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..contracts import Manifest, Splits
from ..core import files
from ..core.errors import UserError, shortened
from ..core.paths import DATA_REPORT
from ..prepared import PREPARED, SPLITS


def assign(digest: str, splits: Splits) -> str:
    """The split of an example, from a hash of its content.

    New examples therefore never move others to another split, and exact duplicates are always in the same split. The
    expected fractions are the same for every class.

    Args:
        digest: Digest of the example's content.
        splits: Seed and fractions.
    """
    place = position(digest, splits) / 2**64
    return "test" if place < splits.test else "validation" if place < splits.test + splits.validation else "train"


def position(digest: str, splits: Splits) -> int:
    """The hash of an example's digest and the seed, 64 bits.

    Args:
        digest: Digest of the example's content.
        splits: Seed and fractions.
    """
    return int.from_bytes(hashlib.sha256(f"{splits.seed}:{digest}".encode()).digest()[:8])


class Strata:
    """The classes without an example in some split, and who moves there.

    A stratified split is the random one, except for these classes. It keeps their hashes only: a class is dropped as
    soon as each split has one of its examples, which for all but rare classes is after a few.
    """

    def __init__(self) -> None:
        """Starts with no example."""
        self._lacking: dict[int, dict[int, int]] = {}
        self._complete: set[int] = set()

    def lacks(self, label: int) -> bool:
        """Whether a split has no example of a class so far."""
        return label not in self._complete

    def add(self, label: int, found: Mapping[int, int]) -> None:
        """Notes examples of a class.

        Args:
            label: Index of the class.
            found: Position of an example -> index of its random split in `SPLITS`.
        """
        if self.lacks(label):
            known = self._lacking.setdefault(label, {})
            known.update(found)
            if {*known.values()} == {*range(len(SPLITS))}:
                self._complete.add(label)
                del self._lacking[label]

    def moves(self) -> dict[int, int]:
        """Position of each example to move -> index of its new split."""
        return {place: split for found in self._lacking.values() for place, split in _moves(found).items()}


def _moves(found: Mapping[int, int]) -> dict[int, int]:
    """The moves that give each split an example of a class with at least 3.

    Test takes the highest position and the others the lowest, so that a new example changes only one of two moves.

    Args:
        found: Position of each example -> index of its random split.
    """
    now, moves = dict(found), dict[int, int]()
    for split, choose in enumerate((min, min, max)):
        if len(now) >= len(SPLITS) and split not in now.values():
            counts = Counter(now.values())
            giver = next(index for index in range(len(SPLITS)) if counts[index] > 1)  # training, if it has two
            place = choose(place for place, index in now.items() if index == giver)
            now[place] = moves[place] = split
    return moves


@contextlib.contextmanager
def replaced(folder: Path = PREPARED) -> Iterator[Path]:
    """A temporary folder that replaces another, unless an error occurs.

    Args:
        folder: Folder to replace as a whole.

    Yields:
        Path of the temporary folder, with an empty folder for each split.
    """
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        for split in SPLITS:
            (temporary / split).mkdir(parents=True)
        yield temporary
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(temporary, folder)


def require_every_class(
    classes: Sequence[str], counts: Mapping[str, Sequence[int]], division: str, leave_out: str
) -> None:
    """Rejects splits that lack a class.

    Args:
        classes: Names of the classes.
        counts: Split -> number of examples of each class.
        division: How the examples were divided, as in `data.split`.
        leave_out: How a user leaves out a class.

    Raises:
        UserError: Naming missing classes and their splits.
    """
    missing = [
        f"class {name!r} has no example in split {split}"
        for split, numbers in counts.items()
        for name, number in zip(classes, numbers, strict=True)
        if not number
    ]
    if not missing:
        return
    fewest = min(map(sum, zip(*counts.values(), strict=True)))
    remedy = "add examples, raise prepare.test/validation or change prepare.seed"
    if division == "stratified" or fewest < len(SPLITS):
        remedy = f"a class needs {len(SPLITS)} different examples, one for each split: add some, or {leave_out}"
    elif division == "random":
        remedy = (
            "set data.split: stratified in conf/data/, which gives every split one if a class has 3 different ones, or "
            "add examples"
        )
    raise UserError(f"{shortened(missing, separator='; ')}: {remedy}")


def require_examples(examples: Mapping[str, int]) -> None:
    """Rejects empty splits.

    Args:
        examples: Split -> number of examples.

    Raises:
        UserError: Naming the empty splits.
    """
    if empty := [split for split, number in examples.items() if not number]:
        raise UserError(
            f"split {' and '.join(empty)} has no examples: add examples, raise prepare.test/validation or change "
            "prepare.seed"
        )


def write_manifest(content: Manifest, folder: Path) -> None:
    """Writes manifest.json into a folder."""
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False)
    files.write_text(folder / "manifest.json", text + "\n")


def write_report(content: Mapping[str, Any]) -> None:
    """Writes reports/data.json."""
    files.write_text(DATA_REPORT, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
