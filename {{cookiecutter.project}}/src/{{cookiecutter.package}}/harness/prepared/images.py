"""Prepared pictures on disk, and what a model is fitted on."""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import contracts, prepared
from ..core import config

SECTION = "augmentation"


def load(split: str, folder: Path = prepared.PREPARED) -> NDArray[np.uint8]:
    """Returns the pictures of a split, uint8 [N, H, W, C], read-only and on disk.

    Args:
        split: `train`, `validation` or `test`.
        folder: Where the prepared data lie.
    """
    array: NDArray[np.uint8] = np.load(folder / split / "images.npy", mmap_mode="r")
    return array


def names(split: str, folder: Path = prepared.PREPARED) -> list[str]:
    """Returns the examples' names of a split, in the order of its rows."""
    with (folder / split / "index.csv").open(newline="", encoding="utf-8") as rows:
        return [row["name"] for row in csv.DictReader(rows)]


def inputs(manifest: contracts.Manifest, section: Mapping[str, Any]) -> contracts.Inputs:
    """Returns what a model is fitted on.

    Args:
        manifest: Of the prepared data.
        section: Section `augmentation` of the configuration.
    """

    def layers() -> tuple[contracts.Tensor, contracts.Tensor]:
        import keras

        image = keras.Input(tuple(manifest["shape"]), name="image")
        return image, keras.layers.Rescaling(1 / 255)(image)

    return contracts.Inputs("image", load, layers, augment=config.instantiate(section))


def feeds(split: str, batch_size: int = 256) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Yields what the exported model is asked with, in the order of the rows.

    Args:
        split: `train`, `validation` or `test`.
        batch_size: Pictures in memory at a time.
    """
    array = load(split)
    for start in range(0, len(array), batch_size):
        yield {"image": array[start : start + batch_size].astype(np.float32)}


def describe(manifest: contracts.Manifest) -> dict[str, Any]:
    """Returns what the service must know of pictures."""
    return {"shape": manifest["shape"], "max_pixels": manifest["max_pixels"]}
