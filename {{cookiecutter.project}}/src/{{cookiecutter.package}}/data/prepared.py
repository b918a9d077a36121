"""Prepared data on disk: a folder for each split, memory-mapped, never loaded whole.

data/prepared/manifest.json             what the data are: input, target, classes, examples and digest of each split
data/prepared/<split>/targets.npy       int64 [N], index into the manifest's classes, or float64 [N], numbers

What else lies in a split's folder is its modality's: see `data.images` or `data.tables`.
"""

import contextlib
import hashlib
import importlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..cli import UserError

if TYPE_CHECKING:
    import onnx

PREPARED = Path("data/prepared")
SPLITS = ("train", "validation", "test")

Manifest = Mapping[str, Any]
Tensor = Any  # of Keras, which is too slow to be imported for a name
Layers = Callable[[], tuple[Tensor, Tensor]]
Head = Callable[[Tensor], Tensor]
Augment = Callable[[Any, int], Any]  # dataset of batches, seed -> such a dataset


class Splits(NamedTuple):
    """How examples are divided.

    Attributes:
        seed: Another seed gives another, independent division.
        validation: Expected fraction of the validation split.
        test: Expected fraction of the test split.
    """

    seed: int
    validation: float
    test: float


class Asked(NamedTuple):
    """Some of what a model is asked about, in order.

    Attributes:
        keys: Key -> what tells each item, [n].
        errors: Why an item cannot be predicted, None where it can, [n].
        feeds: Input of the exported model -> those items alone whose error is None.
    """

    keys: Mapping[str, Sequence[Any]]
    errors: Sequence[str | None]
    feeds: Mapping[str, NDArray[Any]]


class Questions(NamedTuple):
    """All that a model is asked about in a batch prediction, on disk.

    Attributes:
        keys: Key -> its type, as Arrow calls it.
        stamp: Another one where something was added, removed or written since.
        total: Number of items, None where only reading everything would tell.
        unit: What an item is called.
        part: How many are predicted before the answers are kept.
        read: Gives the items in their order, without so many of the first.
    """

    keys: Mapping[str, str]
    stamp: str
    total: int | None
    unit: str
    part: int
    read: Callable[[int], Iterator[Asked]]


class Inputs(NamedTuple):
    """What a model is fitted on.

    Attributes:
        name: Of the Keras model's input.
        array: Split -> its rows as the Keras model takes them, memory-mapped [N, ...].
        layers: Makes the Keras input, and the tensor that the model's first layer should take.
        preprocessing: From what the exported model is asked with to the Keras input; None where they are the same.
        augment: Changes training batches at random.
    """

    name: str
    array: Callable[[str], NDArray[Any]]
    layers: Layers
    preprocessing: "onnx.ModelProto | None" = None
    augment: Augment | None = None


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


def manifest(folder: Path = PREPARED) -> dict[str, Any]:
    """Returns the manifest."""
    content: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return content


def targets(split: str, folder: Path = PREPARED) -> NDArray[Any]:
    """Returns what is to be predicted, memory-mapped: int64 [N], index of the class, or float64 [N].

    Args:
        split: `train`, `validation` or `test`.
        folder: Where the prepared data lie.
    """
    array: NDArray[Any] = np.load(folder / split / "targets.npy", mmap_mode="r")
    return array


def modality(described: Manifest) -> ModuleType:
    """Returns the module that reads what `prepare` has written: `data.images` or `data.tables`.

    Args:
        described: The manifest, or models/model.json.
    """
    return importlib.import_module(f".{described['input']}", __package__)


def target(described: Manifest) -> ModuleType:
    """Returns the module of what is predicted: `targets.classification` or `targets.regression`.

    Args:
        described: The manifest, or models/model.json.
    """
    return importlib.import_module(f"..targets.{described['target']}", __package__)
