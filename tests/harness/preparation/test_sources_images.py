"""Sources of pictures, and their prepared form: files that cannot be used are reported with path and reason."""

import itertools
import json
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from my_experiment.data.images import digits, image_folder
from my_experiment.harness import prepared
from my_experiment.harness.contracts import Splits
from my_experiment.harness.core import config
from my_experiment.harness.core.errors import UserError
from my_experiment.harness.preparation.images import Example, Problem, Source, write
from my_experiment.harness.prepared import images as prepared_images
from PIL import Image
from support import ROOT, picture_names

Draw = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path, draw: Draw) -> Path:
    """A folder of two classes with one good picture each."""
    draw(tmp_path / "pictures/cat/1.png", seed=1)
    draw(tmp_path / "pictures/dog/1.png", seed=2)
    return tmp_path / "pictures"


def read(folder: Path, **changes: Any) -> Any:
    """Opens the folder as a source."""
    settings = {
        "path": str(folder),
        "image_size": (7, 9),
        "channels": 3,
        "max_pixels": 10_000,
        "on_invalid": "stop",
        **changes,
    }
    return image_folder(**settings)


def problems(folder: Path, **changes: Any) -> dict[str, str]:
    """Path below the folder -> reason, of everything that cannot be used."""
    items = read(folder, **changes).items
    return {Path(item.path).relative_to(folder).as_posix(): item.reason for item in items if isinstance(item, Problem)}


@pytest.mark.parametrize("suffix", ["png", "PNG", "jpg", "jpeg", "bmp", "gif", "webp"])
@pytest.mark.parametrize(("mode", "size"), [("L", (9, 7)), ("RGB", (30, 20)), ("RGB", (1, 1))])
@pytest.mark.parametrize("channels", [1, 3])
def test_formats_colors_and_sizes(
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
    """Writes a file with any content."""
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)


def test_files_that_cannot_be_used_are_reported_with_the_reason(folder: Path, draw: Draw) -> None:
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
    reasons = problems(folder)
    expected = {
        "cat/empty.png": "the file is empty",
        "cat/text.png": "not a readable PNG",
        "cat/cut.png": "truncated or damaged PNG",
        "cat/photo.jpg": "is named .jpg but holds PNG: rename it",
        "cat/notes.txt": "its name does not end in .png, .jpg",
        "cat/1.tiff": "its name does not end in",
        "cat/none": "its name does not end in",
        "stray.png": "is in no class folder",
        "cat/huge.png": "PNG image of 200 x 51 pixels; the limit is 10,000 pixels",
        "cat/gone.png": "No such file or directory",
    }
    assert set(reasons) == set(expected)
    for name, reason in expected.items():
        assert reasons[name].startswith(reason)
    assert read(folder).size == len(expected) + 2
    assert not problems(folder, max_pixels=10_200).keys() & {"cat/huge.png"}


def test_a_link_to_itself_is_a_problem(folder: Path) -> None:
    (folder / "cat/loop.png").symlink_to(folder / "cat/loop.png")
    assert problems(folder) == {"cat/loop.png": "Too many levels of symbolic links"}


@pytest.mark.parametrize("target", ["", "cat", "cat/below"])
def test_a_link_that_leads_in_a_circle_is_one_line(folder: Path, target: str) -> None:
    (folder / "cat/below").mkdir()
    (folder / "cat/below/up").symlink_to(folder / target)
    with pytest.raises(UserError, match="cat/below/up: the link leads back to a folder that contains it") as error:
        read(folder)
    assert "\n" not in str(error.value)


def test_pictures_behind_links_are_read_as_if_they_lay_there(
    folder: Path, draw: Draw, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = read(folder).size
    assert capsys.readouterr().err == ""
    draw(tmp_path / "elsewhere/deep/1.png", seed=7)
    (folder / "owl").symlink_to(tmp_path / "elsewhere")  # a class
    (folder / "cat/more").symlink_to(tmp_path / "elsewhere/deep")
    (folder / "dog/one.png").symlink_to(tmp_path / "elsewhere/deep/1.png")
    source = read(folder)
    assert source.classes == ["cat", "dog", "owl"]
    names = {item.name for item in source.items if isinstance(item, Example)}
    assert {"owl/deep/1.png", "cat/more/1.png", "dog/one.png"} <= names and len(names) == source.size == before + 3
    warned = capsys.readouterr().err.splitlines()
    assert len(warned) == 1 and "cat/more is a link to a folder" in warned[0] and "DVC does not follow it" in warned[0]


def test_a_name_that_is_not_text_is_shown_escaped(folder: Path, draw: Draw) -> None:
    for name in (b"jos\xe9", b"jos\xe9/1.png", b"jos\xe9/n\xff.png"):
        path = folder / os.fsdecode(name)
        if path.suffix:
            draw(path, seed=len(name))
    damage(folder / os.fsdecode(b"cat/\xff.png"), b"x")
    source = read(folder)
    assert source.classes == ["cat", "dog", "jos\\xe9"]
    items = list(source.items)
    assert {r"jos\xe9/1.png", r"jos\xe9/n\xff.png"} < {item.name for item in items if isinstance(item, Example)}
    (problem,) = (item for item in items if isinstance(item, Problem))
    assert problem.path.endswith(r"cat/\xff.png")
    json.dumps([source.classes, items[0][:2]]).encode()


def test_16_bits_that_are_not_all_read_are_told_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("1", "2"):
        (folder / f"cat/color{name}.png").write_bytes(color_png(int(name)))
    images = {item.name: item.image for item in read(folder).items}
    assert (images["cat/color2.png"] == 2).all() and images["cat/color2.png"].dtype == np.uint8
    assert capsys.readouterr().err.splitlines() == [
        "prepare: warning: of 16-bit pictures with color or transparency, the upper 8 bits are read; 16-bit gray is "
        "read in full"
    ]


def color_png(high: int) -> bytes:
    """A PNG file of 1 x 1 pixel with 16 bits for each color, which Pillow cannot write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    pixels = zlib.compress(bytes([0, *[high, 99] * 3]))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def test_a_pipe_is_a_problem(folder: Path) -> None:
    os.mkfifo(folder / "cat/pipe.png")
    assert problems(folder) == {"cat/pipe.png": "is not a regular file"}


def test_pictures_as_cameras_and_printers_write_them(folder: Path, draw: Draw) -> None:
    draw(folder / "cat/cmyk.jpg", seed=3, mode="CMYK")
    draw(folder / "cat/palette.png", seed=4, mode="P")
    draw(folder / "cat/transparent.png", seed=5, mode="RGBA")
    Image.fromarray(np.arange(63, dtype=np.uint16).reshape(7, 9) * 1000).save(folder / "dog/deep.png")
    frames = [Image.new("RGB", (9, 7), color) for color in ("red", "blue")]
    frames[0].save(folder / "dog/moving.gif", save_all=True, append_images=frames[1:])
    assert problems(folder) == {}
    images = {item.name: item.image for item in read(folder).items}
    assert len(images) == 7
    assert {image.shape for image in images.values()} == {(7, 9, 3)}
    assert (images["dog/moving.gif"] == (255, 0, 0)).all()  # its first picture
    np.testing.assert_array_equal(np.unique(images["dog/deep.png"]), (np.arange(63) * 1000 / 257).astype(np.float32))


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
    with pytest.raises(UserError, match=r"data\.path: there is no folder .*dvc add"):
        read(tmp_path / "nowhere")


def test_one_class_is_too_few(tmp_path: Path, draw: Draw) -> None:
    draw(tmp_path / "pictures/cat/1.png")
    with pytest.raises(UserError, match=r"1 class folder\(s\), at least 2 are needed"):
        read(tmp_path / "pictures")


def test_the_digits_are_all_there() -> None:
    source = digits(image_size=(8, 8), channels=1)
    items = list(source.items)
    assert len(items) == source.size == 1797
    assert source.classes == [str(digit) for digit in range(10)]
    pixels = np.stack([item.image for item in items if isinstance(item, Example)])
    assert len(pixels) == len(items)
    assert pixels.shape == (1797, 8, 8, 1)
    assert np.array_equal([pixels.min(), pixels.max()], [0, 255])


CLASSES, SHAPE = ["cat", "dog"], (2, 3, 1)


def examples(numbers: range) -> Iterator[Any]:
    """An example for each number; the same number gives the same example."""
    for number in numbers:
        image = np.full(SHAPE, number % 256, np.uint8)
        yield Example(f"{number}.png", number % 2, f"digest of {number}", image)


def prepare(folder: Path, items: Iterator[Any]) -> None:
    """Writes examples, a third each for validation and test."""
    write(Source(CLASSES, SHAPE, 0, items, max_pixels=99), Splits(0, 1 / 3, 1 / 3), folder)


def test_other_examples_move_none(tmp_path: Path) -> None:
    prepare(tmp_path / "few", examples(range(0, 300, 3)))
    prepare(tmp_path / "many", examples(range(300)))
    for split in prepared.SPLITS:
        few, many = (picture_names(split, tmp_path / folder) for folder in ("few", "many"))
        assert few
        assert few == [name for name in many if int(name.removesuffix(".png")) % 3 == 0]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    prepare(tmp_path / "prepared", examples(range(100)))
    manifest = prepared.manifest(tmp_path / "prepared")
    assert (manifest["classes"], manifest["shape"], manifest["max_pixels"]) == (CLASSES, list(SHAPE), 99)
    total = 0
    for split in prepared.SPLITS:
        images, labels = (
            prepared_images.load(split, tmp_path / "prepared"),
            prepared.targets(split, tmp_path / "prepared"),
        )
        numbers = [int(name.removesuffix(".png")) for name in picture_names(split, tmp_path / "prepared")]
        assert isinstance(images, np.memmap)
        assert not images.flags.writeable
        assert images.dtype == np.uint8 and labels.dtype == np.int64
        assert images.shape == (len(numbers), *SHAPE)
        assert images[:, 0, 0, 0].tolist() == numbers
        assert labels.tolist() == [number % 2 for number in numbers]
        assert manifest["counts"][split] == np.bincount(labels, minlength=2).tolist()
        total += len(numbers)
    assert total == 100


def test_the_same_examples_give_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        prepare(tmp_path / folder, examples(range(50)))
    one, two = (
        {file.relative_to(tmp_path / folder): file.read_bytes() for file in (tmp_path / folder).rglob("*.*")}
        for folder in ("one", "two")
    )
    assert len(one) == 10
    assert one == two


def test_another_label_changes_the_digest(tmp_path: Path) -> None:
    prepare(tmp_path / "one", examples(range(50)))
    prepare(tmp_path / "two", (example._replace(label=1 - example.label) for example in examples(range(50))))
    one, two = (prepared.manifest(tmp_path / folder)["digests"] for folder in ("one", "two"))
    assert not set(one.values()) & set(two.values())


def test_names_survive_any_character(tmp_path: Path) -> None:
    names = ['cat/a,b "c".png', "Lövå ✨/ü.png", "dog/line\nbreak.png"]
    odd = (example._replace(name=name) for example, name in zip(examples(range(300, 303)), names, strict=True))
    prepare(tmp_path / "prepared", itertools.chain(examples(range(50)), odd))
    assert {name for split in prepared.SPLITS for name in picture_names(split, tmp_path / "prepared")} >= set(names)


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("image_size", [64], "data.image_size.1: missing, add it"),
        ("image_size", [0, 8], "data.image_size.0: input should be greater than or equal to 1, got 0"),
        ("channels", 2, "data.channels: input should be 1 or 3, got 2"),
        ("channel", 1, "data.channel: unknown key; did you mean 'channels'?"),
        ("path", "???", "data.path: no value is set (???); set it in conf/ or with -S data.path=..."),
        ("on_invalid", "impute", "data.on_invalid: input should be 'stop' or 'drop', got 'impute'"),
    ],
)
def test_a_mistake_in_the_configuration_is_one_line(key: str, value: Any, line: str) -> None:
    section = yaml.safe_load((ROOT / "conf/data/image_folder.yaml").read_text(encoding="utf-8"))
    with pytest.raises(UserError) as error:
        config.check({"data": {**section, key: value}}, {}, {"data"})
    assert str(error.value).splitlines()[1:] == [f"  {line}"]
