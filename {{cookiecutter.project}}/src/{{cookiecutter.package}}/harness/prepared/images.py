"""Prepared images on disk, as inputs of a model."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import contracts
from ..core import config
from . import PREPARED

SECTION = "augmentation"


def load(split: str, folder: Path = PREPARED) -> NDArray[np.uint8] | NDArray[np.float32]:
    """Images of a split [N, H, W, C], from 0 to 255, read-only and memory-mapped.

    They are uint8, or float32 if the data have 16-bit gray.

    Args:
        split: `train`, `validation` or `test`.
        folder: Folder of the prepared data.
    """
    array: NDArray[np.uint8] | NDArray[np.float32] = np.load(folder / split / "images.npy", mmap_mode="r")
    return array


def sizes(split: str, folder: Path = PREPARED) -> NDArray[np.int32]:
    """Height and width of the images of a split before they were resized, [N, 2].

    The file is missing if none was resized.

    Args:
        split: `train`, `validation` or `test`.
        folder: Folder of the prepared data.
    """
    path, images = folder / split / "sizes.npy", load(split, folder)
    if path.exists():
        found: NDArray[np.int32] = np.load(path)
        return found
    return np.tile(np.array(images.shape[1:3], np.int32), (len(images), 1))


def inputs(manifest: contracts.Manifest, section: Mapping[str, Any]) -> contracts.Inputs:
    """The arrays on which a model is fitted.

    Args:
        manifest: Manifest of the prepared data.
        section: Section `augmentation` of the configuration.
    """

    def layers() -> tuple[contracts.Tensor, contracts.Tensor]:
        import keras

        image = keras.Input(tuple(manifest["shape"]), name="image")
        return image, keras.layers.Rescaling(1 / 255)(image)

    return contracts.Inputs("image", load, layers, augment=config.instantiate(section))


def feeds(
    split: str, batch_size: int = 256, rows: NDArray[np.int64] | None = None
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Batches of inputs for the exported model.

    Args:
        split: `train`, `validation` or `test`.
        batch_size: Maximum number of images in a batch.
        rows: Indices of the images; None for all.

    Yields:
        "image" -> float32 [n, H, W, C], values from 0 to 255.
    """
    array = load(split)
    for start in range(0, len(array) if rows is None else len(rows), batch_size):
        place = slice(start, start + batch_size)
        yield {"image": array[place if rows is None else rows[place]].astype(np.float32)}


def describe(manifest: contracts.Manifest) -> dict[str, Any]:
    """Facts about the images for models/model.json."""
    return {"shape": manifest["shape"], "max_pixels": manifest["max_pixels"]}
