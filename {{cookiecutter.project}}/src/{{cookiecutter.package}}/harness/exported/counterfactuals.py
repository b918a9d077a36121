"""Counterfactuals: the few columns of a row whose values would have to be others for another answer.

With one changed column, every value is tried. With more, the search goes on from the `BEAM` sets of changes that came
closest, with the `BEAM` columns that alone did most (S. Wachter et al., Counterfactual Explanations without Opening the
Black Box, 2018, by search instead of gradients).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST = 4  # maximum number of changed columns
BEAM = 16
Changes = Mapping[str, int]  # column -> index of its value among the candidates
# Sets of changes -> how far the answer moves to the goal, float64 [M], and whether it is there, bool [M].
Ask = Callable[[Sequence[Changes]], tuple[NDArray[np.float64], NDArray[np.bool_]]]


def search(ask: Ask, costs: Mapping[str, Sequence[float]], count: int) -> list[Changes]:
    """The sets of changes with which the model gives another answer, of the fewest columns.

    Args:
        ask: Asks the model.
        costs: Column -> how far each candidate is from the value in the row; columns that must not change are left out.
        count: Maximum number of sets; no two of them change the same columns.

    Returns:
        Sets of changes, the cheapest first; [] if there is none.
    """
    frontier: list[Changes] = [{}]
    columns = list(costs)
    for _ in range(min(MOST, len(costs))):
        known = {
            tuple(sorted((*chosen.items(), (column, value)))): {**chosen, column: value}
            for chosen in frontier
            for column in columns
            if column not in chosen
            for value in range(len(costs[column]))
        }
        trials: list[Changes] = list(known.values())
        if not trials:
            break
        moves, there = ask(trials)
        if there.any():
            found = [trials[place] for place in np.flatnonzero(there)]
            found.sort(key=lambda changes: (sum(costs[name][value] for name, value in changes.items()), str(changes)))
            cheapest: dict[frozenset[str], Changes] = {}
            for changes in found:
                cheapest.setdefault(frozenset(changes), changes)
            return list(cheapest.values())[:count]
        closest = [trials[place] for place in np.argsort(-moves, kind="stable")]
        if frontier == [{}]:
            columns = list(dict.fromkeys(name for changes in closest for name in changes))[:BEAM]
        frontier = closest[:BEAM]
    return []


def questions(columns: int, candidates: int) -> int:
    """Number of sets that a search tries if it finds none.

    Args:
        columns: Number of columns that may change.
        candidates: Number of candidates of each.
    """
    return (columns + BEAM * sum(max(0, min(BEAM, columns) - changed) for changed in range(1, MOST))) * candidates


def costs(value: Any, candidates: Sequence[Any] | NDArray[Any]) -> list[float]:
    """How far the candidates of a column are from a value: for numbers, the share of the candidates in between.

    Args:
        value: The value in the row: a number, NaN if missing, or a text.
        candidates: Numbers in ascending order, or texts.
    """
    if isinstance(value, str) or value != value:
        return [0.5] * len(candidates)
    place = (np.searchsorted(candidates, value) + np.searchsorted(candidates, value, "right") - 1) / 2
    return [float(abs(index - place)) / len(candidates) for index in range(len(candidates))]
