"""Recent rows, of which an identical one is counted once.

A client in a loop asks the same rows again and again. They say nothing new, but would count as evidence.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST = 4096  # rows that are remembered
RARE = 0.01  # share of training rows that repeat another one, up to which repeated rows count once


class Recent:
    """The hashes of the last different rows."""

    def __init__(self) -> None:
        """Remembers none."""
        self._hashes: dict[int, None] = {}

    def fresh(self, values: Mapping[str, NDArray[Any]], *more: NDArray[Any]) -> NDArray[np.bool_]:
        """Whether each row is none of the recent ones, bool [N]; from now on, all of them are.

        Args:
            values: Columns of the rows: float64 [N], or object [N] of str.
            *more: Further numbers of the rows, [N, ...].
        """
        new = []
        for row in _hashes(values, *more):
            new.append(row not in self._hashes)
            self._hashes.pop(row, None)
            self._hashes[row] = None  # the most recent one is the last one
        for row in [*self._hashes][: max(len(self._hashes) - MOST, 0)]:
            del self._hashes[row]
        return np.array(new, bool)


def _hashes(values: Mapping[str, NDArray[Any]], *more: NDArray[Any]) -> list[int]:
    texts = [column.tolist() for column in values.values() if column.dtype == object]
    count = len(next(iter(values.values())))
    numbers = [column for column in values.values() if column.dtype != object]
    parts = [np.empty((count, 0)), *(array.reshape(count, -1) for array in (*numbers, *more))]
    joined = np.concatenate(parts, axis=1, dtype=np.float64)
    return [*map(hash, zip(map(bytes, joined), *texts, strict=True))]
