"""What is counted of pictures: brightness, contrast and sharpness."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..contracts import Description
from ..core.errors import UserError, choice

COLUMNS = ("brightness", "contrast", "sharpness")
POINTS = 64  # on a side of the grid of pixels that are looked at: larger pictures take no longer


def columns(description: Description, monitored: Sequence[str]) -> dict[str, str]:
    """The numbers that are counted of a picture -> their type.

    Args:
        description: Content of models/model.json.
        monitored: Names of columns; empty for all.

    Raises:
        UserError: If a name is none of COLUMNS.
    """
    for name in monitored:
        if name not in COLUMNS:
            raise UserError(f"evaluate.monitored: {name!r} is not counted of pictures; {choice(name, COLUMNS)}")
    return dict.fromkeys(monitored or COLUMNS, "number")


def values(feeds: Mapping[str, NDArray[Any]], columns: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Numbers of each picture, float64 [N].

    brightness: mean of the pixels. contrast: their standard deviation. sharpness: mean difference of a pixel and its
    neighbors on the right and below. Of a picture larger than POINTS, the pixels of a grid.

    Args:
        feeds: "image" -> pictures, float32 [N, H, W, C], from 0 to 255.
        columns: Names out of COLUMNS.
    """
    pictures = feeds["image"]
    _, height, width, _ = pictures.shape
    rows = np.arange(0, max(height - 1, 1), math.ceil(height / POINTS))
    places = np.arange(0, max(width - 1, 1), math.ceil(width / POINTS))
    seen = pictures[:, rows[:, None], places]
    below = pictures[:, np.minimum(rows + 1, height - 1)[:, None], places]
    beside = pictures[:, rows[:, None], np.minimum(places + 1, width - 1)]
    axes = (1, 2, 3)
    found = {
        "brightness": seen.mean(axes),
        "contrast": seen.std(axes),
        "sharpness": (np.abs(seen - below).mean(axes) + np.abs(seen - beside).mean(axes)) / 2,
    }
    return {name: found[name].astype(np.float64) for name in columns}
