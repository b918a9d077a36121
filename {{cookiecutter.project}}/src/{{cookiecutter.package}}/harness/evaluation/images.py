"""Images in the model card and on the service's page."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..contracts import Manifest
from ..prepared.images import load, sizes
from .metrics import evenly_spaced, grouped

SIZE = "size"  # of the file, before resizing
SUMMARIES: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {  # of pixels [N, H * W * C]
    "brightness": lambda pixels: pixels.mean(1),
    "contrast": lambda pixels: pixels.std(1),
}
BATCH = 256
MEAN = 1000  # maximum number of training pictures of which the mean is taken


def columns(manifest: Manifest) -> list[str]:
    """Names by which images can be grouped.

    Args:
        manifest: Manifest of the prepared data.
    """
    return [*SUMMARIES, SIZE]


def groups(name: str, manifest: Manifest) -> dict[str, NDArray[np.bool_]]:
    """Groups of the test images between quartiles: name -> mask, bool [N].

    Args:
        name: `brightness`, the mean of the pixels, `contrast`, their standard deviation, or `size`, the number of
            pixels before resizing.
        manifest: Manifest of the prepared data.
    """
    if name == SIZE:
        return grouped(name, sizes("test").astype(np.float64).prod(axis=1))
    pictures = load("test")
    batches = (pictures[start : start + BATCH].astype(np.float64) for start in range(0, len(pictures), BATCH))
    values = [SUMMARIES[name](batch.reshape(len(batch), -1)) for batch in batches]
    return grouped(name, np.concatenate(values))


def subject(manifest: Manifest) -> str:
    """Description of the model's inputs, for the model card."""
    height, width, channels = manifest["shape"]
    return f"{'gray' if channels == 1 else 'color'} pictures of {height} x {width} pixels"


def private() -> set[str]:
    """Pictures have no columns."""
    return set()


def anonymity(names: Sequence[str]) -> list[str]:
    """Nothing, because pictures have no columns."""
    return []


def form(section: Mapping[str, Any], manifest: Manifest) -> dict[str, Any]:
    """Facts for the service's page: none, because models/model.json has all.

    Args:
        section: Section `data` of the configuration.
        manifest: Manifest of the prepared data.
    """
    return {}


def examples(rows: Sequence[int]) -> list[dict[str, str]]:
    """Images of the test split, as inputs of the service.

    Args:
        rows: Rows of the test split.

    Returns:
        For each image, `file`: a PNG file in base64.
    """
    pictures = load("test")
    return [{"file": base64.b64encode(_png(pictures[row])).decode()} for row in rows]


def mean_picture() -> NDArray[np.uint8]:
    """Mean of the training pictures, with which explanations compare, uint8 [H, W, C].

    Of many pictures, it is that of `MEAN` of them, evenly spaced.
    """
    pictures = load("train")
    chosen = evenly_spaced(len(pictures), MEAN)
    total = np.zeros(pictures.shape[1:])
    for row in chosen:  # one by one: they may not fit into memory
        total += pictures[row]
    return np.rint(total / len(chosen)).astype(np.uint8)


def reference() -> dict[str, str]:
    """What the service explains answers with.

    Returns:
        `baseline`: the mean picture, a PNG file in base64.
    """
    return {"baseline": base64.b64encode(_png(mean_picture())).decode()}


def _png(pixels: NDArray[np.uint8] | NDArray[np.float32]) -> bytes:
    file = io.BytesIO()
    if pixels.dtype != np.uint8:  # 16-bit gray, the same in all channels: 65535 is 255
        Image.fromarray(np.rint(pixels[..., 0] * 257).astype(np.uint16)).save(file, "PNG")
        return file.getvalue()
    Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(file, "PNG")
    return file.getvalue()


def worst(rows: Sequence[int], titles: Sequence[str], total: int, folder: Path) -> list[str]:
    """Lines of the model card with the worst images.

    Args:
        rows: Rows of the test split, the largest error first.
        titles: Title of each row.
        total: Number of images from which the worst were chosen.
        folder: Folder for mistakes.png.
    """
    from . import plots

    pictures = load("test")
    plots.gallery([pictures[row] for row in rows], titles, total, folder / "mistakes.png")
    return [f"![worst examples]({folder.name}/mistakes.png)"]
