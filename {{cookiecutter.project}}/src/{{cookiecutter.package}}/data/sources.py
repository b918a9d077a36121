"""Data sources: each is one function, chosen by `_target_` in conf/data/, that yields examples one at a time.

Keyword-only parameters are the configuration. A source yields a `Problem` instead of an example it cannot use;
the `prepare` stage decides what becomes of it.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from PIL import Image
from pydantic import Field

from .. import images
from ..cli import UserError
from .prepared import Example

Size = tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]  # height, width in pixels
SUFFIXES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP", ".gif": "GIF", ".webp": "WEBP"}


class Problem(NamedTuple):
    """A file that is no usable example: its path and what is wrong with it."""

    path: str
    reason: str


class Source(NamedTuple):
    """What a data source gives.

    Attributes:
        classes: Names of the classes; labels index into it.
        shape: (H, W, C) of every image.
        size: Number of items that `items` yields.
        items: Examples and problems, in a reproducible order.
        path: Where the data lie, None for data that ship inside a package.
        max_pixels: The largest picture accepted, here and by the service.
    """

    classes: list[str]
    shape: tuple[int, int, int]
    size: int
    items: Iterator[Example | Problem]
    path: Path | None = None
    max_pixels: int = 100_000_000


def digits(*, image_size: Size, channels: Literal[1, 3]) -> Source:
    """The 1,797 real 8x8 images of handwritten digits that scikit-learn ships.

    Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998.

    Args:
        image_size: Height and width to resize to, in pixels.
        channels: 1 for grey, 3 for colour.
    """
    from sklearn.datasets import load_digits  # 3 s of imports that no other source needs

    bunch = load_digits()
    shape = (*image_size, channels)

    def items() -> Iterator[Example | Problem]:
        for row, (pixels, label) in enumerate(zip(bunch.images, bunch.target, strict=True)):
            image = Image.fromarray(np.rint(pixels * (255 / 16)).astype(np.uint8))  # 0..16 in the original
            yield Example(f"digits[{row}]", int(label), digest(image), images.to_array(image, shape))

    return Source([str(name) for name in bunch.target_names], shape, len(bunch.target), items())


def image_folder(
    *, path: str, image_size: Size, channels: Literal[1, 3], max_pixels: Annotated[int, Field(ge=1)]
) -> Source:
    """A folder with one sub-folder a class, holding PNG, JPEG, BMP, GIF and WebP files of any size.

    Hidden files are ignored. Every other file that cannot be used is yielded as a `Problem`.

    Args:
        path: The folder, relative to the project's root.
        image_size: Height and width to resize to, in pixels.
        channels: 1 for grey, 3 for colour.
        max_pixels: Files whose header announces more pixels than this are not decoded.

    Raises:
        UserError: Where the folder is missing or has fewer than two classes.
    """
    root = Path(path)
    if not root.is_dir():
        raise UserError(
            f"data.path: there is no folder {path!r}; put one sub-folder a class there, then `dvc add {path}`"
        )
    classes = sorted(folder.name for folder in root.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    if len(classes) < 2:
        raise UserError(
            f"data.path: {path!r} has {len(classes)} class folder(s), at least 2 are needed: {path}/<class>/<image>.png"
        )
    shape = (*image_size, channels)
    files = sorted(
        file
        for file in root.rglob("*")
        if not any(part.startswith(".") for part in file.relative_to(root).parts) and not file.is_dir()
    )

    def items() -> Iterator[Example | Problem]:
        for file in files:
            try:
                # "/" on every system, so that the bytes written do not depend on it.
                yield _read(file, file.relative_to(root), classes, shape, max_pixels)
            except (images.ImageError, OSError) as error:
                yield Problem(str(file), getattr(error, "strerror", None) or str(error))

    return Source(classes, shape, len(files), items(), root, max_pixels)


def _read(file: Path, name: Path, classes: list[str], shape: tuple[int, int, int], max_pixels: int) -> Example:
    if len(name.parts) < 2:
        raise images.ImageError("lies in no class folder: move it into one")
    expected = SUFFIXES.get(file.suffix.lower())
    if expected is None:
        raise images.ImageError(f"its name does not end in {', '.join(SUFFIXES)}: rename or remove it")
    image = images.open_image(file.read_bytes(), max_pixels)
    if image.format != expected:
        raise images.ImageError(f"is named {file.suffix} but holds {image.format}: rename it")
    label = classes.index(name.parts[0])
    return Example(name.as_posix(), label, digest(image), images.to_array(image, shape))


def digest(image: Image.Image) -> str:
    """Returns the hash of an image's pixels, the same whichever lossless format the file had.

    Grey pictures count as colour, since an animation or palette file can hold the same picture only as colour.
    """
    return hashlib.sha256(f"{image.size}".encode() + image.convert("RGB").tobytes()).hexdigest()
