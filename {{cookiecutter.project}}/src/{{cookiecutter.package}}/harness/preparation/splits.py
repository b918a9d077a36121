"""The random split, and files that every preparation writes."""

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
    """The split of an example, from a hash of its content.

    New examples therefore never move others to another split, and exact duplicates are always in the same split. The
    expected fractions are the same for every class.

    Args:
        digest: Digest of the example's content.
        splits: Seed and fractions.
    """
    position = int.from_bytes(hashlib.sha256(f"{splits.seed}:{digest}".encode()).digest()[:8]) / 2**64
    return "test" if position < splits.test else "validation" if position < splits.test + splits.validation else "train"


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


def require_every_class(classes: Sequence[str], counts: Mapping[str, Sequence[int]]) -> None:
    """Rejects splits that lack a class.

    Args:
        classes: Names of the classes.
        counts: Split -> number of examples of each class.

    Raises:
        UserError: Naming each missing class and its split.
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
