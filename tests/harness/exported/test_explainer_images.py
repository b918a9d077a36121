"""Explanations of pictures: cells of a grid against the mean picture."""

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from my_experiment.harness.exported import images, images_grid
from my_experiment.harness.exported.explainer import Explainer
from numpy.typing import NDArray
from PIL import Image

Feeds = Mapping[str, NDArray[Any]]


def reference(pixels: NDArray[np.uint8]) -> dict[str, Any]:
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(file, "PNG")
    return {"baseline": base64.b64encode(file.getvalue()).decode(), "fixed": []}


@pytest.mark.parametrize("shape", [(8, 8, 1), (21, 13, 3), (3, 5, 1)])
def test_each_cell_has_its_share(shape: tuple[int, int, int]) -> None:
    """A linear model: a cell's share is the sum over its pixels."""
    weights = np.random.default_rng(0).normal(size=shape) / 1000

    def run(feeds: Feeds) -> NDArray[np.float64]:
        odds = np.exp((feeds["image"] * weights).sum(axis=(1, 2, 3)))
        return np.stack([1 / (1 + odds), odds / (1 + odds)], axis=1)

    described = {"target": "classification", "classes": ["no", "yes"], "input": "images", "shape": shape}
    mean = np.full(shape, 100, np.uint8)
    ours = Explainer(run, described | {"max_pixels": 10**6}, reference(mean))
    picture = np.random.default_rng(1).integers(0, 256, shape).astype(np.float32)
    _, [found] = ours.explain({"image": picture[None]})
    grid = np.array(found["attributions"])
    assert grid.shape == images_grid.grid(shape) == (min(8, shape[0]), min(8, shape[1]))
    shares = (picture - 100.0) * weights * (1 if found["explained"] == "log-odds of yes" else -1)
    assert grid.sum() == pytest.approx(shares.sum(), abs=1e-4)
    if shape == (8, 8, 1):
        assert grid == pytest.approx(shares[..., 0], abs=1e-5)
    assert len(found["reasons"]) == 5
    assert found["reasons"][0].startswith("row ")


def test_large_pictures_cost_fewer_questions() -> None:
    for shape, rows in (((8, 8, 1), 1024), ((64, 64, 3), 341), ((224, 224, 3), 256)):
        described = {"shape": shape, "max_pixels": 10**6}
        assert images.Parts(described, reference(np.zeros(shape, np.uint8))).rows == rows
