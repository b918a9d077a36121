"""Images in the model card and on the service's page."""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..contracts import Manifest
from ..prepared.images import load


def subject(manifest: Manifest) -> str:
    """Description of the model's inputs, for the model card."""
    height, width, channels = manifest["shape"]
    return f"{'gray' if channels == 1 else 'color'} pictures of {height} x {width} pixels"


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
