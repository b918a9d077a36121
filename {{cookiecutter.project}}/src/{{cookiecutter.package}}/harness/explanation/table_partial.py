"""Partial dependence: the answers for all rows if one column had another value.

Sources: J. Friedman, Greedy Function Approximation, Annals of Statistics 29, 2001; A. Goldstein et al., Peeking Inside
the Black Box, Journal of Computational and Graphical Statistics 24, 2015 (curves of single rows).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .contracts import Answers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..exported.inference import Predict

LEVELS = 8  # of a category in a plot, the most frequent
GRID = 20  # values of a number in a partial dependence


def partial(
    name: str,
    kind: str,
    values: dict[str, NDArray[Any]],
    wanted: Sequence[NDArray[np.int64]],
    predict: Predict,
    answers: Answers,
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Answers for all rows if one column had another value.

    Args:
        name: Name of the column.
        kind: Type of the column.
        values: The rows, as inputs of the model.
        wanted: Outputs that are asked for: W times the index of one for each row, int64 [N].
        predict: The exported model.
        answers: The explained answers.

    Returns:
        Values of the column, [G], and the answers, float64 [G, W, N].
    """
    grid = levels(values[name])[0] if kind == "category" else quantiles(values[name])
    count = len(values[name])
    found = [predict([{**values, name: np.full(count, value, values[name].dtype)}]) for value in grid]
    return grid, np.array([[answers.scores(one, outputs) for outputs in wanted] for one in found])


def quantiles(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Different values of a column from its 5 % to its 95 % quantile, at most `GRID`."""
    known = values[~np.isnan(values)]
    if not len(known):
        return known
    return np.unique(np.quantile(known, np.linspace(0.05, 0.95, GRID), method="nearest"))


def levels(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The most frequent levels of a category, and the index of each row's level, -1 for others."""
    found, counts = np.unique(values.astype(str), return_counts=True)
    chosen = found[np.argsort(-counts, kind="stable")[:LEVELS]].astype(object)
    place = {level: index for index, level in enumerate(chosen)}
    return chosen, np.array([place.get(value, -1) for value in values])
