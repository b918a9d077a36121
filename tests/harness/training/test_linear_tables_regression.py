"""Linear regression: coefficients, errors and intervals are those of scikit-learn and of closed forms."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from linear import answer, fit, table_of, values
from my_experiment import features
from my_experiment.harness import contracts
from my_experiment.harness.core import errors
from my_experiment.harness.training import linear
from my_experiment.models.linear_regression import linear_regression
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression


@pytest.fixture(autouse=True)
def folder(workspace: Path) -> Path:
    """Where the prepared data of a test lie."""
    return workspace


@pytest.mark.parametrize("numbers", ["standardise", "none"])
def test_diabetes_as_in_scikit_learn(numbers: str) -> None:
    x, y = load_diabetes(return_X_y=True, scaled=False)
    fitted, _, _ = fit(linear_regression, table_of(x), y, numbers=numbers)
    expected = LinearRegression().fit(x, y)
    np.testing.assert_allclose(values(fitted, "estimate"), [expected.intercept_, *expected.coef_], rtol=1e-6)


@pytest.mark.parametrize(("offset", "target"), [(0.0, 0.0), (1e9, 0.0), (0.0, 1e9)])
def test_large_offsets_cost_no_digits(offset: float, target: float) -> None:
    x = np.round(np.random.default_rng(0).normal(size=(500, 2)), 3)
    y = 2 * x[:, 0] - 3 * x[:, 1] + np.random.default_rng(1).normal(size=500) + target
    fitted, _, _ = fit(linear_regression, table_of(x + np.array([offset, 0])), y)
    expected = LinearRegression().fit(x, y).coef_
    np.testing.assert_allclose(values(fitted, "estimate")[1:], expected, rtol=1e-6)


def test_errors_and_intervals_of_least_squares_as_in_the_textbook() -> None:
    from scipy import stats

    x, y = load_diabetes(return_X_y=True, scaled=False)
    fitted, _, _ = fit(linear_regression, table_of(x), y)
    design = np.column_stack([np.ones(len(x)), x])
    inverse = np.linalg.inv(design.T @ design)
    residuals = y - design @ (inverse @ design.T @ y)
    freedom = len(y) - design.shape[1]
    error = np.sqrt(residuals @ residuals / freedom * np.diag(inverse))
    np.testing.assert_allclose(values(fitted, "standard_error"), error, rtol=1e-6)
    half = stats.t.ppf(0.975, freedom) * error
    np.testing.assert_allclose(values(fitted, "high") - values(fitted, "estimate"), half, rtol=1e-6)
    np.testing.assert_allclose(values(fitted, "estimate") - values(fitted, "low"), half, rtol=1e-6)
    assert f"{freedom:,} degrees of freedom" in fitted.notes["coefficients_note"]


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    x = np.random.default_rng(0).normal(size=(12, 1)) * 7 + 3
    held = 0
    for seed in range(200):
        y = 4 + 2 * x[:, 0] + np.random.default_rng(1000 + seed).normal(size=12)
        fitted, _, _ = fit(linear_regression, table_of(x), y)
        held += values(fitted, "low")[1] <= 2 <= values(fitted, "high")[1]
    assert abs(held / 200 - 0.95) < 0.046  # three standard errors of 200 draws


def test_batches_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = load_diabetes(return_X_y=True, scaled=False)
    once, _, _ = fit(linear_regression, table_of(x), y)
    monkeypatch.setattr(linear, "BATCH_BYTES", 1)
    again, _, _ = fit(linear_regression, table_of(x), y)
    np.testing.assert_allclose(values(again, "estimate"), values(once, "estimate"), rtol=1e-9)
    np.testing.assert_allclose(values(again, "standard_error"), values(once, "standard_error"), rtol=1e-9)


def test_history_of_least_squares() -> None:
    x, y = load_diabetes(return_X_y=True, scaled=False)
    fitted, _, _ = fit(linear_regression, table_of(x), y)
    errors = y - LinearRegression().fit(x, y).predict(x)
    (row,) = fitted.history.to_dict("records")
    expected = {"loss": (errors**2).mean() / y.var(), "mae": np.abs(errors).mean()}
    assert row == pytest.approx(expected | {f"val_{k}": v for k, v in expected.items()})


def test_the_exported_formula_is_the_one_of_the_table() -> None:
    generator = np.random.default_rng(0)
    table = {"age": generator.normal(50, 9, 200), "sex": generator.choice(["f", "m", "m"], 200)}
    y = 0.5 * table["age"] + 7 * (table["sex"] == "f") + generator.normal(size=200)
    fitted, _, encoding = fit(linear_regression, {k: v.tolist() for k, v in table.items()}, y)
    names, (b0, b1, b2) = values(fitted, "name").tolist(), values(fitted, "estimate")
    assert names == ["(intercept)", "age", "sex=f"]
    feed = {"age": np.array([30.0, 99.5]), "sex": np.array(["m", "f"], object)}
    np.testing.assert_allclose(answer(fitted, encoding, feed)[:, 0], [b0 + b1 * 30, b0 + b1 * 99.5 + b2], rtol=1e-6)


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_the_graph_answers_as_the_fitted_model(precision: str) -> None:
    x, y = load_diabetes(return_X_y=True, scaled=False)
    fitted, rows, encoding = fit(linear_regression, table_of(x), y, precision=precision)
    answers = answer(fitted, encoding, table_of(x))
    assert answers.dtype == np.float32 and answers.shape == (len(x), 1)
    np.testing.assert_allclose(answers, fitted.predict(rows), rtol=1e-6)


def test_dependent_columns_are_named_and_change_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(300, 3))
    y = x @ [1, 2, 3] + generator.normal(size=300)
    table = table_of(x)
    wide = {"x0": table["x0"], "copy": 2 * table["x0"] + 1, "x1": table["x1"], "sum": x[:, 0] + x[:, 1], "x2": x[:, 2]}
    fitted, rows, _ = fit(linear_regression, wide, y)
    assert "fixed at 0: 'copy', 'sum'" in capsys.readouterr().err
    expected, plain, _ = fit(linear_regression, table, y)
    assert values(fitted, "name").tolist() == ["(intercept)", "x0", "x1", "x2"]
    for key in ("estimate", "standard_error"):
        np.testing.assert_allclose(values(fitted, key), values(expected, key), rtol=1e-9)
    np.testing.assert_allclose(fitted.predict(rows), expected.predict(plain), rtol=1e-9)


def test_a_near_copy_is_still_solved() -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(300, 1))
    x = np.column_stack([x, x[:, 0] + 1e-4 * generator.normal(size=300)])
    y = x @ [1, 2] + generator.normal(size=300)
    fitted, _, _ = fit(linear_regression, table_of(x), y)
    np.testing.assert_allclose(values(fitted, "estimate")[1:], LinearRegression().fit(x, y).coef_, rtol=1e-6)


@pytest.mark.parametrize(
    ("table", "targets", "classes", "said"),
    [
        ({"x": [1.0, 2.0, 3.0]}, [0, 1, 0], ["a", "b"], "choose model: logistic_regression"),
        ({"x": [1.0, 2.0]}, [0.5, 1], None, "2 training rows cannot determine 2 coefficients"),
        ({"x": [1.0, 2.0, 4.0]}, [5.0, 5.0, 5.0], None, "'y' is the same in all training rows"),
    ],
)
def test_what_cannot_be_fitted_is_one_line(table: Any, targets: Any, classes: Any, said: str) -> None:
    with pytest.raises(errors.UserError) as error:
        fit(linear_regression, table, targets, classes)
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("encoded", [True, False])
def test_only_columns_to_calculate_with_are_taken(encoded: bool) -> None:
    columns = [{"name": "x", "type": "category"}]
    settings: dict[str, Any] = {"numbers": "none", "missing": "mean", "min_count": 1, "max_categories": 9, "width": 2}
    encoding = features.embedding(pa.table({"x": ["a", "b"]}), columns, **settings)
    inputs = contracts.Inputs(
        "encoded", lambda split: np.empty((0, 1)), encoding.layers, encoding.graph if encoded else None
    )
    with pytest.raises(errors.UserError, match="no embeddings" if encoded else "are for tables"):
        linear_regression(inputs, {"target": "regression"}, confidence=0.95)
