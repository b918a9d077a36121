"""The tests that explanations undergo in every run: good ones pass, bad ones fail."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from my_experiment.harness.explanation import checks, plan
from my_experiment.harness.explanation.contracts import Explanation
from my_experiment.harness.explanation.settings import Explain
from numpy.typing import NDArray
from onnx import helper, numpy_helper

WEIGHTS = np.random.default_rng(0).normal(size=12)


def answer(masks: NDArray[np.bool_]) -> NDArray[np.float64]:
    """A linear model of 12 parts."""
    return np.asarray(masks @ WEIGHTS + 1, np.float64)


def explanation(shap: NDArray[np.float64], lime: NDArray[np.float64] = WEIGHTS) -> Explanation:
    """An explanation of the linear model."""
    return Explanation(0, 0, "", 1.0, 1 + float(WEIGHTS.sum()), shap, lime, 1.0, shap)


GOOD = [explanation(WEIGHTS)] * 4


def test_good_explanations_pass() -> None:
    others = [np.random.default_rng(seed).normal(size=12) for seed in range(40)]
    for check in (
        checks.additivity(GOOD),
        checks.deletion([answer] * 4, GOOD, 0),
        checks.randomized(GOOD, others),
        checks.agreement(GOOD),
        checks.stability("SHAP", [[WEIGHTS, WEIGHTS + 0.001]]),
    ):
        assert check.passed and check.found is not None, check


@pytest.mark.parametrize(
    ("check", "found"),
    [
        (checks.additivity([*GOOD, explanation(WEIGHTS + 0.1)]), 1.2 / max(1, abs(1 + WEIGHTS.sum()))),
        (checks.deletion([answer] * 4, [*GOOD[:3], explanation(-WEIGHTS)], 0), 0.75),
        (checks.randomized(GOOD, [WEIGHTS * 2] * 4), 1),
        (checks.agreement([explanation(WEIGHTS, -WEIGHTS)]), -1),
        (checks.stability("LIME", [[np.arange(10.0), np.arange(10.0)[::-1]]]), 0),
    ],
)
def test_bad_ones_fail(check: checks.Check, found: float) -> None:
    assert not check.passed and check.found == pytest.approx(found)


def test_a_measure_that_is_not_defined_is_no_failure() -> None:
    constant = [explanation(np.zeros(12))]
    assert (check := checks.agreement(constant)).passed and check.found is None
    assert (check := checks.randomized(GOOD, [])).passed and check.found is None


def network(kernel: int = 3) -> onnx.ModelProto:
    """A convolution of 4 filters over 6 x 6 pixels, and a linear model of the result."""
    places = 7 - kernel
    constants = {
        "filters": np.ones((4, 1, kernel, kernel), np.float32),
        "bias": np.ones(4, np.float32),
        "shape": np.array([-1, 4 * places**2]),
        "weights": np.ones((4 * places**2, 2), np.float32),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "filters", "bias"], ["maps"]),
            helper.make_node("Reshape", ["maps", "shape"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weights"], ["y"]),
        ],
        "model",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 1, 6, 6])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", 2])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_random_weights_are_drawn_for_weights_alone() -> None:
    model = network().SerializeToString()
    changed = checks.random_weights(model, 0)
    assert changed is not None and changed == checks.random_weights(model, 0) != checks.random_weights(model, 1)
    arrays = {c.name: numpy_helper.to_array(c) for c in onnx.load_model_from_string(changed).graph.initializer}
    assert arrays["bias"].tolist() == [1] * 4 and arrays["shape"].tolist() == [-1, 64]
    assert 0.5 < arrays["weights"].std() < 1.5 and arrays["filters"].std() > 0.3


def test_multiplications_are_counted(tmp_path: Path) -> None:
    onnx.save(network(), tmp_path / "model.onnx")
    assert plan.multiplications(tmp_path / "model.onnx") == 16 * 36 + 64 * 2


def settings(**changes: Any) -> Explain:
    """The section `explain`."""
    return Explain(**{"seed": 0, "examples": 100, "shown": 6, "background": 100, "budget": 32, **changes})


@pytest.mark.parametrize(
    ("parts", "multiplications", "background"), [(1, 10, 100), (30, 40_000, 100), (64, 10**6, 1), (500, 10**6, 100)]
)
def test_the_plan_stays_within_the_budget(parts: int, multiplications: int, background: int) -> None:
    small, reduced = plan.plan(parts, multiplications, background, 264, settings())
    assert plan.cost(small, parts) * (multiplications + plan.CALL) <= 32e9 or small == (2, 1, 1)
    assert reduced == (small != (100, 6, background))
    large, reduced = plan.plan(parts, multiplications, background, 264, settings(budget=10**6))
    assert (large, reduced) == ((100, 6, background), False)


def test_the_words_about_a_row_are_part_of_the_budget() -> None:
    small, _ = plan.plan(30, 40_000, 100, 264, settings(), 8000)
    assert plan.cost(small, 30, 8000) == plan.cost(small, 30) + 2 * small.shown * 8000
    assert plan.cost(small, 30, 8000) * (40_000 + plan.CALL) <= 32e9


def test_a_large_model_explains_something_whatever_it_costs() -> None:
    assert plan.plan(64, 4 * 10**9, 1, 264, settings()) == ((2, 1, 1), True)
    assert plan.plan(64, 4 * 10**9, 1, 1, settings()) == ((1, 1, 1), False)
