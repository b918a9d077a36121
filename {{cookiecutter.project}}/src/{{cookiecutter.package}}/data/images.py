"""Image sources: one function each, chosen by `_target_` in conf/data/."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from PIL import Image
from pydantic import Field

from ..harness.core.errors import UserError
from ..harness.inputs.images import ImageError, to_array
from ..harness.preparation.images import (
    Division,
    Example,
    OnInvalid,
    Problem,
    Size,
    Source,
    pixel_digest,
    read_example,
)


def digits(*, image_size: Size, channels: Literal[1, 3]) -> Source:
    """scikit-learn's 1,797 images of handwritten digits, 8x8 pixels.

    Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998.

    Args:
        image_size: Height and width to resize to, in pixels.
        channels: 1 for gray, 3 for color.
    """
    from sklearn.datasets import load_digits  # takes 3 s, which only this source needs

    bunch = load_digits()
    shape = (*image_size, channels)

    def items() -> Iterator[Example | Problem]:
        for row, (pixels, label) in enumerate(zip(bunch.images, bunch.target, strict=True)):
            image = Image.fromarray(np.rint(pixels * (255 / 16)).astype(np.uint8))  # 0..16 in the original
            yield Example(f"digits[{row}]", int(label), pixel_digest(image), to_array(image, shape))

    return Source([str(name) for name in bunch.target_names], shape, len(bunch.target), items())


def image_folder(
    *,
    path: str,
    image_size: Size,
    channels: Literal[1, 3],
    max_pixels: Annotated[int, Field(ge=1)],
    on_invalid: OnInvalid,
    split: Division = "random",
) -> Source:
    """A folder of image files with a subfolder for each class.

    The files are PNG, JPEG, BMP, GIF or WebP, of any size. Hidden files are ignored; every other file that cannot be
    used becomes a `Problem`.

    Args:
        path: The folder, relative to the project's root.
        image_size: Height and width to resize to, in pixels.
        channels: 1 for gray, 3 for color.
        max_pixels: Maximum number of pixels of a file, checked in its header before it is decoded.
        on_invalid: Policy for unusable files: `stop` ends the run after listing all of them, `drop` skips them.
        split: `random` splits by a hash of the picture; `stratified` as well, but no split lacks a class.

    Raises:
        UserError: If the folder is missing or has fewer than two classes.
    """
    root = Path(path)
    if not root.is_dir():
        raise UserError(
            f"data.path: there is no folder {path!r}; make it, with a subfolder for each class, then `dvc add {path}`"
        )
    classes = sorted(folder.name for folder in root.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    if len(classes) < 2:
        raise UserError(
            f"data.path: {path!r} has {len(classes)} class folder(s), at least 2 are needed: {path}/<class>/<image>.png"
        )
    shape = (*image_size, channels)
    files = sorted(file for file in root.rglob("*") if not file.is_dir() and not _hidden(file.relative_to(root)))

    def items() -> Iterator[Example | Problem]:
        for file in files:
            try:
                yield read_example(file, file.relative_to(root), classes, shape, max_pixels)
            except (ImageError, OSError) as error:
                yield Problem(str(file), getattr(error, "strerror", None) or str(error))

    return Source(classes, shape, len(files), items(), root, max_pixels, on_invalid, split=split)


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
