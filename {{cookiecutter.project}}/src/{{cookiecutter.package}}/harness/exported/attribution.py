"""Attributions: how much each part of an input adds to the model's answer.

The parts are the columns of a row, or the cells of a picture. A coalition is a mixture: it has its members from the
input, and all other parts from one baseline. The Shapley value of a part is its mean contribution, over all orders in
which the parts can be replaced. Above `EXACT` parts, it is the mean over drawn orders, each with its reverse
(R. Mitchell et al., Sampling Permutations for Shapley Value Estimation, JMLR 2022).
"""

import itertools
from collections.abc import Callable
from functools import cache
from math import comb
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

EXACT = 8  # maximum number of parts of which all 256 coalitions are answered
ROUNDING = 1e-13  # share of the answers below which a value is a rounding error
Answer = Callable[[NDArray[np.bool_]], NDArray[np.float64]]  # coalitions, bool [M, P] -> answers, float64 [M]


class Attribution(NamedTuple):
    """The attributions of one input.

    Attributes:
        baseline: Answer to the baseline.
        answer: Answer to the input: the baseline's plus all values.
        values: What each part adds, in the units of the answer, float64 [P].
    """

    baseline: float
    answer: float
    values: NDArray[np.float64]


def attribute(answer: Answer, parts: int, rows: int) -> Attribution:
    """Attributes an answer to the parts of an input.

    Args:
        answer: Answers coalitions.
        parts: Number of parts P.
        rows: Number of coalitions to answer, about; at least twice the number of parts, unless values are exact.
    """
    masks, weights = coalitions(parts, rows)
    answers = answer(masks)
    values = weights @ answers
    values[np.abs(values) < ROUNDING * np.abs(answers).max()] = 0
    return Attribution(float(answers[0]), float(answers[-1]), values)


@cache
def coalitions(parts: int, rows: int) -> tuple[NDArray[np.bool_], NDArray[Any]]:
    """Coalitions, and the weight of the answer to each in the value of each part.

    Args:
        parts: Number of parts P.
        rows: Number of coalitions M, about.

    Returns:
        Coalitions, bool [M, P], the baseline first and the input last; weights, float64 [P, M], whose sum over the
        parts is -1 for the baseline, 1 for the input, and 0 for all others.
    """
    if parts <= EXACT:
        masks = np.array(list(itertools.product((False, True), repeat=parts)))
        # Of each number of members: the share of the orders in which a part is the last of them, or comes next.
        last = np.array([0, *(1 / (parts * comb(parts - 1, size - 1)) for size in range(1, parts + 1))])
        following = np.array([*(1 / (parts * comb(parts - 1, size)) for size in range(parts)), 0])
        sizes = masks.sum(axis=1)
        return masks, np.where(masks.T, last[sizes], -following[sizes])
    drawn = max(1, rows // (2 * parts))
    orders = np.random.default_rng(0).permuted(np.tile(np.arange(parts), (drawn, 1)), axis=1)
    places = np.concatenate([orders, parts - 1 - orders])[:, None, :]  # of each part in an order, and in its reverse
    size = np.arange(parts + 1)[:, None]
    changes = (places == size - 1).astype(np.float64) - (places == size)
    # Every order begins with the baseline and ends with the input, which are answered once.
    masks, inverse = np.unique((places < size).reshape(-1, parts), axis=0, return_inverse=True)
    weights = np.zeros_like(masks, np.float64)
    np.add.at(weights, inverse.ravel(), changes.reshape(-1, parts) / len(places))
    return masks, np.ascontiguousarray(weights.T)
