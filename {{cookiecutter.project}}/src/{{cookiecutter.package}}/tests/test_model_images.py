"""Behaviour of the trained model of pictures, the ONNX file that ships."""

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
        found: NDArray[np.float32] = session.run(["probabilities"], {"image": np.asarray(images, np.float32)})[0]
        return found

    return predict


@pytest.fixture(scope="module")
def images() -> NDArray[np.float32]:
    """Pictures of the test split, at most a thousand."""
    return np.asarray(prepared_images.load("test", PREPARED)[:1000], np.float32)


@pytest.fixture(scope="module")
def labels() -> NDArray[np.int64]:
    """Their labels."""
    found: NDArray[np.int64] = prepared.targets("test", PREPARED)[:1000]
    return found


@pytest.fixture(scope="module")
def description() -> dict[str, Any]:
    """The content of models/model.json."""
    content: dict[str, Any] = json.loads((MODELS / "model.json").read_text(encoding="utf-8"))
    return content


def test_it_is_what_its_description_says(description: dict[str, Any], predict: Predict) -> None:
    manifest = prepared.manifest(PREPARED)
    assert description["sha256"] == hashlib.sha256((MODELS / "model.onnx").read_bytes()).hexdigest()
    assert description["classes"] == manifest["classes"]
    assert description["shape"] == manifest["shape"]
    assert description["max_pixels"] == manifest["max_pixels"]
    assert predict(np.zeros((3, *manifest["shape"]))).shape == (3, len(manifest["classes"]))


def test_probabilities_are_probabilities(predict: Predict, images: NDArray[np.float32]) -> None:
    # Also of pictures that it has never seen the like of.
    noise = np.random.default_rng(0).uniform(0, 255, (32, *images.shape[1:]))
    extremes = np.stack([np.full(images.shape[1:], value) for value in (0, 255)])
    for batch in (images, noise, extremes):
        probabilities = predict(batch)
        assert probabilities.dtype == np.float32
        assert (probabilities >= 0).all() and (probabilities <= 1).all()
        np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)


def test_a_picture_is_judged_alone(predict: Predict, images: NDArray[np.float32]) -> None:
    together = predict(images[:64])
    alone = np.concatenate([predict(image[None]) for image in images[:64]])
    np.testing.assert_allclose(alone, together, atol=1e-5)
    np.testing.assert_allclose(predict(images[:64][::-1])[::-1], together, atol=1e-5)


def test_the_same_picture_gets_the_same_answer(predict: Predict, images: NDArray[np.float32]) -> None:
    np.testing.assert_array_equal(predict(images), predict(images))


@pytest.mark.parametrize("change", [lambda x: x + 3, lambda x: x - 3, lambda x: x * 0.97], ids=["+3", "-3", "x0.97"])
def test_a_little_more_or_less_light_changes_nothing(
    change: Callable[[NDArray[np.float32]], NDArray[np.float32]], predict: Predict, images: NDArray[np.float32]
) -> None:
    changed = predict(np.clip(change(images), 0, 255))
    assert (changed.argmax(1) == predict(images).argmax(1)).mean() >= 0.97


def test_it_beats_the_most_frequent_class(
    predict: Predict, images: NDArray[np.float32], labels: NDArray[np.int64]
) -> None:
    assert (predict(images).argmax(1) == labels).mean() > np.bincount(labels).max() / len(labels)


def test_it_is_right_more_often_where_it_is_sure(
    predict: Predict, images: NDArray[np.float32], labels: NDArray[np.int64]
) -> None:
    probabilities = predict(images)
    right = probabilities.argmax(1) == labels
    sure = probabilities.max(1) >= np.median(probabilities.max(1))
    assert right[sure].mean() >= right[~sure].mean()


@pytest.mark.skipif(not (ROOT / "reports/metrics.json").exists(), reason="not evaluated yet: `dvc repro` does it")
def test_it_is_the_model_that_was_evaluated(predict: Predict) -> None:
    test_images, test_labels = prepared_images.load("test", PREPARED), prepared.targets("test", PREPARED)
    right = [
        predict(test_images[row : row + 256]).argmax(1) == test_labels[row : row + 256]
        for row in range(0, len(test_labels), 256)
    ]
    report = json.loads((ROOT / "reports/metrics.json").read_text(encoding="utf-8"))
    assert report["accuracy"] == pytest.approx(np.concatenate(right).mean(), abs=1e-6)
    assert report["accuracy"] > report["baseline_accuracy"]


@pytest.mark.keras
def test_keras_says_the_same(predict: Predict, images: NDArray[np.float32]) -> None:
    model = restore.load_keras(MODELS)
    np.testing.assert_allclose(np.asarray(model(images, training=False)), predict(images), rtol=0, atol=1e-5)
