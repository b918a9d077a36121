"""Behavior of the exported image model."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from ..harness import prepared
from ..harness.prepared import images as prepared_images
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
Predict = Callable[[Any], NDArray[np.float32]]


@pytest.fixture(scope="module")
def predict() -> Predict:
    """The model: pixel values 0 to 255 -> probabilities."""
    session = onnxruntime.InferenceSession(MODELS / "model.onnx", providers=["CPUExecutionProvider"])

    def predict(images: Any) -> NDArray[np.float32]:
        outputs: NDArray[np.float32] = session.run(["probabilities"], {"image": np.asarray(images, np.float32)})[0]
        return outputs

    return predict


@pytest.fixture(scope="module")
def images() -> NDArray[np.float32]:
    """Pictures of the test split, at most a thousand."""
    return np.asarray(prepared_images.load("test", PREPARED)[:1000], np.float32)


@pytest.fixture(scope="module")
def labels() -> NDArray[np.int64]:
    """Labels of `images`."""
    labels: NDArray[np.int64] = prepared.targets("test", PREPARED)[:1000]
    return labels


@pytest.fixture(scope="module")
def description() -> dict[str, Any]:
    """Content of models/model.json."""
    content: dict[str, Any] = json.loads((MODELS / "model.json").read_text(encoding="utf-8"))
    return content


def test_it_matches_its_description(description: dict[str, Any], predict: Predict) -> None:
    manifest = prepared.manifest(PREPARED)
    assert description["sha256"] == hashlib.sha256((MODELS / "model.onnx").read_bytes()).hexdigest()
    assert description["classes"] == manifest["classes"]
    assert description["shape"] == manifest["shape"]
    assert description["max_pixels"] == manifest["max_pixels"]
    assert predict(np.zeros((3, *manifest["shape"]))).shape == (3, len(manifest["classes"]))


def test_probabilities_are_probabilities(predict: Predict, images: NDArray[np.float32]) -> None:
    # Also for pictures unlike any in training.
    noise = np.random.default_rng(0).uniform(0, 255, (32, *images.shape[1:]))
    extremes = np.stack([np.full(images.shape[1:], value) for value in (0, 255)])
    for batch in (images, noise, extremes):
        probabilities = predict(batch)
        assert probabilities.dtype == np.float32
        assert (probabilities >= 0).all() and (probabilities <= 1).all()
        np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)


def test_a_prediction_does_not_depend_on_the_batch(predict: Predict, images: NDArray[np.float32]) -> None:
    together = predict(images[:64])
    alone = np.concatenate([predict(image[None]) for image in images[:64]])
    np.testing.assert_allclose(alone, together, atol=1e-5)
    np.testing.assert_allclose(predict(images[:64][::-1])[::-1], together, atol=1e-5)


def test_predictions_are_reproducible(predict: Predict, images: NDArray[np.float32]) -> None:
    np.testing.assert_array_equal(predict(images), predict(images))


@pytest.mark.parametrize("change", [lambda x: x + 3, lambda x: x - 3, lambda x: x * 0.97], ids=["+3", "-3", "x0.97"])
def test_small_changes_of_brightness_and_contrast_change_few_predictions(
    change: Callable[[NDArray[np.float32]], NDArray[np.float32]], predict: Predict, images: NDArray[np.float32]
) -> None:
    changed = predict(np.clip(change(images), 0, 255))
    assert (changed.argmax(1) == predict(images).argmax(1)).mean() >= 0.97


def test_it_beats_the_most_frequent_class(
    predict: Predict, images: NDArray[np.float32], labels: NDArray[np.int64]
) -> None:
    assert (predict(images).argmax(1) == labels).mean() > np.bincount(labels).max() / len(labels)


def test_confident_predictions_are_more_accurate(
    predict: Predict, images: NDArray[np.float32], labels: NDArray[np.int64]
) -> None:
    probabilities = predict(images)
    correct = probabilities.argmax(1) == labels
    confident = probabilities.max(1) >= np.median(probabilities.max(1))
    assert correct[confident].mean() >= correct[~confident].mean()


@pytest.mark.skipif(not (ROOT / "reports/metrics.json").exists(), reason="not evaluated yet: `dvc repro` does it")
def test_it_is_the_model_that_was_evaluated(predict: Predict) -> None:
    test_images, test_labels = prepared_images.load("test", PREPARED), prepared.targets("test", PREPARED)
    correct = [
        predict(test_images[row : row + 256]).argmax(1) == test_labels[row : row + 256]
        for row in range(0, len(test_labels), 256)
    ]
    report = json.loads((ROOT / "reports/metrics.json").read_text(encoding="utf-8"))
    assert report["accuracy"] == pytest.approx(np.concatenate(correct).mean(), abs=1e-6)
    assert report["accuracy"] > report["baseline_accuracy"]


@pytest.mark.keras
def test_keras_gives_the_same_predictions(predict: Predict, images: NDArray[np.float32]) -> None:
    model = restore.load_keras(MODELS)
    np.testing.assert_allclose(np.asarray(model(images, training=False)), predict(images), rtol=0, atol=1e-5)
