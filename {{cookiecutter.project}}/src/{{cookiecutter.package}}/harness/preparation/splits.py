"""Which split an example belongs to, and the folder that is replaced as a whole."""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..contracts import Manifest, Splits
from ..core.errors import UserError
from ..prepared import PREPARED, SPLITS

if TYPE_CHECKING:
    pass


def assign(digest: str, splits: Splits) -> str:
    """Returns the split of an example from its content alone.

    Adding examples therefore never moves another one, and exact duplicates never lie in two splits. Every class
    is divided with the same expected fractions.

    Args:
        digest: The example's content digest.
        splits: Seed and fractions.
    """
    position = int.from_bytes(hashlib.sha256(f"{splits.seed}:{digest}".encode()).digest()[:8]) / 2**64
    return "test" if position < splits.test else "validation" if position < splits.test + splits.validation else "train"


@contextlib.contextmanager
def replaced(folder: Path = PREPARED) -> Iterator[Path]:
    """Yields an empty folder that takes the place of `folder` once everything is written, and goes after an error.

    Args:
        folder: What is replaced as a whole.
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
    """Stops where a class has no example in a split.

    Args:
        classes: Names of the classes.
        counts: Split -> number of examples of each class.

    Raises:
        UserError: Naming each such class and split.
    """
    missing = [
        f"class {name!r} has no example in split {split}"
        for split, number in counts.items()
        for name, count in zip(classes, number, strict=True)
        if not count
    ]
    if missing:
        raise UserError("; ".join(missing) + ": add examples, raise prepare.test/validation or change prepare.seed")


def require_examples(examples: Mapping[str, int]) -> None:
    """Stops where a split has no example.

    Args:
        examples: Split -> number of examples.

    Raises:
        UserError: Naming each such split.
    """
    if empty := [split for split, number in examples.items() if not number]:
        raise UserError(
            f"no example is in split {' and '.join(empty)}: add examples, raise prepare.test/validation or change "
            "prepare.seed"
        )


def write_manifest(content: Manifest, folder: Path) -> None:
    """Writes manifest.json into a folder."""
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False)
    (folder / "manifest.json").write_text(text + "\n", encoding="utf-8")
