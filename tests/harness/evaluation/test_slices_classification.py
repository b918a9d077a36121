"""Slices of a classifier, against scikit-learn and pandas."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from my_experiment.harness.evaluation import classification, slices
from my_experiment.harness.evaluation.settings import Evaluate
from my_experiment.harness.evaluation.workspace import Predictions
from sklearn import metrics as reference

SETTINGS = Evaluate(seed=0, resamples=100, confidence=0.9, examples=1, shipped=0, slices=["sex", "age"])


def made(classes: int) -> tuple[Predictions, pd.DataFrame]:
    """A test split, and the columns by which it is sliced."""
    generator = np.random.default_rng(classes)
    columns = pd.DataFrame(
        {"sex": generator.choice(["f", "m", ""], 300, p=[0.5, 0.47, 0.03]), "age": generator.normal(50, 15, 300)}
    )
    labels = generator.integers(0, classes, 300)
    scores = generator.normal(size=(300, classes)) + np.eye(classes)[labels]
    outputs = (np.exp(scores) / np.exp(scores).sum(1, keepdims=True)).astype(np.float32)
    manifest = {"input": "tables", "target": "classification", "classes": [f"c{index}" for index in range(classes)]}
    return Predictions(outputs, labels, labels, manifest, {"classes": manifest["classes"]}), columns


@pytest.fixture(params=[2, 4])
def measured(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[Predictions, Any, slices.Slices]:
    """A test split with its columns and its slices."""
    test, columns = made(request.param)
    groups = {name: slices_of(columns[name]) for name in columns}
    monkeypatch.setattr(slices, "masks", lambda names, manifest, key: {name: groups[name] for name in names})
    return test, columns, slices.measure(test, SETTINGS)


def slices_of(column: "pd.Series[Any]") -> slices.Masks:
    """The slices of a column, as in the harness."""
    from my_experiment.harness.evaluation.metrics import grouped

    return grouped(str(column.name), column.to_numpy(object if column.name == "sex" else float))


def test_slices_equal_scikit_learn_and_pandas(measured: Any) -> None:
    test, columns, found = measured
    quarters = pd.qcut(columns["age"], 4)
    groups = [*columns.groupby("sex").indices.items(), *columns.groupby(quarters, observed=True).indices.items()]
    each = [piece for column in found.columns.values() for piece in column]
    assert [piece.examples for piece in each] == [len(rows) for _, rows in groups]
    for piece, (_, rows) in zip(each, groups, strict=True):
        labels, outputs = test.targets[rows], test.outputs[rows]
        said, values = outputs.argmax(1), {name: estimate.value for name, estimate in piece.estimates.items()}
        expected = {
            "accuracy": reference.accuracy_score(labels, said),
            "macro_f1": reference.f1_score(labels, said, average="macro"),
        }
        if len(test.manifest["classes"]) == 2:
            (tn, fp), (fn, tp) = reference.confusion_matrix(labels, said, labels=[0, 1])
            expected |= {
                "selection_rate": said.mean(),
                "true_positive_rate": reference.recall_score(labels, said),
                "false_positive_rate": fp / (fp + tn),
                "roc_auc": reference.roc_auc_score(labels, outputs[:, 1]),
            }
            assert values["true_positive_rate"] == tp / (tp + fn)
            assert ("true_positive_rate" in piece.rare) == (tp + fn < slices.FEW)
            assert ("false_positive_rate" in piece.rare) == (fp + tn < slices.FEW)
        assert {name: values[name] for name in expected} == pytest.approx(expected, rel=0, abs=1e-12)
        for value, low, high in (piece.estimates["accuracy"], piece.estimates["macro_f1"]):
            assert low < value <= high


def test_the_largest_difference_is_that_of_pandas(measured: Any) -> None:
    test, columns, found = measured
    right = pd.Series(test.outputs.argmax(1) == test.targets).groupby(columns["sex"]).mean()
    right = right[columns["sex"].value_counts()[right.index] >= slices.FEW]
    difference = slices.differences(found.columns["sex"])["accuracy"]
    assert difference.value == pytest.approx(right.max() - right.min(), abs=1e-12)
    assert difference.highest == f"sex {right.idxmax()}"


def test_a_slice_has_the_intervals_of_its_examples_alone(measured: Any) -> None:
    test, columns, found = measured
    mask = (columns["sex"] == "f").to_numpy()
    alone = Predictions(test.outputs[mask], test.targets[mask], test.targets, test.manifest, test.description)
    metrics = classification.slice_metrics(test.description, test.manifest)
    whole = slices._estimates(metrics, alone, np.ones(mask.sum(), bool), SETTINGS)
    (piece,) = [piece for piece in found.columns["sex"] if piece.name == "sex f"]
    assert piece.estimates == whole


def test_rates_are_those_of_the_class_with_the_threshold() -> None:
    test, _ = made(2)
    decision = {"class": "c0", "threshold": 0.8}
    table = classification.slice_metrics({**test.description, "decision": decision}, test.manifest)
    assert table["selection_rate"].title == "selection rate (c0)"
    assert "sensitivity" not in table  # it is the true positive rate
    rate = table["selection_rate"].function(test.targets, test.outputs)(np.ones(300))
    assert rate == pytest.approx((test.outputs[:, 0].astype(float) >= 0.8).mean(), abs=1e-12)
