"""Labeled pictures in the class folders: new ones alone, under one class."""

import base64
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from my_experiment.data.images import digits, image_folder
from my_experiment.harness.capture.images import png
from my_experiment.harness.core.errors import UserError
from my_experiment.harness.feedback import erase, images, ledger
from my_experiment.harness.feedback.contracts import Labeled
from my_experiment.harness.feedback.person import Person
from my_experiment.harness.inputs.images import decode
from my_experiment.harness.preparation.images import Source

FOLDER = Path("data/raw/images")


def source() -> Source:
    return image_folder(path=str(FOLDER), image_size=(7, 9), channels=3, max_pixels=1000, on_invalid="stop")


@pytest.fixture
def pictures(workspace: Path, draw: Callable[..., Path]) -> Path:
    """A folder with a picture in each of two classes."""
    draw(FOLDER / "cats/1.png", seed=1)
    return draw(FOLDER / "dogs/1.png", seed=2)


def labeled(seed: int, label: str) -> Labeled:
    pixels = np.random.default_rng(seed).integers(0, 256, (7, 9, 3)).astype(np.float32)
    example = base64.b64encode(png(pixels)).decode()
    return Labeled(f"{seed:032x}", 0, float(seed), "a", label, example, {"label": "cats"})


def test_pictures_are_files_in_the_folders_of_their_classes(pictures: Path) -> None:
    examples = [labeled(10, "cats"), labeled(11, "dogs")]
    checked = images.check(examples, source())
    assert checked.usable == examples and not checked.problems
    first, _ = written = images.write(examples, source(), "production-000001")
    assert first == FOLDER / f"cats/production-{10:032x}-0.png"
    pixels = np.random.default_rng(10).integers(0, 256, (7, 9, 3))
    np.testing.assert_array_equal(decode(first.read_bytes(), (7, 9, 3), 1000), pixels)
    ledger.read(FOLDER).add(examples)
    assert ledger.read(FOLDER).keys == {(f"{10:032x}", 0), (f"{11:032x}", 0)}
    assert [item.agrees for item in examples] == [True, False]
    again = source()
    assert again.size == 4 and all(path.exists() for path in written)  # hidden files are no pictures


def test_copies_contradictions_and_strangers_are_left_out(pictures: Path) -> None:
    images.write([labeled(1, "cats")], source(), "")
    offered = [
        labeled(1, "cats"),
        labeled(1, "dogs"),
        labeled(3, "cats"),
        labeled(3, "cats")._replace(place=1),
        labeled(3, "dogs")._replace(place=2),
        labeled(4, "cows"),
    ]
    checked = images.check(offered, source())
    assert checked.usable == [offered[2]]
    assert checked.problems == [
        "2 picture(s) left out: the data have the same picture",
        "2 picture(s) left out: the data have the same picture under another class",
        "1 picture(s) left out: there is no folder of this class",
    ]


@pytest.mark.usefixtures("pictures")
def test_a_picture_of_any_format_is_removed(draw: Callable[..., Path]) -> None:
    """It is not left behind as an empty file, which `prepare` would refuse."""
    eraser = erase.Eraser(Person(frozenset(["cats/2.jpg"])), source(), {})
    place, kept = erase.Place(FOLDER, False), sorted(FOLDER.rglob("*.png"))
    picture = draw(FOLDER / "cats/2.jpg", seed=3)
    assert eraser.count(place) == {picture: 1}
    eraser.erase(place, picture)
    assert [path for path in sorted(FOLDER.rglob("*")) if path.is_file()] == kept


def test_pictures_in_a_library_are_refused() -> None:
    with pytest.raises(UserError, match=r"inside a library, .*: choose `data: image_folder`"):
        images.folder(digits(image_size=(8, 8), channels=1))
