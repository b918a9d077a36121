"""Decoding: any supported file becomes the same pixels in training and in the service."""

import io
import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from my_experiment.harness.inputs import images
from PIL import Image

SHAPE, LIMIT = (7, 9, 3), 10_000
Draw = Callable[..., Path]


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize("suffix", ["png", "bmp", "webp"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_right_size_is_left_untouched(tmp_path: Path, draw: Draw, suffix: str, channels: int) -> None:
    options = {"lossless": True} if suffix == "webp" else {}
    file = draw(tmp_path / f"x.{suffix}", **options)
    expected = np.asarray(Image.open(file).convert("L" if channels == 1 else "RGB")).reshape(7, 9, channels)
    pixels = images.decode(file.read_bytes(), (7, 9, channels), LIMIT)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("shape", [(7, 9, 1), (7, 9, 3), (1, 1, 1), (20, 30, 3)])
def test_every_mode_gets_shape_and_colors(tmp_path: Path, draw: Draw, mode: str, shape: tuple[int, int, int]) -> None:
    if mode == "I;16":
        file = tmp_path / "x.png"
        Image.fromarray(np.full((7, 9), 0x80FF, np.uint16)).save(file)
    else:
        file = draw(tmp_path / "x.png", mode=mode)
    pixels = images.decode(file.read_bytes(), shape, LIMIT)
    assert pixels.shape == shape and pixels.dtype == (np.float32 if mode == "I;16" else np.uint8)
    if mode == "I;16":
        np.testing.assert_allclose(pixels, 0x80FF / 257, rtol=1e-6)


def save_png(path: Path, samples: np.ndarray[Any, Any], **options: Any) -> bytes:
    """A gray PNG file of the samples: 8 or 16 bits as their type has."""
    Image.fromarray(samples).save(path, **options)
    return path.read_bytes()


@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_gray_keeps_every_level(tmp_path: Path, bits: int, channels: int) -> None:
    samples = np.arange(2**bits, dtype=np.uint16).reshape(-1, 64)
    pixels = images.decode(save_png(tmp_path / "x.png", samples), (*samples.shape, channels), LIMIT * 100)
    assert pixels.shape == (*samples.shape, channels)
    assert len(np.unique(pixels)) == 2**bits
    np.testing.assert_allclose(pixels[..., -1] * 257, samples, rtol=1e-6)
    assert pixels.min() == 0 and pixels.max() <= 255


def test_an_8_bit_picture_in_a_16_bit_file_is_the_8_bit_picture(tmp_path: Path) -> None:
    gray = np.arange(256, dtype=np.uint8).reshape(16, 16)
    shape = (16, 16, 1)
    wide = images.decode(save_png(tmp_path / "wide.png", gray.astype(np.uint16) * 257), shape, LIMIT)
    narrow = images.decode(save_png(tmp_path / "narrow.png", gray), shape, LIMIT)
    assert wide.dtype == narrow.dtype == np.uint8
    np.testing.assert_array_equal(wide, narrow)


def test_16_bit_gray_is_resized_in_its_depth(tmp_path: Path) -> None:
    samples = np.tile(np.array([1000, 1003], np.uint16), (8, 8))
    pixels = images.decode(save_png(tmp_path / "x.png", samples), (4, 8, 1), LIMIT)
    np.testing.assert_allclose(pixels * 257, 1001.5, atol=1)
    clear = images.decode(save_png(tmp_path / "x.png", samples, transparency=1003), (8, 16, 1), LIMIT)
    np.testing.assert_array_equal(clear[:, 1::2], 255)


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    Image.new("RGBA", (9, 7), (255, 0, 0, 0)).save(tmp_path / "x.png")
    assert (images.decode((tmp_path / "x.png").read_bytes(), SHAPE, LIMIT) == 255).all()


def test_a_picture_stands_upright(tmp_path: Path, draw: Draw) -> None:
    upright = Image.open(draw(tmp_path / "x.png"))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held on its side: turn by 90 degrees clockwise to see it upright
    upright.rotate(90, expand=True).save(tmp_path / "turned.png", exif=exif)
    pixels = images.decode((tmp_path / "turned.png").read_bytes(), SHAPE, LIMIT)
    np.testing.assert_array_equal(pixels, np.asarray(upright))


def test_an_animation_gives_its_first_picture(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (9, 7), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    pixels = images.decode((tmp_path / "x.gif").read_bytes(), SHAPE, LIMIT)
    assert (pixels == (255, 0, 0)).all()


@pytest.mark.parametrize("cut", range(0, 100, 9))
@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "gif", "webp"])
def test_a_cut_file_is_refused_in_one_line(tmp_path: Path, draw: Draw, suffix: str, cut: int) -> None:
    data = draw(tmp_path / f"x.{suffix}", size=(40, 40)).read_bytes()
    with pytest.raises(images.ImageError) as error:
        images.decode(data[: len(data) * cut // 100], SHAPE, LIMIT)
    assert str(error.value) and "\n" not in str(error.value)


def test_the_header_alone_decides_what_is_too_large(tmp_path: Path, draw: Draw) -> None:
    data = bytearray(draw(tmp_path / "x.png").read_bytes())
    data[16:24] = struct.pack(">II", 40_000, 40_000)  # a decompression bomb: few bytes that announce 1.6e9 pixels
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    with pytest.raises(images.ImageError, match=r"PNG image of 40000 x 40000 pixels; the limit is 10,000 pixels"):
        images.decode(bytes(data), SHAPE, LIMIT)


@pytest.mark.parametrize("data", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"GIF89a", bytes(1000), b"%PDF-1.7"])
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(images.ImageError):
        images.decode(data, SHAPE, LIMIT)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_an_array_is_read_as_it_was_saved(dtype: type) -> None:
    array = np.arange(2 * 7 * 9 * 3).reshape(2, *SHAPE) % 256
    pixels = images.from_npy(npy(array.astype(dtype)), {"shape": SHAPE}, 2)["image"]
    assert pixels.dtype == np.float32
    np.testing.assert_array_equal(pixels, array)


UNREADABLE = "not an array in the format of numpy.save"
BLACK = np.zeros((2, *SHAPE), np.float32)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", UNREADABLE),
        (b"hello", UNREADABLE),
        (b"\x93NUMPY\x09\x00" + bytes(100), UNREADABLE),
        (b"\x93NUMPY\x01\x00" + b"\xff" * 100, UNREADABLE),
        (npy(np.array(["a pickle", None], object)), "it is object, 2"),
        (npy(BLACK.astype(np.float64)), "it is float64, 2 x 7 x 9 x 3"),
        (npy(BLACK.astype(">f4")), "it is >f4, 2 x 7 x 9 x 3"),
        (npy(np.asfortranarray(BLACK)), "it is float32 in Fortran order, 2 x 7 x 9 x 3"),
        (npy(BLACK[:, 1:]), "it is float32, 2 x 6 x 9 x 3"),
        (npy(BLACK[0]), "it is float32, 7 x 9 x 3"),
        (npy(BLACK[:0]), "it is float32, 0 x 7 x 9 x 3"),
        (npy(np.array(1, np.float32)), "it is float32, a single number"),
        (npy(np.zeros((4, *SHAPE), np.uint8)), "1 to 3 x 7 x 9 x 3; it is uint8, 4 x 7 x 9 x 3"),
        (npy(BLACK)[:-1], "must have 1512 bytes, not 1511"),
        (npy(BLACK) + b"x", "must have 1512 bytes, not 1513"),
        (npy(BLACK + 255.5), "pixel values must be from 0 to 255"),
        (npy(BLACK - 1), "pixel values must be from 0 to 255"),
        (npy(BLACK * np.nan), "pixel values must be from 0 to 255"),
    ],
)
def test_an_array_that_cannot_be_used_is_refused_in_one_line(data: bytes, message: str) -> None:
    with pytest.raises(ValueError) as error:
        images.from_npy(data, {"shape": SHAPE}, 3)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_header_that_announces_terabytes_allocates_nothing() -> None:
    data = npy(np.zeros((3, *SHAPE), np.uint8)).replace(b"(3, 7, 9, 3), }          ", b"(3, 7, 9, 3333333333), } ")
    with pytest.raises(ValueError, match="it is uint8, 3 x 7 x 9 x 3333333333"):
        images.from_npy(data, {"shape": SHAPE}, 3)


def test_broken_metadata_are_not_reported_by_pillow() -> None:
    """Its warning names no file: a lone Python process shows what a user would see."""
    program = (
        "import io\n"
        "from PIL import Image\n"
        "from my_experiment.harness.inputs.images import open_image\n"
        "data = io.BytesIO()\n"
        r"Image.new('RGB', (2, 3)).save(data, 'JPEG', exif=b'Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01')" + "\n"
        "print(open_image(data.getvalue(), 100).size)\n"
    )
    done = subprocess.run([sys.executable, "-W", "default", "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("(2, 3)\n", "")


def jpeg(**options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.arange(4096, dtype=np.uint8).reshape(64, 64)).save(file, "JPEG", **options)
    return file.getvalue()


def test_a_jpeg_of_too_many_scans_or_segments_is_refused_before_its_pixels_are_decoded() -> None:
    progressive = jpeg(progressive=True)
    assert images.decode(progressive, SHAPE, LIMIT).shape == SHAPE
    last = progressive.rfind(b"\xff\xda")
    scans = progressive[:last] + progressive[last:-2] * images.MAX_SCANS + b"\xff\xd9"
    with pytest.raises(images.ImageError, match=r"JPEG image with 1\d\d scans; the limit is 100"):
        images.open_image(scans, LIMIT)
    segments = jpeg()[:2] + b"\xff\xe1\x00\x0aExif\0\0MM" * images.MAX_READS + jpeg()[2:]
    with pytest.raises(images.ImageError, match="it has too many parts"):
        images.open_image(segments, LIMIT)


@pytest.mark.parametrize("height", [images.STRIPE - 1, images.STRIPE, 2 * images.STRIPE + 1])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_stripes_of_a_transparent_picture_are_laid_on_white_as_the_whole(height: int, mode: str) -> None:
    generator = np.random.default_rng(0)
    picture = Image.fromarray(generator.integers(0, 256, (height, 5, 4), np.uint8)).convert(mode)
    if mode == "P":
        picture.info["transparency"] = bytes(range(256))
    file = io.BytesIO()
    picture.save(file, "PNG")
    whole = picture.convert("LA" if mode == "LA" else "RGBA")
    expected = Image.new("L" if mode == "LA" else "RGB", picture.size, "white")
    expected.paste(whole.convert(expected.mode), mask=whole.getchannel("A"))
    np.testing.assert_array_equal(np.asarray(images.open_image(file.getvalue(), LIMIT)), np.asarray(expected))


@pytest.mark.parametrize("shape", ["(True, 7, 9, 3)", "(1, 7, 9, True)", "(1.0, 7, 9, 3)"])
def test_a_shape_that_is_no_number_is_no_shape(shape: str) -> None:
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(189)
    with pytest.raises(ValueError, match="not an array in the format"):
        images.from_npy(data, {"shape": SHAPE}, 256)


@pytest.mark.parametrize(
    ("shape", "instances"),
    [((8, 8, 1), 256), ((28, 28, 1), 256), ((64, 64, 3), 32), ((224, 224, 3), 2), ((999, 999, 3), 1)],
)
def test_json_has_the_size_that_instances_of_the_model_need(shape: tuple[int, int, int], instances: int) -> None:
    limits = images.json_limits({"shape": shape}, 256)
    assert limits.instances == instances
    numbers = np.random.default_rng(0).uniform(100, 255, (instances, *shape)) if np.prod(shape) < 10**5 else None
    if numbers is not None:  # all digits of a float64
        limits.check(json.dumps({"instances": numbers.tolist()}).encode())
    for body in (b" " * (limits.size + 1), b"[" * (limits.marks + 1), b":" * (limits.marks + 1)):
        with pytest.raises(ValueError, match=r"^the body has .* more than .*instance"):
            limits.check(body)
