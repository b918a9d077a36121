"""The grid of cells into which explanations divide a picture, in the report and in the service."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

CELLS = 8  # maximum number of cells in a row or column of the grid


def grid(shape: Sequence[int]) -> tuple[int, int]:
    """Number of rows and columns of the grid.

    Args:
        shape: Height, width and channels of the pictures.
    """
    return min(CELLS, shape[0]), min(CELLS, shape[1])


def cells(shape: Sequence[int]) -> NDArray[np.int64]:
    """Cell of each pixel, numbered row by row, int64 [H, W].

    Args:
        shape: Height, width and channels of the pictures.
    """
    (height, width, _), (down, across) = shape, grid(shape)
    rows, columns = np.arange(height) * down // height, np.arange(width) * across // width
    places: NDArray[np.int64] = rows[:, None] * across + columns
    return places


def name(cell: int, shape: Sequence[int]) -> str:
    """A cell in words.

    Args:
        cell: Number of the cell.
        shape: Height, width and channels of the pictures.
    """
    row, column = divmod(cell, grid(shape)[1])
    return f"row {row + 1}, column {column + 1}"
