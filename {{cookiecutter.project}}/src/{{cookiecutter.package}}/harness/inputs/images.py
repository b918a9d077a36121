"""How a model of pictures is asked: decode image files to arrays, and read requests.

The `prepare` stage and the service must turn the same bytes into the same pixels; a second decoder, resizing filter or
colour conversion would be a difference between training and serving that no metric shows.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
import pydantic
from annotated_types import Len
from PIL import (
    Image,
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401  Registers WebP; Pillow would else load all its 40 plugins to find it.
)

FILE = "A PNG, JPEG, BMP, GIF or WebP file"
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
# The triangle filter with support scaled to the reduction: antialiased, and unlike bicubic or Lanczos it
# cannot overshoot, so a resized image holds no brightness that its original lacks.
RESAMPLING = Image.Resampling.BILINEAR
_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# `max_pixels` decides here, from the header alone. Pillow's own limit would warn or refuse whatever the
# configuration says, and silencing a warning for one call only is not safe between threads.
Image.MAX_IMAGE_PIXELS = None


class ImageError(ValueError):
    """The bytes are not an image that can be used; the message is one line for a person."""


def open_image(data: bytes, max_pixels: int) -> Image.Image:
    """Decode an image file to its upright, opaque, 8-bit pixels.

    EXIF orientation is applied, transparency is laid on white, 16-bit samples keep their high byte, an
    animation gives its first frame.

    Args:
        data: The content of a PNG, JPEG, BMP, GIF or WebP file.
        max_pixels: The most pixels accepted; compared with the header before anything is decoded.

    Returns:
        An image of mode "L" or "RGB" whose `format` is one of `FORMATS`.

    Raises:
        ImageError: The file is empty, of another format, damaged, truncated or too large.
    """
    if not data:
        raise ImageError("the file is empty")
    # A decoder given hostile bytes raises nearly any exception (SyntaxError, struct.error, IndexError...):
    # each of them means that the file is bad.
    try:
        encoded = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise ImageError("not a readable PNG, JPEG, BMP, GIF or WebP image") from None
    except Exception as error:
        raise ImageError(f"damaged image header: {_one_line(error)}") from None
    # A JPEG that holds several pictures (many phones write them) opens as MPO at its first one.
    name = "JPEG" if encoded.format == "MPO" else encoded.format or ""
    width, height = encoded.size
    if width < 1 or height < 1:
        raise ImageError(f"{name} image of {width} x {height} pixels has no content")
    if width * height > max_pixels:
        raise ImageError(f"{name} image of {width} x {height} pixels; the limit is {max_pixels:,} pixels")
    try:
        encoded.load()
        image = _opaque(encoded)
    except Exception as error:
        raise ImageError(f"truncated or damaged {name} image: {_one_line(error)}") from None
    turn = _UPRIGHT.get(_orientation(encoded))
    if turn is not None:
        image = image.transpose(turn)
    image.format = name
    return image


def to_array(image: Image.Image, shape: tuple[int, int, int]) -> np.ndarray:
    """Convert to the model's colours and size.

    Colour becomes grey by ITU-R 601 luma. Another size is reached by stretching (no crop, no border) with the
    filter `RESAMPLING`; the right size is left untouched.

    Args:
        image: An image from `open_image`.
        shape: Height, width and number of channels (1 or 3).

    Returns:
        A uint8 array of that shape.
    """
    height, width, channels = shape
    if channels not in (1, 3):
        raise ValueError(f"images have 1 or 3 channels, not {channels}")
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (width, height):
        image = image.resize((width, height), RESAMPLING)
    return np.array(image, dtype=np.uint8).reshape(height, width, channels)


def decode(data: bytes, shape: tuple[int, int, int], max_pixels: int) -> np.ndarray:
    """Decode an image file to a uint8 array of height, width and channels: `open_image`, then `to_array`."""
    return to_array(open_image(data, max_pixels), shape)


def _opaque(image: Image.Image) -> Image.Image:
    """Reduce any mode these formats have to 8-bit grey or colour without transparency."""
    if image.mode.startswith("I"):
        # Pillow clips 16-bit grey at 255, yet keeps the high byte of 16-bit colour: do the same for both.
        samples = np.asarray(image).astype(np.int64)
        grey = (samples >> 8).clip(0, 255).astype(np.uint8)
        if isinstance(image.info.get("transparency"), int):
            grey[samples == image.info["transparency"]] = 255
        return Image.fromarray(grey)
    colour = "L" if image.mode in ("1", "L", "LA") else "RGB"
    if not image.has_transparency_data:
        return image.convert(colour)
    image = image.convert("L" if image.mode == "1" else image.mode).convert("LA" if colour == "L" else "RGBA")
    opaque = Image.new(colour, image.size, "white")
    opaque.paste(image.convert(colour), mask=image.getchannel("A"))
    return opaque


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # A broken EXIF block leaves the pixels usable: the picture is taken as upright.
        return 1


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def request_model(description: Mapping[str, Any], most: int) -> type[pydantic.BaseModel]:
    """Make the model that parses and checks a JSON body, all of it in pydantic's compiled core.

    Args:
        description: models/model.json.
        most: The most instances of one request.
    """
    kind: Any = Annotated[float, pydantic.Field(ge=0, le=255, allow_inf_nan=False)]
    for length in reversed(description["shape"]):
        kind = Annotated[list[kind], Len(length, length), pydantic.FailFast()]
    kind = Annotated[list[kind], Len(1, most), pydantic.FailFast()]
    config = pydantic.ConfigDict(extra="forbid", strict=True)
    return pydantic.create_model("Arrays", __config__=config, instances=(kind, ...))


def from_json(instances: list[Any], description: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Convert parsed instances to what the exported model takes."""
    return {"image": np.array(instances, np.float32)}


def from_npy(data: bytes, description: Mapping[str, Any], most: int) -> dict[str, np.ndarray]:
    """Read an array as numpy.save writes it as what the exported model takes.

    Nothing is unpickled, and nothing allocated that the header announces: the pixels are a view of `data`.

    Args:
        data: Of uint8 or float32 [N, height, width, channels], values from 0 to 255.
        description: models/model.json.
        most: The most instances of one request.

    Raises:
        ValueError: It cannot be used; the message is one line for a person.
    """
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, fortran_order, dtype = readers[version](file)
    except Exception:  # Hostile bytes raise more than is documented.
        raise ValueError("not an array as numpy.save writes it") from None
    wanted = tuple(description["shape"])
    if dtype not in (np.uint8, np.float32) or fortran_order or shape[1:] != wanted or not 1 <= shape[0] <= most:
        raise ValueError(
            f"the array must be uint8 or float32 in C order, 1 to {most} x {' x '.join(map(str, wanted))}; it is "
            f"{dtype}{' in Fortran order' * fortran_order}, {' x '.join(map(str, shape)) or 'a single number'}"
        )
    if len(data) - file.tell() != math.prod(shape) * dtype.itemsize:
        raise ValueError(
            f"after the header {math.prod(shape) * dtype.itemsize} bytes must follow, not {len(data) - file.tell()}"
        )
    pixels = np.frombuffer(data, dtype, offset=file.tell()).reshape(shape)
    if dtype != np.uint8 and not ((pixels >= 0) & (pixels <= 255)).all():
        raise ValueError("pixel values must be from 0 to 255")
    return {"image": pixels.astype(np.float32)}


def from_file(data: bytes, description: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Decode an image file to what the exported model takes.

    Raises:
        ImageError: The file cannot be used; see `open_image`.
    """
    return {"image": decode(data, tuple(description["shape"]), description["max_pixels"])[None].astype(np.float32)}


def instance(description: Mapping[str, Any]) -> str:
    """Say what an instance is."""
    return f"an array of {' x '.join(map(str, description['shape']))} numbers from 0 to 255"


def instance_schema(description: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON schema of an instance."""
    schema: dict[str, Any] = {"type": "number", "minimum": 0, "maximum": 255}
    for length in reversed(description["shape"]):
        schema = {"type": "array", "minItems": length, "maxItems": length, "items": schema}
    return schema
