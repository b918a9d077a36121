"""Behavior of the exported table model, classifier or regression."""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from ..harness import prepared, targets
from ..harness.exported import inference
from ..harness.prepared import tables as prepared_tables
from ..harness.training import restore
from . import ROOT

MODELS = ROOT / "models"
PREPARED = ROOT / "data/prepared"
pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(
        not (MODELS / "model.onnx").exists() or not (PREPARED / "manifest.json").exists(),
        reason="no trained model yet: `dvc repro` or `dvc pull` makes it",
    ),
]
Rows = Mapping[str, NDArray[Any]]
Predict = Callable[[Rows], NDArray[np.float32]]


@pytest.fixture(scope="module")
def session() -> onnxruntime.InferenceSession:
    """The model in ONNX Runtime."""
    return onnxruntime.InferenceSession(MODELS / "model.onnx", providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def predict(session: onnxruntime.InferenceSession) -> Predict:
    """The model: raw columns -> probabilities [N, K] or numbers [N, 1], all finite."""

    def predict(rows: Rows) -> NDArray[np.float32]:
        answers: NDArray[np.float32] = session.run(None, rows)[0]
        assert answers.dtype == np.float32
        assert np.isfinite(answers).all()
        if session.get_outputs()[0].name == "probabilities":
            assert (answers >= 0).all() and (answers <= 1).all()
            np.testing.assert_allclose(answers.sum(1), 1, atol=1e-5)
        return answers

    return predict


@pytest.fixture(scope="module")
def rows() -> Rows:
    """Rows of the test split, at most a thousand."""
    first: Rows = next(prepared_tables.feeds("test", 1000, PREPARED))
    return first


@pytest.fixture(scope="module")
def description() -> dict[str, Any]:
    """Content of models/model.json."""
    content: dict[str, Any] = json.loads((MODELS / "model.json").read_text(encoding="utf-8"))
    return content


def take(rows: Rows, index: Any) -> Rows:
    """The rows at an index."""
    return {name: values[index] for name, values in rows.items()}


def assert_close(actual: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    """Compares outputs with a tolerance relative to the largest."""
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * max(1.0, float(np.abs(expected).max())))


def test_it_matches_its_description(
    description: dict[str, Any], session: onnxruntime.InferenceSession, predict: Predict, rows: Rows
) -> None:
    manifest = prepared.manifest(PREPARED)
    assert description["sha256"] == hashlib.sha256((MODELS / "model.onnx").read_bytes()).hexdigest()
    for key in ("input", "target", "target_name", "columns", *(["classes"] if "classes" in manifest else [])):
        assert description[key] == manifest[key]
    types = {"number": "tensor(double)", "date": "tensor(double)", "category": "tensor(string)"}
    inputs = [(value.name, value.type, len(value.shape)) for value in session.get_inputs()]
    assert inputs == [(column["name"], types[column["type"]], 1) for column in manifest["columns"]]
    (output,) = session.get_outputs()
    assert output.name == targets.target(manifest).OUTPUT
    assert predict(take(rows, slice(1))).shape == (1, len(manifest.get("classes", ["a number"])))


def test_a_prediction_does_not_depend_on_the_batch(predict: Predict, rows: Rows) -> None:
    rows = take(rows, slice(64))
    together = predict(rows)
    assert_close(np.concatenate([predict(take(rows, slice(i, i + 1))) for i in range(len(together))]), together)
    assert_close(predict(take(rows, slice(None, None, -1)))[::-1], together)


def test_predictions_are_reproducible(predict: Predict, rows: Rows) -> None:
    np.testing.assert_array_equal(predict(rows), predict(rows))


def test_missing_values_and_new_categories_are_answered(predict: Predict, rows: Rows) -> None:
    missing: dict[str, NDArray[Any]] = {}
    unseen: dict[str, NDArray[Any]] = {}
    for name, values in rows.items():
        number = values.dtype == np.float64
        missing[name] = np.full_like(values, np.nan if number else "")
        unseen[name] = values if number else np.full_like(values, "\N{SPARKLES} never seen, 'quoted'\n")
        predict({**rows, name: missing[name]})
    predict(unseen)
    # With every value missing, all rows are equal.
    assert len(np.unique(predict(missing), axis=0)) == 1


@pytest.mark.parametrize("extreme", [1e308, -1e308, 1e38, -1e38, 5e-324, 0.0])
def test_extreme_numbers_are_answered(
    predict: Predict, rows: Rows, description: dict[str, Any], extreme: float
) -> None:
    if description["features"]["numbers"] == "none" and abs(extreme) > 1e6:
        return  # without standardization, extreme numbers may overflow
    numbers = {name: np.full_like(v, extreme) for name, v in rows.items() if v.dtype == np.float64}
    for name, values in numbers.items():
        predict({**take(rows, slice(10)), name: values[:10]})
    predict({**rows, **numbers})


def test_it_beats_the_baseline(predict: Predict, description: dict[str, Any]) -> None:
    outputs = inference.predict(MODELS / "model.onnx", prepared_tables.feeds("test", folder=PREPARED))
    train, targets = prepared.targets("train", PREPARED), prepared.targets("test", PREPARED)
    if description["target"] == "classification":
        assert (outputs.argmax(1) == targets).mean() > (np.bincount(train).argmax() == targets).mean()
    else:
        assert ((outputs[:, 0] - targets) ** 2).mean() < ((train.mean() - targets) ** 2).mean()


@pytest.mark.skipif(not (ROOT / "reports/metrics.json").exists(), reason="not evaluated yet: `dvc repro` does it")
def test_it_is_the_model_that_was_evaluated(description: dict[str, Any]) -> None:
    outputs = inference.predict(MODELS / "model.onnx", prepared_tables.feeds("test", folder=PREPARED))
    targets = prepared.targets("test", PREPARED)
    report = json.loads((ROOT / "reports/metrics.json").read_text(encoding="utf-8"))
    if description["target"] == "classification":
        assert report["accuracy"] == pytest.approx((outputs.argmax(1) == targets).mean(), rel=1e-6)
    else:
        errors = np.abs(outputs[:, 0] - targets)
        assert report["mae"] == pytest.approx(errors.mean(), rel=1e-6)
        if half := description["calibration"]["half_widths"]["0.9"]:
            assert report["coverage"] == pytest.approx((errors <= half).mean(), abs=1e-6)


def test_intervals_hold_their_level_on_the_validation_split(description: dict[str, Any]) -> None:
    if description["target"] == "classification":
        assert description["calibration"] == {}
        return
    outputs = inference.predict(MODELS / "model.onnx", prepared_tables.feeds("validation", folder=PREPARED))
    errors = np.sort(np.abs(outputs[:, 0].astype(np.float64) - prepared.targets("validation", PREPARED)))
    assert description["calibration"]["examples"] == len(errors)
    for level, half in description["calibration"]["half_widths"].items():
        if half is None:
            assert (len(errors) + 1) * float(level) > len(errors)  # too few examples for this level
        else:
            # The half-width is the smallest error that covers the level.
            covered = int((errors <= half * (1 + 1e-9)).sum())
            assert float(level) * (len(errors) + 1) <= covered + 1e-6
            assert (errors < half * (1 - 1e-9)).sum() < float(level) * (len(errors) + 1)


@pytest.mark.keras
def test_keras_gives_the_same_predictions(
    predict: Predict, rows: Rows, description: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if "keras" not in description:
        pytest.skip("not a Keras model")
    monkeypatch.chdir(ROOT)
    # Encoding again gives the statistics of the exported model: both come from the training split.
    inputs = prepared_tables.inputs(prepared.manifest(), description["features"])
    encoded = inputs.array("test")[:1000]
    assert_close(np.asarray(restore.load_keras(MODELS)(encoded, training=False)), predict(rows))
