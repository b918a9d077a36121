"""Pictures in the log: a PNG file that decodes to the pixels that the model has seen."""

import base64
import io
import json
from typing import Any

import numpy as np
import pytest
from my_experiment.harness.capture import images
from my_experiment.harness.capture.answered import Answered, new_id
from my_experiment.harness.capture.contracts import Privacy
from my_experiment.harness.capture.images import png
from my_experiment.harness.capture.lines import Lines
from my_experiment.harness.inputs.images import decode
from PIL import Image

DESCRIPTION: dict[str, Any] = {
    "input": "images",
    "target": "classification",
    "sha256": "0123456789abcdef",
    "classes": ["no", "yes"],
    "shape": [5, 7, 1],
    "max_pixels": 1000,
}


def pixels(channels: int, dtype: Any = np.uint8) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 256, (5, 7, channels)).astype(dtype)


@pytest.mark.parametrize("channels", [1, 3])
def test_levels_come_back(channels: int) -> None:
    seen = pixels(channels, np.float32)
    np.testing.assert_array_equal(decode(png(seen), (5, 7, channels), 1000), seen)


@pytest.mark.parametrize("channels", [1, 3])
def test_deep_gray_comes_back(channels: int) -> None:
    deep = np.random.default_rng(0).integers(0, 65536, (5, 7), np.uint16)
    file = io.BytesIO()
    Image.fromarray(deep).save(file, "PNG")
    seen = decode(file.getvalue(), (5, 7, channels), 1000)
    assert seen.dtype == np.float32
    np.testing.assert_array_equal(decode(png(seen), (5, 7, channels), 1000), seen)


def test_fractions_of_colors_are_rounded() -> None:
    seen = pixels(3, np.float32) * 0.999
    assert np.abs(decode(png(seen), (5, 7, 3), 1000) - seen).max() <= 0.5


def test_pictures_are_kept_without_their_file(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = np.stack([pixels(1, np.float32)] * 3)
    output = np.tile(np.array([[0.25, 0.75]], np.float32), (3, 1))
    item = Answered(1.0, new_id(), "multipart/form-data", b"uploaded", {"image": seen}, output, b'{"all": 3}')
    line, rows = Lines(DESCRIPTION, Privacy()).line(item)
    content = json.loads(line)
    assert rows == 3 and b"uploaded" not in line and content["answer"] == {"all": 3}
    for picture in content["request"]["pictures"]:
        np.testing.assert_array_equal(decode(base64.b64decode(picture), (5, 7, 1), 1000), seen[0])
    monkeypatch.setattr(images, "MOST_BYTES", 2 * len(content["request"]["pictures"][0]) + 4)
    line, rows = Lines(DESCRIPTION, Privacy()).line(item)
    content = json.loads(line)
    assert rows == len(content["request"]["pictures"]) == len(content["answer"]["predictions"]) == 2
