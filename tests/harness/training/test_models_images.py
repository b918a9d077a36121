"""Models of pictures: each that ships trains, gives the same bytes again, and its export says the same as Keras."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from my_experiment.harness import contracts, prepared
from my_experiment.harness.exported import inference
from my_experiment.harness.packaging import savedmodel, tensorflow_model
from my_experiment.harness.preparation import images as preparation_images
from my_experiment.harness.prepared import images as prepared_images
from my_experiment.harness.training import export, restore
from support import ROOT

pytestmark = pytest.mark.keras
TRAIN: dict[str, Any] = {
    "seed": 0,
    "epochs": 2,
    "batch_size": 16,
    "learning_rate": 0.003,
    "monitor": "val_loss",
    "patience": 6,
}


@pytest.fixture
def brightness(workspace: Path) -> dict[str, Any]:
    """Prepared pictures of noise, of three degrees of brightness; returns their manifest."""
    generator = np.random.default_rng(0)

    def examples() -> Any:
        for number in range(120):
            pixels = generator.integers(0, 80, (8, 8, 1)) + 80 * (number % 3)
            yield preparation_images.Example(f"{number}.png", number % 3, str(number), pixels.astype(np.uint8))

    source = preparation_images.Source(["dark", "middle", "light"], (8, 8, 1), 120, examples())
    preparation_images.write(source, contracts.Splits(0, 0.2, 0.2))
    manifest: dict[str, Any] = prepared.manifest()
    return manifest


def train(option: str, manifest: dict[str, Any], folder: Path) -> dict[str, bytes]:
    """Trains and exports a model of conf/model/; returns the files."""
    from my_experiment.harness.training import fit
    from my_experiment.harness.training.quiet import keras

    keras.utils.clear_session()  # layers are numbered within a process
    section = yaml.safe_load((ROOT / f"conf/model/{option}.yaml").read_text(encoding="utf-8"))
    if "weights" in section:
        section |= {"weights": None, "fine_tune_layers": 2, "fine_tune_epochs": 1}  # nothing is downloaded in a test
    none = yaml.safe_load((ROOT / "conf/augmentation/none.yaml").read_text(encoding="utf-8"))
    inputs = prepared_images.inputs(manifest, none)
    fitted = fit.gradient_descent(section, inputs, manifest, **TRAIN)
    export.save(fitted, inputs, manifest, {"model": section, "augmentation": none}, folder)  # compares ONNX with Keras
    return {file.name: file.read_bytes() for file in folder.iterdir()}


# MobileNet goes the same way as ResNet-50, to the same bytes, in a third of the time.
OPTIONS = sorted({file.stem for file in ROOT.glob("conf/model/*.yaml")} - {"resnet50"})


@pytest.mark.parametrize("option", OPTIONS)
def test_every_model_trains_to_the_same_bytes_and_is_exported(brightness: dict[str, Any], option: str) -> None:
    first = train(option, brightness, Path("one"))
    assert set(first) == {"model.json", "model.onnx", "weights.npz"}
    second = train(option, brightness, Path("two"))
    assert [file for file, content in first.items() if second[file] != content] == []
    images = prepared_images.load("test").astype(np.float32)
    expected = inference.predict(Path("one/model.onnx"), prepared_images.feeds("test"))
    rebuilt = restore.load_keras(Path("one"))
    np.testing.assert_allclose(np.asarray(rebuilt(images)), expected, rtol=0, atol=1e-5)
    differences = savedmodel.write(  # compares the model for TensorFlow Serving with ONNX
        tensorflow_model.read(Path("one")), Path("served"), Path("one")
    )
    assert set(differences) == {"serving_default", "classify"} and max(differences.values()) <= 1e-5


def test_an_export_depends_neither_on_addresses_nor_on_what_was_exported_before() -> None:
    from my_experiment.harness.training.quiet import keras

    layers = keras.layers
    x = image = layers.Input((8, 8, 3), name="image")
    for _ in range(4):  # transposes meet at every sum, and which are merged is a matter of order
        branch = layers.Conv2D(3, 3, padding="same", activation="relu")(x)
        x = layers.ReLU()(layers.Add()([x, layers.BatchNormalization()(branch)]))
    model = keras.Model(image, layers.GlobalAveragePooling2D()(x))
    model(np.zeros((1, 8, 8, 3), np.float32))  # Keras exports no model that has never been called
    exports = [export.to_onnx(model).graph for _ in range(3)]
    assert [list(graph.node) == list(exports[0].node) for graph in exports] == [True] * 3
