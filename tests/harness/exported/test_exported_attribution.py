"""Attributions: exact for few columns, additive for any number, and those of the package shap."""

from itertools import combinations
from math import comb
from typing import Any

import numpy as np
import pytest
from my_experiment.harness.exported.attribution import EXACT, Attribution, attribute, coalitions
from numpy.typing import NDArray

ROWS = 128  # as for the rows of a table


class Network:
    """A small network with interactions, a row, and a baseline."""

    def __init__(self, columns: int, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.weights, self.outer = random.normal(size=(columns, 16)), random.normal(size=16)
        self.row, self.baseline = random.normal(size=columns), random.normal(size=columns)

    def __call__(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        answers: NDArray[np.float64] = np.tanh(rows @ self.weights / 2) @ self.outer
        return answers

    def attributed(self) -> Attribution:
        return attribute(lambda masks: self(np.where(masks, self.row, self.baseline)), len(self.row), ROWS)


def by_definition(network: Network) -> list[float]:
    """Shapley values as their formula has them, from each subset of the other columns."""
    columns = range(len(network.row))
    values = []
    for column in columns:
        others = [other for other in columns if other != column]
        total = 0.0
        for size in range(len(columns)):
            for subset in combinations(others, size):
                without = np.isin(columns, subset)
                mask = np.stack([without, without | (np.array(columns) == column)])
                before, after = network(np.where(mask, network.row, network.baseline))
                total += (after - before) / (len(columns) * comb(len(columns) - 1, size))
        values.append(total)
    return values


@pytest.mark.parametrize("columns", [1, 2, 5])
def test_few_columns_have_exact_values(columns: int) -> None:
    network = Network(columns)
    assert network.attributed().values == pytest.approx(by_definition(network), abs=1e-12)


@pytest.mark.parametrize("columns", [1, EXACT, EXACT + 1, 30, 200])
def test_values_add_up_to_the_answer(columns: int) -> None:
    network = Network(columns)
    found = network.attributed()
    answers = network(np.stack([network.baseline, network.row]))
    assert [found.baseline, found.answer] == pytest.approx(answers, abs=1e-12)
    assert found.baseline + found.values.sum() == pytest.approx(found.answer, abs=1e-12)


@pytest.mark.parametrize("columns", [4, 30])
def test_a_linear_model_an_ignored_column_and_two_equal_ones(columns: int) -> None:
    weights = np.arange(columns, dtype=np.float64)
    weights[-1] = weights[-2]
    row, baseline = np.linspace(-1, 2, columns), np.linspace(0, 1, columns) ** 2
    row[-1], baseline[-1] = row[-2], baseline[-2]
    found = attribute(lambda masks: np.where(masks, row, baseline) @ weights, columns, ROWS)
    assert found.values == pytest.approx(weights * (row - baseline), abs=1e-12)
    assert found.values[0] == 0
    assert found.values[-1] == pytest.approx(found.values[-2], abs=1e-12)


def test_the_number_of_questions_is_bounded() -> None:
    assert len(coalitions(EXACT, ROWS)[0]) == 2**EXACT
    assert len(coalitions(30, ROWS)[0]) <= ROWS
    assert len(coalitions(500, ROWS)[0]) == 2 * 499 + 2  # one order and its reverse


@pytest.mark.parametrize(("columns", "error", "correlation"), [(6, 1e-6, 1.0), (8, 1e-6, 1.0), (12, None, 0.98)])
def test_they_are_those_of_shap(columns: int, error: float | None, correlation: float) -> None:
    shap: Any = pytest.importorskip("shap")
    for seed in range(3):
        network = Network(columns, seed)
        masker = shap.maskers.Independent(network.baseline[None], max_samples=1)
        theirs = shap.explainers.Exact(network, masker)(network.row[None]).values[0]
        ours = network.attributed().values
        assert np.corrcoef(ours, theirs)[0, 1] >= correlation - 1e-9
        if error is not None:
            assert ours == pytest.approx(theirs, abs=error)
