"""Prepared data on disk, memory-mapped: a folder for each split.

data/prepared/manifest.json             input, target, classes, and number of examples and digest of each split
data/prepared/<split>/targets.npy       int64 [N], indices into the manifest's classes, or float64 [N], numbers

For the other files of a split see `prepared.images` or `prepared.tables`.
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
    """The content of manifest.json."""
    content: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return content


def targets(split: str, folder: Path = PREPARED) -> NDArray[Any]:
    """Targets of a split, memory-mapped: class indices, int64 [N], or float64 [N].

    Args:
        split: `train`, `validation` or `test`.
        folder: Folder of the prepared data.
    """
    array: NDArray[Any] = np.load(folder / split / "targets.npy", mmap_mode="r")
    return array


def modality(described: Manifest) -> PreparedInput:
    """The module that reads prepared examples: `images` or `tables`.

    Args:
        described: Manifest of the prepared data, or content of models/model.json.
    """
    return cast(PreparedInput, importlib.import_module(f".{described['input']}", __package__))
