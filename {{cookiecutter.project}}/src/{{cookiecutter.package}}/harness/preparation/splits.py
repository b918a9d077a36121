"""The split of an example, and the files that a preparation writes."""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..contracts import Manifest, Splits
from ..core import files
from ..core.errors import UserError
from ..core.paths import DATA_REPORT
from ..prepared import PREPARED, SPLITS


def assign(digest: str, splits: Splits) -> str:
    """The split of an example; it depends on the example's content alone.

    Added examples therefore never move others, and exact duplicates never lie in two splits. Every class is divided
    with the same expected fractions.

    Args:
        digest: Digest of the example's content.
        splits: Seed and fractions.
    """
    position = int.from_bytes(hashlib.sha256(f"{splits.seed}:{digest}".encode()).digest()[:8]) / 2**64
    return "test" if position < splits.test else "validation" if position < splits.test + splits.validation else "train"


@contextlib.contextmanager
def replaced(folder: Path = PREPARED) -> Iterator[Path]:
    """A folder that replaces another once everything is written, and is removed after an error.

    Args:
        folder: Folder to replace as a whole.

    Yields:
        A folder beside it, with an empty folder for each split.
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


def require_every_class(classes: Sequence[str], counts: Mapping[str, Sequence[int]]) -> None:
    """Stops if a class has no example in a split.

    Args:
        classes: Names of the classes.
        counts: Split -> number of examples of each class.

    Raises:
        UserError: With each such class and split.
    """
    missing = [
        f"class {name!r} has no example in split {split}"
        for split, numbers in counts.items()
        for name, number in zip(classes, numbers, strict=True)
        if not number
    ]
    if missing:
        raise UserError("; ".join(missing) + ": add examples, raise prepare.test/validation or change prepare.seed")


def require_examples(examples: Mapping[str, int]) -> None:
    """Stops if a split has no example.

    Args:
        examples: Split -> number of examples.

    Raises:
        UserError: With each such split.
    """
    if empty := [split for split, number in examples.items() if not number]:
        raise UserError(
            f"no example is in split {' and '.join(empty)}: add examples, raise prepare.test/validation or change "
            "prepare.seed"
        )


def write_manifest(content: Manifest, folder: Path) -> None:
    """Writes manifest.json into a folder."""
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False)
    files.write_text(folder / "manifest.json", text + "\n")


def write_report(content: Mapping[str, Any]) -> None:
    """Writes reports/data.json."""
    files.write_text(DATA_REPORT, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
