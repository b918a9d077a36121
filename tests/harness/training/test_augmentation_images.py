"""Random changes of pictures: what they do, that they come again, that they are off where nothing is asked for."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from my_experiment import augmentation
from my_experiment.harness import contracts, prepared
from my_experiment.harness.core import config
from my_experiment.harness.preparation import images as preparation_images
from my_experiment.harness.prepared import images as prepared_images
from support import ROOT

NONE: dict[str, Any] = {
    "flip_horizontal": False,
    "flip_vertical": False,
    "translate": 0.0,
    "rotate": 0.0,
    "zoom": 0.0,
    "brightness": 0.0,
    "contrast": 0.0,
    "fill": "constant",
}
EVERYTHING = {**NONE, "flip_horizontal": True, "translate": 0.2, "rotate": 30.0, "zoom": 0.5, "brightness": 0.3}


def pixels(shape: tuple[int, int, int] = (6, 5, 3), count: int = 40) -> Any:
    """Noise, uint8."""
    return np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8)


def changed(images: Any, options: dict[str, Any], seed: int = 0, epochs: int = 1) -> list[Any]:
    """Epochs of augmented pictures, which still have their labels."""
    from my_experiment.harness.training.devices import make_deterministic
    from my_experiment.harness.training.quiet import tf

    make_deterministic(0)
    dataset = tf.data.Dataset.from_tensor_slices((images, np.arange(len(images)))).batch(16)
    change = augmentation.augment(**options)
    assert change is not None
    dataset = change(dataset, seed)
    assert dataset.cardinality() == math.ceil(len(images) / 16)
    made = []
    for _ in range(epochs):
        batches = list(dataset)
        assert np.concatenate([labels for _, labels in batches]).tolist() == list(range(len(images)))
        made.append(np.concatenate([rows for rows, _ in batches]))
    assert all(rows.dtype == np.uint8 and rows.shape == images.shape for rows in made)
    return made


def test_none_costs_nothing() -> None:
    assert augmentation.augment(**NONE) is None
    assert config.instantiate(yaml.safe_load((ROOT / "conf/augmentation/none.yaml").read_text("utf-8"))) is None


@pytest.mark.keras
@pytest.mark.parametrize("option", sorted({file.stem for file in ROOT.glob("conf/augmentation/*.yaml")} - {"none"}))
@pytest.mark.parametrize("channels", [1, 3])
def test_every_option_keeps_shape_and_type_and_comes_again(option: str, channels: int) -> None:
    section = yaml.safe_load((ROOT / f"conf/augmentation/{option}.yaml").read_text("utf-8"))
    options = {key: value for key, value in section.items() if key != "_target_"}
    images = pixels((9, 7, channels))
    one, two = changed(images, options, epochs=2)
    again = changed(images, options, epochs=2)
    assert np.array_equal(again, [one, two])
    assert not np.array_equal(one, two)  # another epoch
    assert not np.array_equal(one, images)
    assert not np.array_equal(one, changed(images, options, seed=1)[0])
    same = np.repeat(images[:1], 40, 0)
    assert len(np.unique(changed(same, options)[0], axis=0)) == 40  # each picture is changed in its own way


@pytest.mark.keras
@pytest.mark.parametrize(("option", "axis"), [("flip_horizontal", 2), ("flip_vertical", 1)])
def test_half_of_the_pictures_are_mirrored(option: str, axis: int) -> None:
    images = pixels(count=100)
    made, mirrored = changed(images, {**NONE, option: True})[0], np.flip(images, axis)
    flipped = (made == mirrored).all((1, 2, 3))
    assert ((made == images).all((1, 2, 3)) ^ flipped).all()
    assert 30 < flipped.sum() < 70


@pytest.mark.keras
def test_brightness_and_contrast_stay_in_range() -> None:
    images = np.random.default_rng(0).integers(100, 150, (50, 6, 5, 3), np.uint8)
    shifts = changed(images, {**NONE, "brightness": 0.2})[0].astype(int) - images
    assert (shifts == shifts[:, :1, :1, :1]).all()
    assert 40 < shifts.max() <= 51 == int(0.2 * 255)
    assert -51 <= shifts.min() < -40
    made = changed(images, {**NONE, "contrast": 0.5})[0]
    np.testing.assert_allclose(made.mean((1, 2, 3)), images.mean((1, 2, 3)), atol=0.5)
    factors = made.std((1, 2, 3)) / images.std((1, 2, 3))
    assert 0.48 < factors.min() < 0.6
    assert 1.4 < factors.max() < 1.52
    extreme = changed(images, {**NONE, "brightness": 0.99})[0]
    assert extreme.min() == 0
    assert extreme.max() == 255


@pytest.mark.keras
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((1.0, 1.0, 0.0, 0.0, 0.0, 0.0), lambda picture: picture),
        ((1.0, 1.0, 90.0, 0.0, 0.0, 0.0), np.rot90),  # counterclockwise
        ((-1.0, 1.0, 0.0, 0.0, 0.0, 0.0), np.fliplr),
        ((1.0, -1.0, 0.0, 0.0, 0.0, 0.0), np.flipud),
        ((1.0, 1.0, 0.0, 0.4, 0.5, 0.0), lambda picture: np.pad(picture, ((0, 0), (1, 0)))[:, :5]),  # right
        ((1.0, 1.0, 0.0, 0.4, 0.0, 0.5), lambda picture: np.pad(picture, ((1, 0), (0, 0)))[:5]),  # down
    ],
)
def test_the_map_does_what_its_numbers_say(arguments: tuple[float, ...], expected: Any) -> None:
    picture = pixels((5, 5, 1), 1)[0, :, :, 0].astype(np.float32)
    np.testing.assert_allclose(mapped(picture, *arguments), expected(picture), atol=0.01)


@pytest.mark.keras
def test_zoom_leaves_the_centre_where_it_is() -> None:
    picture = pixels((5, 5, 1), 1)[0, :, :, 0].astype(np.float32)
    np.testing.assert_allclose(mapped(picture, 2, 2, 0, 0, 0, 0)[::2, ::2], picture[1:4, 1:4], atol=0.01)
    np.testing.assert_allclose(mapped(picture, 0.5, 0.5, 0, 0, 0, 0)[1:4, 1:4], picture[::2, ::2], atol=0.01)


def mapped(picture: Any, scale_x: float, scale_y: float, degrees: float, translate: float, x: float, y: float) -> Any:
    """A picture [H, W] after an affine map."""
    height, width = picture.shape
    shift_x, shift_y = translate * width * x, translate * height * y
    factor_x, factor_y, angle, right, down = (
        np.array([number], np.float32) for number in (scale_x, scale_y, degrees, shift_x, shift_y)
    )
    map_ = augmentation.affine((height, width), (factor_x, factor_y), angle, (right, down))
    from my_experiment.harness.training.quiet import keras

    transform = keras.ops.image.affine_transform
    return np.asarray(transform(picture[None, :, :, None], map_, "bilinear", "constant"))[0, :, :, 0]


@pytest.mark.keras
def test_training_comes_again_bit_for_bit_and_validation_is_left_alone(workspace: Path) -> None:
    from my_experiment.harness.training import fit
    from my_experiment.harness.training.quiet import keras

    def examples() -> Iterator[Any]:
        for number, picture in enumerate(pixels((8, 8, 1), 120)):
            yield preparation_images.Example(f"{number}.png", number % 2, str(number), picture // (1 + number % 2))

    preparation_images.write(
        preparation_images.Source(["light", "dark"], (8, 8, 1), 120, examples()), contracts.Splits(0, 0.2, 0.2)
    )
    settings: dict[str, Any] = {
        "seed": 0,
        "epochs": 3,
        "batch_size": 16,
        "learning_rate": 0.01,
        "monitor": "val_loss",
        "patience": 5,
    }
    model = yaml.safe_load((ROOT / "conf/model/mlp.yaml").read_text("utf-8"))
    fitted = {}
    for name, options in (("one", EVERYTHING), ("two", EVERYTHING), ("none", NONE)):
        keras.utils.clear_session()  # layers are numbered within a process
        section = {"_target_": f"{augmentation.__name__}.augment", **options}
        inputs = prepared_images.inputs(prepared.manifest(), section)
        fitted[name] = fit.gradient_descent(model, inputs, prepared.manifest(), **settings)
    one, two, none = (fitted[name].weights for name in ("one", "two", "none"))
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert not all(np.array_equal(one[name], none[name]) for name in one)
    targets = prepared.targets("validation")
    answers = fitted["one"].predict(prepared_images.load("validation").astype(np.float32))
    loss = -np.log(np.maximum(answers[np.arange(len(targets)), targets], 1e-7)).mean()
    assert loss == pytest.approx(fitted["one"].history["val_loss"].min(), abs=1e-4)
