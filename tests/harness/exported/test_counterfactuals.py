"""Counterfactuals: the fewest columns, the nearest values."""

from collections.abc import Sequence

import numpy as np
import pytest
from my_experiment.harness.exported.counterfactuals import MOST, Changes, costs, questions, search
from numpy.typing import NDArray

ROOM = list("abcdefghij")


def reaches(limit: float) -> tuple[list[int], object]:
    """A model whose score is the sum of the candidates' indices: another answer from a limit on."""
    asked: list[int] = []

    def ask(trials: Sequence[Changes]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        asked.append(len(trials))
        scores = np.array([float(sum(changes.values())) for changes in trials])
        return scores, scores >= limit

    return asked, ask


@pytest.mark.parametrize(("limit", "columns"), [(1, 1), (3, 1), (4, 2), (6, 2), (7, 3), (12, 4)])
def test_the_fewest_columns_and_the_nearest_values(limit: float, columns: int) -> None:
    _, ask = reaches(limit)
    prices = {name: [0.0, 0.1, 0.2, 0.3] for name in ROOM}
    found = search(ask, prices, 3)  # type: ignore[arg-type]
    assert len(found) == 3
    for changes in found:
        assert len(changes) == columns
        assert sum(changes.values()) == limit  # no value is further away than it has to be
    assert len({frozenset(changes) for changes in found}) == 3


def test_there_may_be_none() -> None:
    asked, ask = reaches(100)
    assert search(ask, {name: [0.0, 0.1] for name in ROOM}, 3) == []  # type: ignore[arg-type]
    assert len(asked) == MOST
    assert search(ask, {}, 3) == []  # type: ignore[arg-type]
    assert search(ask, {"a": []}, 3) == []  # type: ignore[arg-type]


def test_wide_tables_stay_cheap() -> None:
    asked, ask = reaches(100)
    assert search(ask, {f"column {number}": [0.1] * 11 for number in range(500)}, 3) == []  # type: ignore[arg-type]
    assert asked[0] == 5500
    assert sum(asked) <= questions(500, 11) == 5500 + 16 * (15 + 14 + 13) * 11


def test_what_a_change_costs() -> None:
    assert costs(2.0, np.array([0.0, 1.0, 2.0, 4.0])) == [0.5, 0.25, 0, 0.25]
    assert costs(3.0, np.array([0.0, 1.0, 2.0, 4.0])) == [0.625, 0.375, 0.125, 0.125]
    assert costs(float("nan"), np.array([0.0, 1.0])) == costs("a", ["b", "c"]) == [0.5, 0.5]
    assert costs("", []) == []
