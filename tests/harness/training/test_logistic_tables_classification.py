"""Logistic regression: coefficients, errors and likelihood are those of scikit-learn and of closed forms."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from linear import answer, fit, table_of, values
from my_experiment.harness.core import errors
from my_experiment.models.logistic_regression import logistic_regression
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.linear_model import LogisticRegression


@pytest.fixture(autouse=True)
def folder(workspace: Path) -> Path:
    """Where the prepared data of a test lie."""
    return workspace


def noisy_classes(rows: int = 3000, classes: int = 2) -> tuple[Any, Any]:
    """Three columns of very different scales, and classes that no plane separates."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(rows, 3))
    scores = x @ generator.normal(size=(3, classes)) + generator.gumbel(size=(rows, classes))
    return x * [1, 1000, 0.01] + [0, 1e6, 5], scores.argmax(axis=1)


def test_without_penalty_as_in_scikit_learn() -> None:
    x, y = noisy_classes()
    fitted, _, _ = fit(logistic_regression, table_of(x), y, ["no", "yes"], l2=0.0)
    z = (x - x.mean(axis=0)) / x.std(axis=0)  # its solver would not converge on the raw columns
    expected = LogisticRegression(C=np.inf, tol=1e-12, solver="newton-cholesky", max_iter=1000).fit(z, y)
    slopes = expected.coef_[0] / x.std(axis=0)
    np.testing.assert_allclose(values(fitted, "estimate")[1:], slopes, rtol=1e-4)
    np.testing.assert_allclose(values(fitted, "estimate")[0], expected.intercept_ - slopes @ x.mean(axis=0), rtol=1e-4)
    likelihood = np.log(expected.predict_proba(z)[np.arange(len(y)), y]).sum()
    np.testing.assert_allclose(-fitted.history["loss"][0] * len(y), likelihood, rtol=1e-9)
    assert f"log-likelihood {likelihood:.6g}." in fitted.notes["coefficients_note"]


def test_three_classes_without_penalty_as_in_scikit_learn() -> None:
    x, y = noisy_classes(classes=3)
    fitted, rows, _ = fit(logistic_regression, table_of(x), y, ["a", "b", "c"], l2=0.0)
    expected = LogisticRegression(C=np.inf, tol=1e-12, solver="newton-cholesky", max_iter=1000).fit(rows, y)
    np.testing.assert_allclose(fitted.predict(rows), expected.predict_proba(rows), atol=1e-6)
    slopes = (expected.coef_[1:] - expected.coef_[0]) / x.std(axis=0)
    for k, name in enumerate("bc"):
        np.testing.assert_allclose(values(fitted, "estimate", name)[1:], slopes[k], rtol=1e-4)


@pytest.mark.parametrize(("load", "classes"), [(load_breast_cancer, "mb"), (load_iris, "abc")])
@pytest.mark.parametrize("l2", [1.0, 0.01])
def test_with_penalty_as_in_scikit_learn(load: Any, classes: str, l2: float) -> None:
    x, y = load(return_X_y=True)
    fitted, rows, _ = fit(logistic_regression, table_of(x), y, list(classes), l2=l2)
    expected = LogisticRegression(C=1 / l2, tol=1e-12, solver="newton-cholesky", max_iter=1000).fit(rows, y)
    np.testing.assert_allclose(fitted.predict(rows), expected.predict_proba(rows), atol=1e-6)
    ours = fitted.weights["coefficients"]
    theirs = expected.coef_ if len(classes) == 2 else expected.coef_ - expected.coef_[0]
    np.testing.assert_allclose(ours.T[1:], theirs if len(classes) == 2 else theirs[1:], atol=1e-4 * np.abs(ours).max())


def test_errors_of_maximum_likelihood_are_those_of_the_hessian() -> None:
    x, y = noisy_classes()
    fitted, _, _ = fit(logistic_regression, table_of(x), y, ["no", "yes"], l2=0.0)
    design = np.column_stack([np.ones(len(x)), x])
    p = 1 / (1 + np.exp(-design @ values(fitted, "estimate")))
    error = np.sqrt(np.diag(np.linalg.inv(design.T @ (design * (p * (1 - p))[:, None]))))
    np.testing.assert_allclose(values(fitted, "standard_error"), error, rtol=1e-5)
    np.testing.assert_allclose(values(fitted, "high") - values(fitted, "estimate"), 1.959964 * error, rtol=1e-5)


def test_errors_of_three_classes_are_those_of_the_curvature() -> None:
    x, y = noisy_classes(400, classes=3)
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    fitted, _, _ = fit(logistic_regression, table_of(z), y, ["a", "b", "c"], l2=2.0)
    design = np.column_stack([np.ones(len(z)), z])

    def loss(flat: Any) -> float:
        free = flat.reshape(2, 4)
        scores = np.column_stack([np.zeros(len(z)), design @ free.T])
        slopes = np.vstack([np.zeros(3), free[:, 1:]])
        penalty = 2.0 / 2 * ((slopes - slopes.mean(axis=0)) ** 2).sum()
        return float(np.log(np.exp(scores).sum(axis=1)).sum() - scores[np.arange(len(y)), y].sum() + penalty)

    best, h = np.concatenate([values(fitted, "estimate", "b"), values(fitted, "estimate", "c")]), 1e-3
    curvature = np.empty((8, 8))
    for i, j in itertools.product(range(8), repeat=2):
        a, b = h * np.eye(8)[i], h * np.eye(8)[j]
        curvature[i, j] = (loss(best + a + b) - loss(best + a - b) - loss(best - a + b) + loss(best - a - b)) / 4 / h**2
    error = np.sqrt(np.diag(np.linalg.inv(curvature)))
    found = np.concatenate([values(fitted, "standard_error", "b"), values(fitted, "standard_error", "c")])
    np.testing.assert_allclose(found, error, rtol=1e-4)


@pytest.mark.parametrize("overlap", [0, 1])
def test_separated_classes_are_refused_by_name_and_fitted_with_a_penalty(overlap: int) -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(200, 2))
    y = (x[:, 0] > 0).astype(int)
    if overlap:  # quasi-separated: both classes on the boundary itself
        x[:20, 0], y[:10], y[10:20] = 0, 0, 1
    with pytest.raises(errors.UserError, match=r"separated.*mainly by 'x0'.*model\.l2 \(now 0\)") as error:
        fit(logistic_regression, table_of(x), y, ["no", "yes"], l2=0.0)
    assert "\n" not in str(error.value)
    fitted, _, _ = fit(logistic_regression, table_of(x), y, ["no", "yes"], l2=1.0)
    assert values(fitted, "estimate")[1] > 1


def test_breast_cancer_is_separated() -> None:
    x, y = load_breast_cancer(return_X_y=True)
    with pytest.raises(errors.UserError, match="separated"):
        fit(logistic_regression, table_of(x), y, ["malignant", "benign"], l2=0.0)


def test_strong_effects_are_no_separation() -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(5000, 1))
    y = (generator.random(5000) < 1 / (1 + np.exp(-20 * x[:, 0]))).astype(int)
    fitted, _, _ = fit(logistic_regression, table_of(x), y, ["no", "yes"], l2=0.0)
    assert values(fitted, "low")[1] < 20 < values(fitted, "high")[1]


def test_a_rare_class_converges() -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(20_000, 2))
    y = (generator.random(20_000) < 1 / (1 + np.exp(7 - x[:, 0]))).astype(int)
    fitted, _, _ = fit(logistic_regression, table_of(x), y, ["no", "yes"], l2=0.0)
    assert abs(values(fitted, "estimate")[0] + 7) < 3 * values(fitted, "standard_error")[0]


def test_the_graph_of_probabilities_answers_as_the_fitted_model() -> None:
    x, y = load_iris(return_X_y=True)
    fitted, rows, encoding = fit(logistic_regression, table_of(x), y, ["a", "b", "c"], l2=1.0)
    answers = answer(fitted, encoding, table_of(x))
    assert answers.dtype == np.float32
    np.testing.assert_allclose(answers, fitted.predict(rows), atol=1e-6)
    np.testing.assert_allclose(answers.sum(axis=1), 1, rtol=1e-6)


def test_a_number_is_not_classified() -> None:
    with pytest.raises(errors.UserError, match=r"choose model: linear_regression") as error:
        fit(logistic_regression, {"x": [1.0, 2.0]}, [0.5, 1], None, l2=1.0)
    assert "\n" not in str(error.value)


def test_same_bytes_twice() -> None:
    x, y = load_breast_cancer(return_X_y=True)
    made = [fit(logistic_regression, table_of(x), y, ["m", "b"], l2=1.0)[0] for _ in range(2)]
    first, second = (fitted.graph().SerializeToString(deterministic=True) for fitted in made)
    assert first == second
    assert made[0].notes == made[1].notes
