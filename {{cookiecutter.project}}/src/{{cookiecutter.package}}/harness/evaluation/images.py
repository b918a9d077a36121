"""Pictures in the report and on the page."""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .. import contracts
from ..prepared import images as prepared_images


def form(section: Mapping[str, Any], manifest: contracts.Manifest) -> dict[str, Any]:
    """Returns what the service's page must know beside models/model.json: nothing.

    Args:
        section: Section `data` of the configuration.
        manifest: Of the prepared data.
    """
    return {}


def examples(rows: Sequence[int]) -> list[dict[str, str]]:
    """Returns pictures of the test split as the service takes them.

    Args:
        rows: Which ones.

    Returns:
        file: A PNG file, in base64.
    """

    def png(pixels: NDArray[np.uint8]) -> bytes:
        file = io.BytesIO()
        Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(file, "PNG")
        return file.getvalue()

    array = prepared_images.load("test")
    return [{"file": base64.b64encode(png(array[row])).decode()} for row in rows]


def subject(manifest: contracts.Manifest) -> str:
    """Returns what the model is asked about, for its card."""
    height, width, channels = manifest["shape"]
    return f"{'grey' if channels == 1 else 'colour'} pictures of {height} x {width} pixels"


def worst(rows: Sequence[int], titles: Sequence[str], total: int, folder: Path) -> list[str]:
    """Draws the pictures of the test split with which the model does worst.

    Args:
        rows: Which ones, the worst first.
        titles: One for each.
        total: Number of mistakes there are.
        folder: Where mistakes.png goes.

    Returns:
        Lines of the model card.
    """
    from . import plots

    array = prepared_images.load("test")
    plots.gallery([array[row] for row in rows], titles, total, folder / "mistakes.png")
    return [f"![worst examples]({folder.name}/mistakes.png)"]
