"""Training, with Keras itself: every model that ships trains, and its export says the same as Keras."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import yaml
from numpy.typing import NDArray

from tests import ROOT, module

cli, config, export, train = module("cli"), module("config"), module("export"), module("stages.train")

pytestmark = pytest.mark.keras

SHAPE, CLASSES = (8, 8, 1), ["dark", "middle", "light"]
SETTINGS: dict[str, Any] = {
    "seed": 0,
    "epochs": 3,
    "batch_size": 16,
    "learning_rate": 0.003,
    "monitor": "val_loss",
    "patience": 6,
    "class_weights": "none",
}
MANIFEST = {"classes": CLASSES, "shape": list(SHAPE), "max_pixels": 1000}
Split = tuple[NDArray[np.uint8], NDArray[np.int64]]


def split(seed: int, count: int) -> Split:
    """Noise of three degrees of brightness."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, count)
    images = generator.integers(0, 80, (count, *SHAPE)) + 80 * labels[:, None, None, None]
    return images.astype(np.uint8), labels


def build(option: str) -> tuple[Any, dict[str, Any]]:
    """The untrained model of a file in conf/model/, and its configuration."""
    training = module("training")
    training.keras.utils.clear_session()  # layers are numbered within a process; a stage has one of its own
    training.make_deterministic(0)
    target = yaml.safe_load((ROOT / f"conf/model/{option}.yaml").read_text(encoding="utf-8"))
    return config.instantiate(target, SHAPE, len(CLASSES)), target


def fit(model: Any, **changes: Any) -> Any:
    """Trains a model; returns its history."""
    return module("training").fit(model, split(0, 240), split(1, 60), train.Train(**{**SETTINGS, **changes}))


@pytest.mark.parametrize("option", sorted(file.stem for file in ROOT.glob("conf/model/*.yaml")))
def test_every_model_trains_and_is_exported(tmp_path: Path, option: str) -> None:
    model, target = build(option)
    history = fit(model)
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]
    images = split(2, 60)[0]
    export.save(model, target, MANIFEST, images, tmp_path)  # raises where ONNX and Keras differ
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    probabilities = session.run(["probabilities"], {"image": images.astype(np.float32)})[0]
    rebuilt = export.load_keras(tmp_path)
    np.testing.assert_allclose(np.asarray(rebuilt(images.astype(np.float32))), probabilities, rtol=0, atol=1e-5)


def test_the_same_training_writes_the_same_bytes(tmp_path: Path) -> None:
    for folder in (tmp_path / "one", tmp_path / "two"):
        model, target = build("mlp")
        fit(model)
        export.save(model, target, MANIFEST, split(2, 60)[0], folder)
    for name in ("model.json", "model.onnx", "weights.npz"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_the_best_epoch_is_kept() -> None:
    model, _ = build("mlp")
    history = fit(model, patience=1, epochs=30, learning_rate=0.02)
    assert len(history) < 30
    images, labels = split(1, 60)
    probabilities = np.asarray(model(images.astype(np.float32), training=False))
    loss = -np.log(np.maximum(probabilities[np.arange(60), labels], 1e-7)).mean()
    assert loss == pytest.approx(history["val_loss"].min(), abs=1e-4)


def test_a_loss_that_is_no_number_is_one_line() -> None:
    model, _ = build("mlp")
    model.set_weights([np.full_like(weights, np.nan) for weights in model.get_weights()])
    with pytest.raises(cli.UserError, match=r"lower train\.learning_rate") as error:
        fit(model)
    assert "\n" not in str(error.value)


def test_an_export_that_differs_is_refused() -> None:
    model, _ = build("mlp")
    images = split(2, 10)[0].astype(np.float32)
    model(images)  # Keras exports no model that has never been called
    serialised = export.to_onnx(model).SerializeToString()
    export.verify(model, serialised, images)
    model.set_weights([weights * 1.1 for weights in model.get_weights()])
    with pytest.raises(cli.UserError, match="differs from Keras"):
        export.verify(model, serialised, images)


def test_batches_cover_every_example_once_in_a_seeded_order() -> None:
    training = module("training")
    images = np.arange(50, dtype=np.uint8).reshape(50, 1, 1, 1)
    data = images, images[:, 0, 0, 0].astype(np.int64)

    def epochs(seed: int | None) -> list[list[int]]:
        read = training.batches(data, 16, seed)
        pairs = [[(part.numpy(), rows.numpy()) for part, rows in read] for _ in range(2)]
        for part, rows in pairs[0]:
            assert (part[:, 0, 0, 0] == rows).all()
        return [np.concatenate([rows for _, rows in epoch]).tolist() for epoch in pairs]

    assert epochs(None) == [list(range(50))] * 2
    first, second = epochs(1)
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second
    assert epochs(1) == [first, second] != epochs(2)


def test_class_weights_balance() -> None:
    assert module("training").class_weights(np.array([0, 0, 0, 1]), 2) == {0: 4 / 6, 1: 2.0}


@pytest.mark.parametrize("count", [20, 250])
def test_every_batch_is_seen_once_an_epoch(count: int) -> None:
    # Several steps run at a time; neither count fills the last execution, nor the last batch.
    model, _ = build("mlp")
    module("training").fit(model, split(0, count), split(1, 60), train.Train(**SETTINGS))
    assert int(model.optimizer.iterations) == SETTINGS["epochs"] * -(-count // 16)
