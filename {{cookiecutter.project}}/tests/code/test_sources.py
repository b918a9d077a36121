"""Data sources: what is a usable picture goes on, what is not is told with its path and the reason."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests import module

cli, prepared, sources = module("cli"), module("data.prepared"), module("data.sources")

Draw = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path, draw: Draw) -> Path:
    """A folder of two classes with one good picture each."""
    draw(tmp_path / "pictures/cat/1.png", seed=1)
    draw(tmp_path / "pictures/dog/1.png", seed=2)
    return tmp_path / "pictures"


def read(folder: Path, **changes: Any) -> Any:
    """Opens the folder as a source."""
    settings = {"path": str(folder), "image_size": (7, 9), "channels": 3, "max_pixels": 10_000, **changes}
    return sources.image_folder(**settings)


def problems(folder: Path, **changes: Any) -> dict[str, str]:
    """Path below the folder -> reason, of everything that cannot be used."""
    items = read(folder, **changes).items
    found = [item for item in items if isinstance(item, sources.Problem)]
    return {Path(problem.path).relative_to(folder).as_posix(): problem.reason for problem in found}


@pytest.mark.parametrize("suffix", ["png", "PNG", "jpg", "jpeg", "bmp", "gif", "webp"])
@pytest.mark.parametrize(("mode", "size"), [("L", (9, 7)), ("RGB", (30, 20)), ("RGB", (1, 1))])
@pytest.mark.parametrize("channels", [1, 3])
def test_formats_colours_and_sizes(
    folder: Path, draw: Draw, suffix: str, mode: str, size: tuple[int, int], channels: int
) -> None:
    draw(folder / f"cat/x.{suffix}", seed=3, size=size, mode=mode)
    source = read(folder, channels=channels)
    items = list(source.items)
    assert source.classes == ["cat", "dog"]
    assert source.shape == (7, 9, channels)
    assert source.size == len(items) == 3
    assert [(item.name, item.label) for item in items] == [("cat/1.png", 0), (f"cat/x.{suffix}", 0), ("dog/1.png", 1)]
    for item in items:
        assert (item.image.shape, item.image.dtype) == ((7, 9, channels), np.uint8)
    assert len({item.digest for item in items}) == 3


def test_pictures_are_read_as_they_are(folder: Path) -> None:
    first = next(read(folder).items)
    np.testing.assert_array_equal(first.image, np.asarray(Image.open(folder / "cat/1.png")))


def test_sub_folders_of_a_class_belong_to_it(folder: Path, draw: Draw) -> None:
    draw(folder / "dog/small/old/x.png", seed=3)
    assert [(item.name, item.label) for item in read(folder).items][-1] == ("dog/small/old/x.png", 1)


def test_the_same_pixels_have_the_same_digest_in_any_lossless_format(folder: Path, draw: Draw) -> None:
    for suffix, options in {"png": {}, "bmp": {}, "gif": {}, "webp": {"lossless": True}}.items():
        draw(folder / f"dog/same.{suffix}", seed=5, mode="L", **options)
    same = [item.digest for item in read(folder).items if "same" in item.name]
    assert len(same) == 4
    assert len(set(same)) == 1


def damage(file: Path, content: bytes) -> None:
    """Writes a file whatever its content is worth."""
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)


def test_unusable_files_are_told_with_their_reason(folder: Path, draw: Draw) -> None:
    good = (folder / "cat/1.png").read_bytes()
    damage(folder / "cat/empty.png", b"")
    damage(folder / "cat/text.png", b"no picture at all")
    damage(folder / "cat/cut.png", good[: len(good) // 2])
    damage(folder / "cat/photo.jpg", good)
    damage(folder / "cat/notes.txt", b"brown fur")
    damage(folder / "cat/1.tiff", good)
    damage(folder / "cat/none", good)
    damage(folder / "stray.png", good)
    draw(folder / "cat/huge.png", size=(200, 51))
    (folder / "cat/gone.png").symlink_to(folder / "nowhere.png")
    (folder / "cat/folder.png").mkdir()
    found = problems(folder)
    named = {
        "cat/empty.png": "the file is empty",
        "cat/text.png": "not a readable PNG",
        "cat/cut.png": "truncated or damaged PNG",
        "cat/photo.jpg": "is named .jpg but holds PNG: rename it",
        "cat/notes.txt": "its name does not end in .png, .jpg",
        "cat/1.tiff": "its name does not end in",
        "cat/none": "its name does not end in",
        "stray.png": "lies in no class folder",
        "cat/huge.png": "PNG image of 200 x 51 pixels; the limit is 10,000 pixels",
        "cat/gone.png": "No such file or directory",
    }
    assert set(found) == set(named)
    for name, reason in named.items():
        assert found[name].startswith(reason)
    assert read(folder).size == len(named) + 2
    assert not problems(folder, max_pixels=10_200).keys() & {"cat/huge.png"}


def test_hidden_files_are_ignored(folder: Path) -> None:
    for name in (".DS_Store", ".gitignore", "cat/.1.png", ".cache/1.png", "cat/.thumbnails/1.png"):
        damage(folder / name, b"")
    source = read(folder)
    assert source.classes == ["cat", "dog"]
    assert source.size == 2
    assert problems(folder) == {}


def test_a_link_to_a_picture_is_a_picture(folder: Path, draw: Draw) -> None:
    (folder / "dog/2.png").symlink_to(draw(folder.parent / "elsewhere.png", seed=9))
    assert problems(folder) == {}
    assert [item.name for item in read(folder).items][-1] == "dog/2.png"


def test_classes_and_names_may_be_in_any_script(folder: Path, draw: Draw) -> None:
    draw(folder / 'Lövå ✨/bär 1, "x".png', seed=3)
    assert read(folder).classes == ["Lövå ✨", "cat", "dog"]
    assert problems(folder) == {}


def test_a_missing_folder_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(cli.UserError, match=r"data\.path: there is no folder .*dvc add"):
        read(tmp_path / "nowhere")


def test_one_class_is_too_few(tmp_path: Path, draw: Draw) -> None:
    draw(tmp_path / "pictures/cat/1.png")
    with pytest.raises(cli.UserError, match=r"1 class folder\(s\), at least 2 are needed"):
        read(tmp_path / "pictures")


def test_the_digits_are_all_there() -> None:
    source = sources.digits(image_size=(8, 8), channels=1)
    items = list(source.items)
    assert len(items) == source.size == 1797
    assert source.classes == [str(digit) for digit in range(10)]
    pixels = np.stack([item.image for item in items])
    assert (pixels.shape, pixels.min(), pixels.max()) == ((1797, 8, 8, 1), 0, 255)
