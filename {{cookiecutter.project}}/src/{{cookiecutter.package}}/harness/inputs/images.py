"""Images decoded from files, JSON bodies and NumPy arrays.

The stage `prepare` and the service share this code: another decoder, resizing filter or color conversion would cause a
training-serving skew that no metric shows.
"""

import io
import math
import warnings
from typing import Annotated, Any

import numpy as np
import pydantic
from annotated_types import Len
from numpy.typing import NDArray
from PIL import (
    Image,
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401  Registers WebP; Pillow would otherwise load all 40 plugins to find it.
)

from ..contracts import Description
from ..core.errors import one_line
from .contracts import MAX_JSON_VALUES, JsonLimits

FILE = "A PNG, JPEG, BMP, GIF or WebP file"
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
# Pillow scales the support of this triangle filter to the reduction: it antialiases, and unlike bicubic or Lanczos it
# cannot overshoot the range of the original.
RESAMPLING = Image.Resampling.BILINEAR
REDUCED = "reduced to 8 bits"
WHITE = 65535  # of 16-bit samples
STRIPE = 256  # rows of pixels that are made opaque at once
Pixels = NDArray[np.uint8] | NDArray[np.float32]
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
# `open_image` enforces `max_pixels`, from the header alone. Pillow's limit would ignore the configuration, and its
# warning cannot be silenced for one call in a thread-safe way.
Image.MAX_IMAGE_PIXELS = None
# Its other warnings, of broken metadata, name no file, and the pixels can be used.
warnings.filterwarnings("ignore", module="PIL")


# A file of 32 MiB can have millions of segments, each of which Pillow reads in Python; or thousands of scans, each of
# which decodes all pixels again. PNG's chunks of 1 KiB, and the scans of progressive JPEG (about ten), are far below.
MAX_READS = 100_000
MAX_SCANS = 100
_SCAN = b"\xff\xda"


class ImageError(ValueError):
    """An unusable image; the message is one line for the user."""


class _Parts(io.BytesIO):
    """A file that ends the reading of too many parts."""

    _left = MAX_READS

    def read(self, size: int | None = -1, /) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise ImageError("it has too many parts")
        return super().read(size)


def open_image(data: bytes, max_pixels: int) -> Image.Image:
    """The upright, opaque pixels of an image file.

    EXIF orientation is applied, transparency is blended with white, and of an animation only the first frame is
    decoded. 16-bit gray keeps all its levels, as fractions of the 8-bit ones. With color or transparency, 16-bit
    samples keep their high byte, because Pillow reads no more of them.

    Args:
        data: Content of a PNG, JPEG, BMP, GIF or WebP file.
        max_pixels: Maximum number of pixels, checked in the header before decoding.

    Returns:
        An image of mode "L" or "RGB", or of mode "F" (float32, from 0 to 255) if it has more than 256 levels; its
        `format` is one of `FORMATS`. Its `info` has the key `REDUCED` if 16-bit samples lost their low byte.

    Raises:
        ImageError: If the file is empty, of another format, damaged, truncated or too large.
    """
    if not data:
        raise ImageError("the file is empty")
    # On malformed files, decoders raise nearly any exception (SyntaxError, struct.error, IndexError...).
    try:
        encoded = Image.open(_Parts(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise ImageError("not a readable PNG, JPEG, BMP, GIF or WebP image") from None
    except Exception as error:
        raise ImageError(f"damaged image header: {one_line(error)}") from None
    # A JPEG with several pictures, as many phones write it, opens as MPO, at the first picture.
    name = "JPEG" if encoded.format == "MPO" else encoded.format or ""
    width, height = encoded.size
    if width < 1 or height < 1:
        raise ImageError(f"{name} image of {width} x {height} pixels has no content")
    if width * height > max_pixels:
        raise ImageError(f"{name} image of {width} x {height} pixels; the limit is {max_pixels:,} pixels")
    if name == "JPEG" and (scans := data.count(_SCAN)) > MAX_SCANS:
        raise ImageError(f"JPEG image with {scans} scans; the limit is {MAX_SCANS}")
    reduced = not encoded.mode.startswith("I") and any(";16" in str(tile[3]) for tile in encoded.tile)
    try:
        encoded.load()
        image = _opaque(encoded)
    except Exception as error:
        raise ImageError(f"truncated or damaged {name} image: {one_line(error)}") from None
    turn = _UPRIGHT.get(_orientation(encoded))
    if turn is not None:
        image = image.transpose(turn)
    image.format = name
    image.info = {REDUCED: True} if reduced else {}
    return image


def to_array(image: Image.Image, shape: tuple[int, int, int]) -> Pixels:
    """Pixels in the size and colors of the model, from 0 to 255: uint8 [H, W, C], or float32 for an image of mode "F".

    Color becomes gray by ITU-R 601 luma. An image of another size is resized with the filter `RESAMPLING`, without crop
    or border, so that its aspect ratio may change.

    Args:
        image: An image from `open_image`.
        shape: Height H, width W and number of channels C (1 or 3).
    """
    height, width, channels = shape
    if channels not in (1, 3):
        raise ValueError(f"images have 1 or 3 channels, not {channels}")
    deep = image.mode == "F"
    if not deep:
        image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (width, height):
        image = image.resize((width, height), RESAMPLING)
    if deep:
        return np.repeat(np.asarray(image, np.float32)[..., None], channels, axis=2)
    return np.array(image, dtype=np.uint8).reshape(height, width, channels)


def decode(data: bytes, shape: tuple[int, int, int], max_pixels: int) -> Pixels:
    """Pixels of an image file [H, W, C]: `open_image`, then `to_array`."""
    return to_array(open_image(data, max_pixels), shape)


def _opaque(image: Image.Image) -> Image.Image:
    """An image of any mode as opaque gray or color."""
    if image.mode.startswith("I"):
        # Pillow itself would clip them at 255.
        samples = np.array(image).clip(0, WHITE).astype(np.uint16, copy=False)
        if isinstance(image.info.get("transparency"), int):
            samples[samples == image.info["transparency"]] = WHITE
        # An 8-bit image in a 16-bit file equals the 8-bit file.
        if (samples % (WHITE // 255)).any():
            return Image.fromarray(np.divide(samples, WHITE // 255, dtype=np.float32))
        return Image.fromarray((samples // (WHITE // 255)).astype(np.uint8))
    mode = "L" if image.mode in ("1", "L", "LA") else "RGB"
    if not image.has_transparency_data:
        return image.convert(mode)
    opaque = Image.new(mode, image.size, "white")
    # In stripes: the copies of a whole picture would take twice the memory of both.
    for top in range(0, image.height, STRIPE):
        stripe = image.crop((0, top, image.width, min(top + STRIPE, image.height)))
        stripe = stripe.convert("L" if image.mode == "1" else image.mode).convert("LA" if mode == "L" else "RGBA")
        opaque.paste(stripe.convert(mode), (0, top), stripe.getchannel("A"))
    return opaque


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # The pixels are usable even if the EXIF block is broken.
        return 1


def names(description: Description) -> set[str]:
    """Names of the exported model's inputs."""
    return {"image"}


def json_limits(description: Description, most: int) -> JsonLimits:
    """Limits of a JSON body.

    Args:
        description: Content of models/model.json.
        most: Maximum number of instances.
    """
    height, width, channels = description["shape"]
    lists = 1 + height * (1 + width)
    most = max(1, min(most, MAX_JSON_VALUES // max(lists, height * width * channels)))
    # 26 characters hold a float64 with a comma and a space. Twice the brackets: a few instances too many are told so.
    return JsonLimits(most, 200 + most * (26 * height * width * channels + 4 * lists), 20 + 2 * most * lists)


def request_model(description: Description, most: int) -> type[pydantic.BaseModel]:
    """Pydantic model of a JSON body, which compiled code parses and checks.

    Args:
        description: Content of models/model.json.
        most: Maximum number of instances.
    """
    kind: Any = Annotated[float, pydantic.Field(ge=0, le=255, allow_inf_nan=False)]
    for length in reversed(description["shape"]):
        kind = Annotated[list[kind], Len(length, length), pydantic.FailFast()]
    kind = Annotated[list[kind], Len(1, most), pydantic.FailFast()]
    config = pydantic.ConfigDict(extra="forbid", strict=True)
    return pydantic.create_model("Arrays", __config__=config, instances=(kind, ...))


def from_json(instances: list[Any], description: Description) -> dict[str, NDArray[Any]]:
    """Inputs of the exported model, from the instances of a JSON body."""
    return {"image": np.array(instances, np.float32)}


def from_npy(data: bytes, description: Description, most: int) -> dict[str, NDArray[Any]]:
    """Inputs of the exported model, from a .npy file.

    Safe for untrusted data: nothing is unpickled, and the size in the header allocates no memory.

    Args:
        data: Content of the file: uint8 or float32 [N, H, W, C], values from 0 to 255.
        description: Content of models/model.json.
        most: Maximum number of instances.

    Raises:
        ValueError: If the array cannot be used; the message is one line for the user.
    """
    file = io.BytesIO(data)
    shape, fortran_order, dtype = _npy_header(file)
    expected = tuple(description["shape"])
    if dtype not in (np.uint8, np.float32) or fortran_order or shape[1:] != expected or not 1 <= shape[0] <= most:
        order = " in Fortran order" if fortran_order else ""
        raise ValueError(
            f"the array must be uint8 or float32 in C order, 1 to {most} x {' x '.join(map(str, expected))}; it is "
            f"{dtype}{order}, {' x '.join(map(str, shape)) or 'a single number'}"
        )
    size, remaining = math.prod(shape) * dtype.itemsize, len(data) - file.tell()
    if remaining != size:
        raise ValueError(f"the data after the header must have {size} bytes, not {remaining}")
    pixels: NDArray[Any] = np.frombuffer(data, dtype, offset=file.tell()).reshape(shape)
    if dtype != np.uint8 and not ((pixels >= 0) & (pixels <= 255)).all():
        raise ValueError("pixel values must be from 0 to 255")
    return {"image": pixels.astype(np.float32)}


def _npy_header(file: io.BytesIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, Fortran order and dtype of a .npy file; reads the header only."""
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        header = readers[np.lib.format.read_magic(file)](file)
        if any(type(size) is not int for size in header[0]):  # NumPy takes True for 1
            raise TypeError
    except Exception:  # malformed headers raise undocumented exceptions
        raise ValueError("not an array in the format of numpy.save") from None
    return header


def from_file(data: bytes, description: Description) -> dict[str, NDArray[Any]]:
    """Inputs of the exported model, from an image file.

    Raises:
        ImageError: If the file cannot be used; see `open_image`.
    """
    return {"image": decode(data, tuple(description["shape"]), description["max_pixels"])[None].astype(np.float32)}


def instance(description: Description) -> str:
    """Description of an instance for users."""
    return f"an array of {' x '.join(map(str, description['shape']))} numbers from 0 to 255"


def instance_schema(description: Description) -> dict[str, Any]:
    """The JSON schema of an instance."""
    schema: dict[str, Any] = {"type": "number", "minimum": 0, "maximum": 255}
    for length in reversed(description["shape"]):
        schema = {"type": "array", "minItems": length, "maxItems": length, "items": schema}
    return schema
