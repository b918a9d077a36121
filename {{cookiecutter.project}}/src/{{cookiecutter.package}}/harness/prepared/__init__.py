"""Prepared data on disk: a folder for each split, memory-mapped, never loaded whole.

data/prepared/manifest.json             what the data are: input, target, classes, examples and digest of each split
data/prepared/<split>/targets.npy       int64 [N], index into the manifest's classes, or float64 [N], numbers

What else lies in a split's folder is its modality's: see `prepared.images` or `prepared.tables`.
"""

import importlib
import json
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ..contracts import Manifest, PreparedInput

PREPARED = Path("data/prepared")
SPLITS = ("train", "validation", "test")


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


def modality(described: Manifest) -> PreparedInput:
    """Returns the module that reads what `prepare` has written: `images` or `tables`.

    Args:
        described: The manifest, or models/model.json.
    """
    return cast(PreparedInput, importlib.import_module(f".{described['input']}", __package__))
