"""Metrics against scikit-learn and against cases worked out by hand."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as reference

from tests import module

metrics = module("metrics")

Case = tuple[NDArray[np.int64], NDArray[np.float64]]


def case(seed: int, examples: int, classes: int, tied: bool = False) -> Case:
    """Labels, each class at least once, and probabilities that say something about them."""
    generator = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), generator.integers(0, classes, examples - classes)])
    if tied:
        counts = generator.multinomial(4, np.full(classes, 1 / classes), examples) + np.eye(classes, dtype=int)[labels]
        return labels, counts / 5
    scores = generator.normal(size=(examples, classes)) + 2 * np.eye(classes)[labels]
    return labels, np.exp(scores) / np.exp(scores).sum(1, keepdims=True)


CASES = [
    pytest.param(*case(0, 300, 10), id="ten classes"),
    pytest.param(*case(1, 50, 2), id="two classes"),
    pytest.param(*case(2, 400, 4, tied=True), id="ties"),
    pytest.param(*case(3, 5, 5), id="one example a class"),
]


@pytest.mark.parametrize(("labels", "probabilities"), CASES)
def test_metrics_equal_those_of_scikit_learn(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> None:
    predictions = probabilities.argmax(1)
    classes = range(probabilities.shape[1])
    scores = probabilities if len(classes) > 2 else probabilities[:, 1]
    expected = {
        "accuracy": reference.accuracy_score(labels, predictions),
        "macro_f1": reference.f1_score(labels, predictions, average="macro"),
        "log_loss": reference.log_loss(labels, probabilities, labels=classes),
        "roc_auc": reference.roc_auc_score(labels, scores, multi_class="ovr"),
    }
    found = {name: metrics.METRICS[name](labels, probabilities) for name in expected}
    assert found == pytest.approx(expected, rel=0, abs=1e-9)
    matrix = metrics.confusion(labels, predictions, len(classes))
    assert (matrix == reference.confusion_matrix(labels, predictions, labels=classes)).all()
    precision, recall, f1, _ = reference.precision_recall_fscore_support(
        labels, predictions, labels=classes, zero_division=np.nan
    )
    table = metrics.by_class(matrix)
    np.testing.assert_allclose(table["precision"], precision, atol=1e-9)
    np.testing.assert_allclose(table["recall"], recall, atol=1e-9)
    np.testing.assert_allclose(table["f1"], f1, atol=1e-9)


def test_a_class_that_never_occurs_is_left_out() -> None:
    labels, probabilities = case(4, 200, 3)
    widened = np.hstack([probabilities, np.zeros((200, 1))])
    for metric in metrics.METRICS.values():
        assert metric(labels, widened) == pytest.approx(metric(labels, probabilities), abs=1e-12)


def test_a_certain_mistake_costs_a_finite_log_loss() -> None:
    wrong = np.array([[0.0, 1.0]], np.float32)
    assert metrics.log_loss(np.array([0]), wrong) == pytest.approx(-np.log(np.finfo(np.float32).eps))


def test_calibration_error_by_hand() -> None:
    # Bins of 1/15: 0.95 and 0.96 fall in the last (0.933 to 1), 0.55 in the ninth (0.533 to 0.6).
    confidence = np.array([0.95, 0.96, 0.95, 0.96, 0.55])
    labels = np.array([0, 0, 0, 1, 1])  # class 0 is always predicted: three of four right, then none of one
    expected = 4 / 5 * abs(3 / 4 - 0.955) + 1 / 5 * abs(0 - 0.55)
    probabilities = np.stack([confidence, 1 - confidence], 1)
    assert metrics.ece(labels, probabilities) == pytest.approx(expected, abs=1e-12)
    bins = metrics.calibration(labels, probabilities)
    assert bins["count"].tolist() == [1, 4]
    assert bins["accuracy"].tolist() == [0, 0.75]


def test_full_confidence_belongs_to_the_last_bin() -> None:
    assert metrics.ece(np.array([0, 1]), np.eye(2)) == 0


@pytest.mark.parametrize(("labels", "probabilities"), CASES[:3])
def test_bootstrap_intervals(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> None:
    intervals = metrics.bootstrap(labels, probabilities, 200, 0.95, seed=1)
    assert set(intervals) == set(metrics.METRICS)
    for name, (low, high) in intervals.items():
        assert low < high
        if name != "ece":  # an absolute value: resampling can only raise it where the model is well calibrated
            assert low <= metrics.METRICS[name](labels, probabilities) <= high
    assert metrics.bootstrap(labels, probabilities, 200, 0.95, seed=1) == intervals
    assert metrics.bootstrap(labels, probabilities, 200, 0.95, seed=2) != intervals
    for name, (low, high) in metrics.bootstrap(labels, probabilities, 200, 0.5, seed=1).items():
        assert intervals[name][0] <= low < high <= intervals[name][1]
