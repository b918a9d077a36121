"""Augmentation: every option keeps shape and type and repeats with its seed."""

from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from ..harness.core import config
from . import ROOT

OPTIONS = sorted({file.stem for file in ROOT.glob("conf/augmentation/*.yaml")} - {"none"})


def augmented(option: str, images: NDArray[np.uint8], seed: int, epochs: int) -> NDArray[np.uint8]:
    """The pictures after augmentation, uint8 [epochs, N, H, W, C]."""
    from ..harness.training import devices
    from ..harness.training.quiet import tf

    devices.make_deterministic(0)
    augment = config.instantiate(yaml.safe_load((ROOT / f"conf/augmentation/{option}.yaml").read_text("utf-8")))
    dataset = augment(tf.data.Dataset.from_tensor_slices((images, np.arange(len(images)))).batch(4), seed)
    results: list[Any] = []
    for _ in range(epochs):
        batches = list(dataset)
        assert np.concatenate([labels for _, labels in batches]).tolist() == list(range(len(images)))
        results.append(np.concatenate([rows for rows, _ in batches]))
    return np.stack(results)


@pytest.mark.keras
@pytest.mark.parametrize("option", OPTIONS)
def test_pictures_keep_shape_and_type_and_repeat_with_the_seed(option: str) -> None:
    images = np.random.default_rng(0).integers(0, 256, (10, 9, 7, 3), np.uint8)
    first = augmented(option, images, seed=0, epochs=2)
    assert first.dtype == np.uint8 and first.shape == (2, *images.shape)
    assert np.array_equal(first, augmented(option, images, seed=0, epochs=2))
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[:1], augmented(option, images, seed=1, epochs=1))


def test_none_is_no_augmentation() -> None:
    assert config.instantiate(yaml.safe_load((ROOT / "conf/augmentation/none.yaml").read_text("utf-8"))) is None
