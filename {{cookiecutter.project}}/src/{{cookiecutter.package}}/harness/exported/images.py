"""The parts of a picture: cells of a grid, beside those of the mean picture."""

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..contracts import Description
from ..inputs import images
from .images_grid import cells, grid, name

LEAST, MOST = 256, 1024  # number of coalitions of large and of small pictures
PIXELS = 2**22  # of all coalitions of a picture in between


def schema(description: Description) -> dict[str, Any]:
    """JSON schema of the attributions."""
    number: dict[str, Any] = {"type": "number"}
    for length in reversed(grid(description["shape"])):
        number = {"type": "array", "minItems": length, "maxItems": length, "items": number}
    return number


class Parts:
    """The cells of pictures.

    Attributes:
        count: Number of cells.
        rows: Number of coalitions that explain one picture, about.
    """

    def __init__(self, description: Description, reference: Mapping[str, Any]) -> None:
        """Reads the baseline.

        Args:
            description: Content of models/model.json.
            reference: Content of models/explain.json.
        """
        self._baseline = images.from_file(base64.b64decode(reference["baseline"]), description)["image"]
        self._shape = description["shape"]
        self._cells = cells(self._shape)
        self.count = int(self._cells.max()) + 1
        self.rows = min(MOST, max(LEAST, PIXELS // self._baseline.size))

    def mixed(self, picture: Mapping[str, NDArray[Any]], coalitions: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
        """Pictures with the cells of each coalition, the others from the baseline: "image" -> float32 [M, H, W, C].

        Args:
            picture: "image" -> the picture to explain, float32 [1, H, W, C].
            coalitions: Cells of `picture`, row by row, bool [M, P].
        """
        return {"image": np.where(coalitions[:, self._cells][..., None], picture["image"], self._baseline)}

    def text(self, picture: Mapping[str, NDArray[Any]], place: int) -> str:
        """A cell in words.

        Args:
            picture: "image" -> the picture to explain.
            place: Index of the cell.
        """
        return name(place, self._shape)

    def report(self, values: NDArray[np.float64]) -> list[list[float]]:
        """Attributions in a response of the service: a list for each row of cells."""
        lines: list[list[float]] = values.reshape(grid(self._shape)).tolist()
        return lines
