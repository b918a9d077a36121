"""SHAP and LIME against theory: what they must give for functions whose effects are known."""

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from my_experiment.harness.explanation import attribution, classification, plan
from my_experiment.harness.explanation.contracts import Game
from numpy.typing import NDArray
from support import ROOT

RANDOM = np.random.default_rng(0)


def game(function: Callable[[NDArray[Any]], NDArray[Any]], row: NDArray[Any], background: NDArray[Any]) -> Game:
    """The mean answer of a function of rows, where a mask is False for the values of the background."""

    def answer(masks: NDArray[np.bool_]) -> NDArray[np.float64]:
        return np.array([function(np.where(mask, row, background)).mean() for mask in masks], np.float64)

    return answer


@pytest.mark.parametrize("parts", [1, 5, plan.EXACT, 20, 64])
def test_shap_of_a_linear_model_is_coefficient_times_deviation_from_the_mean(parts: int) -> None:
    coefficients, row, background = (RANDOM.normal(size=shape) for shape in (parts, parts, (30, parts)))
    found = attribution.shap(game(lambda rows: rows @ coefficients + 3, row, background), parts, seed=1)
    np.testing.assert_allclose(found, coefficients * (row - background.mean(axis=0)), rtol=0, atol=1e-6)


@pytest.mark.parametrize("parts", [4, 12])
def test_what_is_ignored_gets_nothing_and_equals_get_the_same(parts: int) -> None:
    row, background = RANDOM.normal(size=parts), RANDOM.normal(size=(30, parts))
    row[1], background[:, 1] = row[0], background[:, 0]
    answer = game(lambda rows: (rows[:, 0] + rows[:, 1]) * (rows[:, 0] + rows[:, 1] + rows[:, 2]), row, background)
    found = attribution.shap(answer, parts, seed=1)
    np.testing.assert_allclose(found[3:], 0, atol=1e-9)
    assert found[0] == pytest.approx(found[1], abs=1e-6)
    ends = answer(np.array([[True] * parts, [False] * parts]))
    assert found.sum() == pytest.approx(ends[0] - ends[1], abs=1e-6)


def test_occlusion_and_lime_of_a_linear_model() -> None:
    coefficients, row, background = (RANDOM.normal(size=shape) for shape in (6, 6, (30, 6)))
    answer = game(lambda rows: rows @ coefficients, row, background)
    expected = coefficients * (row - background.mean(axis=0))
    np.testing.assert_allclose(attribution.occlusion(answer, 6), expected, atol=1e-9)
    weights, fit = attribution.lime(answer, 6, seed=1)
    np.testing.assert_allclose(weights, expected, atol=0.2 * np.abs(expected).max())  # its ridge shrinks them
    assert fit > 0.98


def test_lime_of_a_single_part_is_all_that_it_does() -> None:
    """Weights by distance left 1.5 % of it, with an R2 of 0.03."""
    weights, fit = attribution.lime(game(lambda rows: 2 * rows[:, 0], np.ones(1), np.zeros((1, 1))), 1, seed=1)
    assert weights.tolist() == [2.0] and fit == 1


LIME = """
import sys
import numpy as np
from my_experiment.harness.explanation import attribution

for seed in map(int, sys.argv[1:]):
    weights, fit = attribution.lime(lambda masks: np.sin(masks @ np.arange(9.0)), 9, seed)
    print(seed, weights.tobytes().hex(), fit)
"""


def test_lime_is_the_same_twice_in_another_order_and_in_another_process() -> None:
    def lines(*seeds: str) -> list[str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        command = [sys.executable, "-c", LIME, *seeds]
        return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout.splitlines()

    first = lines("7", "8", "7")
    assert first[0] == first[2] != first[1]
    weights, fit = attribution.lime(lambda masks: np.sin(masks @ np.arange(9.0)), 9, 8)
    assert lines("8", "7") == [first[1], first[0]] and first[1] == f"8 {weights.tobytes().hex()} {fit}"


def test_log_odds_are_exact_near_one() -> None:
    outputs = np.array([[1 - 2e-7, 1e-7, 1e-7], [0.5, 0.25, 0.25], [1, 0, 0]], np.float32)
    scores = np.stack([classification.scores(outputs, label) for label in range(3)], 1)
    assert (classification.scores(outputs, np.array([0, 2, 1])) == scores[[0, 1, 2], [0, 2, 1]]).all()
    np.testing.assert_allclose(scores[0, 0], -np.log(2e-7), rtol=1e-6)
    np.testing.assert_allclose(scores[1], [0, -np.log(3), -np.log(3)], rtol=1e-12, atol=1e-12)
    assert np.isfinite(scores).all() and scores[2, 0] > 80
