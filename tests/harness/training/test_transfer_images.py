"""Transfer learning: frozen bases with weights from a file that is written here, nothing is downloaded."""

import hashlib
import http.server
import importlib
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from my_experiment.harness import contracts, prepared
from my_experiment.harness.core import errors
from my_experiment.harness.preparation import images as preparation_images
from my_experiment.harness.prepared import images as prepared_images
from my_experiment.harness.training import transfer
from support import PACKAGE

pytestmark = pytest.mark.keras
SHAPE = (32, 32, 3)
SECTION = {"dropout": 0.0, "fine_tune_layers": 0, "fine_tune_epochs": 2, "fine_tune_learning_rate": 0.001}


def loaded() -> Any:
    """Keras, imported quietly."""
    from my_experiment.harness.training import quiet

    return quiet.keras


def keras() -> Any:
    """Keras, as in a new process."""
    from my_experiment.harness.training import devices

    loaded().utils.clear_session()  # layers are numbered within a process
    devices.make_deterministic(0)
    return loaded()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of MobileNetV3-Small; its batch normalisation knows these pictures, so that features tell them apart."""
    base = keras().applications.MobileNetV3Small(include_top=False, weights=None, input_shape=SHAPE)
    generator = np.random.default_rng(0)
    for variable in base.weights:
        if variable.path.endswith("gamma"):
            variable.assign(generator.uniform(0.5, 1.5, variable.shape))
        elif variable.path.endswith(("beta", "bias")):
            variable.assign(generator.normal(0, 0.3, variable.shape))
    for layer in base.layers:
        if type(layer).__name__ == "BatchNormalization":
            layer.momentum = 0.0
    base(pixels(9, 60).astype(np.float32), training=True)
    path = tmp_path_factory.mktemp("weights") / "base.weights.h5"
    base.save_weights(path)
    return path


def layers(shape: tuple[int, int, int]) -> tuple[Any, Any]:
    """What pictures give a model: its entry, and pixels from 0 to 1."""
    entry = loaded().Input(shape, name="image")
    return entry, entry / 255


def head(features: Any) -> Any:
    """Three classes."""
    return loaded().layers.Dense(3, activation="softmax", name="probabilities")(features)


def build(option: str, shape: tuple[int, int, int], weights: str | None, **changes: Any) -> Any:
    """A model of models/."""
    keras()
    function = getattr(importlib.import_module(f"my_experiment.models.{option}"), option)
    return function(partial(layers, shape), head, weights=weights, **{**SECTION, **changes})


def pixels(seed: int, count: int, shape: tuple[int, int, int] = SHAPE) -> Any:
    """Three patterns in turn, with noise, uint8."""
    patterns = np.random.default_rng(100).integers(0, 200, (3, *shape), np.uint8)
    return patterns[np.arange(count) % 3] + np.random.default_rng(seed).integers(0, 56, (count, *shape), np.uint8)


def given(augment: Any = None) -> tuple[Any, Any]:
    """Inputs of 40 pictures for training and 33 for validation, and the labels of the first."""
    rows = {"train": pixels(0, 40), "validation": pixels(1, 33)}
    return contracts.Inputs("image", rows.__getitem__, partial(layers, SHAPE), augment=augment), np.arange(40) % 3


def test_cached_features_give_the_head_of_the_naive_loop(file: Path) -> None:
    inputs, labels = given()

    def fit(model: Any, rows: Any) -> None:
        model.compile("adam", "sparse_categorical_crossentropy")
        model.fit(rows, labels, batch_size=16, epochs=5, shuffle=False, verbose=0)

    cached, naive = (build("mobilenet_v3", SHAPE, str(file)) for _ in range(2))
    start = naive.get_layer("probabilities").kernel.numpy()
    for number, phase in enumerate(cached.phases(inputs, 5, 0.001)):
        assert number == 0
        fit(phase.model, phase.inputs.array("train"))
    fit(naive, inputs.array("train").astype(np.float32))
    rows = phase.inputs.array("validation")
    assert isinstance(rows, np.memmap)
    assert rows.dtype == np.float32
    assert rows.shape == (33, 576)
    assert not Path(str(rows.filename)).exists()  # the temporary folder is gone with the last phase
    heads = [model.get_layer("probabilities") for model in (cached, naive)]
    assert np.abs(heads[0].kernel - start).max() > 0.001
    assert rows.std(0).max() > 0.1  # the pictures differ
    for name in ("kernel", "bias"):
        np.testing.assert_allclose(getattr(heads[0], name), getattr(heads[1], name), rtol=0, atol=1e-5)


def test_augmentation_forbids_the_cache(file: Path) -> None:
    model = build("mobilenet_v3", SHAPE, str(file), fine_tune_layers=1)
    inputs, _ = given(augment=lambda dataset, seed: dataset)
    first, second = model.phases(inputs, 5, 0.01)
    assert first == (model, inputs, 5, 0.01, "train.learning_rate")
    assert second == (model, inputs, 2, 0.001, "model.fine_tune_learning_rate")


def test_fine_tuning_changes_the_last_layers_and_no_statistics(workspace: Path, file: Path) -> None:
    from my_experiment.harness.training import fit

    def examples() -> Iterator[Any]:
        for number, picture in enumerate(pixels(2, 90)):
            yield preparation_images.Example(f"{number}.png", number % 3, str(number), picture)

    preparation_images.write(
        preparation_images.Source(["a", "b", "c"], SHAPE, 90, examples()), contracts.Splits(0, 0.2, 0.2)
    )
    target = f"{PACKAGE}.models.mobilenet_v3.mobilenet_v3"
    section = {"_target_": target, **SECTION, "weights": str(file), "dropout": 0.2, "fine_tune_layers": 2}
    settings: dict[str, Any] = {
        "seed": 0,
        "epochs": 2,
        "batch_size": 16,
        "learning_rate": 0.001,
        "monitor": "val_loss",
        "patience": 5,
    }
    inputs = contracts.Inputs("image", prepared_images.load, partial(layers, SHAPE))
    fitted = []
    for rate in (0.001, 0.3):
        keras()
        section["fine_tune_learning_rate"] = rate
        fitted.append(fit.gradient_descent(section, inputs, prepared.manifest(), **settings))
    one, ruined = fitted
    assert len(one.history) == 2 + 2  # epochs of the head, and of fine-tuning

    base = keras().applications.MobileNetV3Small(include_top=False, weights=str(file), input_shape=SHAPE)
    before = {variable.path: np.asarray(variable) for variable in base.weights}
    weighted = [layer for layer in base.layers if layer.weights and "batch" not in type(layer).__name__.lower()]
    last = {variable.path for layer in weighted[-2:] for variable in layer.weights}
    targets = prepared.targets("validation")
    for run, best, expected in ((one, "fine-tuning", last), (ruined, "head", set())):
        assert (run.history["val_loss"].idxmin() >= 2) == (best == "fine-tuning")
        assert {name for name in before if not np.array_equal(before[name], run.weights[name])} == expected
        answers = run.predict(inputs.array("validation").astype(np.float32))
        loss = -np.log(np.maximum(answers[np.arange(len(targets)), targets], 1e-7)).mean()
        assert loss == pytest.approx(run.history["val_loss"].min(), abs=1e-4)  # the best epoch of both phases is kept


def test_more_layers_than_there_are_is_refused() -> None:
    with pytest.raises(errors.UserError, match=r"fine_tune_layers: 53, but MobileNetV3Small has 52 layers"):
        build("mobilenet_v3", SHAPE, None, fine_tune_layers=53)


def test_resnet50_takes_what_keras_prepares() -> None:
    images = pixels(0, 4, (40, 33, 3)).astype(np.float32)
    model = build("resnet50", (40, 33, 3), None)
    base, applications = model.get_layer("resnet50"), loaded().applications
    expected = np.asarray(base(applications.resnet50.preprocess_input(images.copy()), training=False)).mean((1, 2))
    extractor = loaded().Model(model.inputs, model.get_layer("features").output)
    np.testing.assert_allclose(np.asarray(extractor({"image": images})), expected, rtol=1e-4, atol=1e-4)


def test_mobilenet_takes_pixels() -> None:
    # Its `preprocess_input` of Keras does nothing: the base scales 0..255 to -1..1 itself.
    base = build("mobilenet_v3", SHAPE, None).get_layer("MobileNetV3Small")
    np.testing.assert_allclose(base.layers[1](np.array([0.0, 255.0])), [-1, 1], atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((8, 8, 1), (32, 32, 3)), ((20, 31, 3), (40, 62, 3)), ((32, 64, 1), (32, 64, 3)), ((1, 1, 1), (32, 32, 3))],
)
def test_pictures_become_colour_and_large_enough(shape: tuple[int, int, int], expected: tuple[int, int, int]) -> None:
    entry = keras().Input(shape)
    images = pixels(0, 3, shape).astype(np.float32)
    made = np.asarray(loaded().Model(entry, transfer.rgb(entry))(images))
    assert made.shape == (3, *expected)
    np.testing.assert_allclose(made.mean((1, 2, 3)), images.mean((1, 2, 3)), rtol=0.05)
    if shape[2] == 1:
        assert (made[..., :1] == made).all()


def test_imagenet_is_what_keras_records() -> None:
    from my_experiment.models import mobilenet_v3, resnet50

    keras()
    from keras.src.applications import mobilenet_v3 as keras_mobilenet_v3
    from keras.src.applications import resnet

    file = "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"
    recorded = (resnet.BASE_WEIGHTS_PATH + file, resnet.WEIGHTS_HASHES["resnet50"][1])
    assert recorded == resnet50.PRETRAINED
    file = "weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5"
    recorded = (keras_mobilenet_v3.BASE_WEIGHT_PATH + file, keras_mobilenet_v3.WEIGHTS_HASHES["small_224_1.0_float"][1])
    assert recorded == mobilenet_v3.PRETRAINED


def test_weights_are_loaded_from_both_formats_of_keras(tmp_path: Path, file: Path) -> None:
    base = keras().applications.MobileNetV3Small(include_top=False, weights=str(file), input_shape=SHAPE)
    base.save(tmp_path / "old.h5")  # HDF5 as in the files that Keras offers
    for path in (file, tmp_path / "old.h5"):
        loaded = build("mobilenet_v3", SHAPE, str(path)).get_layer("MobileNetV3Small")
        assert all(np.array_equal(a, b) for a, b in zip(loaded.get_weights(), base.get_weights(), strict=True))


def test_a_wrong_file_of_weights_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from my_experiment.models import mobilenet_v3

    monkeypatch.chdir(tmp_path)
    entry, other = keras().Input((3,)), loaded().layers.Dense(2)
    small = loaded().Model(entry, other(entry), name="small")
    small.save_weights("other.weights.h5")
    small.save("other.h5")
    Path("folder.h5").mkdir()
    Path("text.h5").write_text("<html>not found</html>")
    Path("text.weights.h5").write_text("<html>not found</html>")
    Path("empty.h5").touch()
    np.savez("arrays.npz", a=np.zeros(3))
    pytest.importorskip("h5py").File("bare.h5", "w").close()
    base = loaded().applications.MobileNetV3Small(include_top=False, weights=None, input_shape=SHAPE)
    pretrained = mobilenet_v3.PRETRAINED
    files = {path.name for path in tmp_path.iterdir()} - {"folder.h5"}
    for name, said in [(name, "does not hold the weights of MobileNetV3Small") for name in sorted(files)] + [
        ("missing.h5", "is not a file"),
        ("folder.h5", "is not a file"),
        ("ImageNet", "is not a file: set imagenet, null or a path"),
    ]:
        with pytest.raises(errors.UserError, match=said) as error:
            transfer.load(base, name, pretrained)
        assert str(error.value).startswith(f"model.weights: {name} ")
        assert "\n" not in str(error.value)


def test_a_download_is_checked_and_its_failure_says_what_to_do(tmp_path: Path) -> None:
    content = b"weights"
    (tmp_path / "served").mkdir()
    (tmp_path / "served/base.h5").write_bytes(content)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    handler = partial(Quiet, directory=tmp_path / "served")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        right = transfer.Pretrained(f"{url}/base.h5", hashlib.md5(content).hexdigest())
        path = transfer.download(right, str(tmp_path / "cache"))
        assert path.read_bytes() == content
        wrong = transfer.Pretrained(f"{url}/base.h5", "0" * 32)
        absent = transfer.Pretrained(f"{url}/absent.h5", "0" * 32)
        refused = [(wrong, "other"), (absent, "cache")]
        for pretrained, folder in refused:
            with pytest.raises(errors.UserError, match="cannot be downloaded") as error:
                transfer.download(pretrained, str(tmp_path / folder))
            text = str(error.value)
            assert "\n" not in text
            assert f"get {pretrained.url} on a machine with network access" in text
            assert f"set model.weights: data/weights/{pretrained.file}" in text
        server.shutdown()
    assert transfer.download(right, str(tmp_path / "cache")) == path  # without a network: Keras' own copy
    with pytest.raises(errors.UserError, match=r"refused|111"):
        transfer.download(right, str(tmp_path / "new"))
