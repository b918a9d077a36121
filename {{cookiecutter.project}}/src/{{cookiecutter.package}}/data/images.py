"""Image sources: one function each, chosen by `_target_` in conf/data/."""

from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from PIL import Image
from pydantic import Field

from ..harness.core.errors import UserError
from ..harness.core.files import file_name
from ..harness.inputs.images import ImageError, to_array
from ..harness.preparation.images import (
    Division,
    Example,
    OnInvalid,
    Problem,
    Size,
    Source,
    files_below,
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
    # The file that `load_digits` reads; importing scikit-learn for it would take 3 s.
    file = distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")
    rows = np.loadtxt(str(file), delimiter=",")
    shape = (*image_size, channels)

    def items() -> Iterator[Example | Problem]:
        for row, (*pixels, label) in enumerate(rows):
            levels = np.reshape(pixels, (8, 8)) * (255 / 16)  # 0..16 in the original
            image = Image.fromarray(np.rint(levels).astype(np.uint8))
            yield Example(f"digits[{row}]", int(label), pixel_digest(image), to_array(image, shape))

    return Source([str(digit) for digit in range(10)], shape, len(rows), items())


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

    The files are PNG, JPEG, BMP, GIF or WebP, of any size. Links are followed. Hidden files are ignored; every other
    file that cannot be used becomes a `Problem`.

    Args:
        path: The folder, relative to the project's root.
        image_size: Height and width to resize to, in pixels.
        channels: 1 for gray, 3 for color.
        max_pixels: Maximum number of pixels of a file, checked in its header before it is decoded.
        on_invalid: Policy for unusable files: `stop` ends the run after listing all of them, `drop` skips them.
        split: `random` splits by a hash of the picture; `stratified` as well, but no split lacks a class.

    Raises:
        UserError: If the folder is missing or has fewer than two classes, or a link leads back to a folder above it.
    """
    root = Path(path)
    if not root.is_dir():
        raise UserError(
            f"data.path: there is no folder {path!r}; make it, with a subfolder for each class, then `dvc add {path}`"
        )
    folders = [folder for folder in root.iterdir() if folder.is_dir() and not folder.name.startswith(".")]
    classes = sorted(file_name(folder.name) for folder in folders)
    if len(classes) < 2:
        raise UserError(
            f"data.path: {path!r} has {len(classes)} class folder(s), at least 2 are needed: {path}/<class>/<image>.png"
        )
    shape = (*image_size, channels)
    names = files_below(root)

    def items() -> Iterator[Example | Problem]:
        for name in names:
            try:
                yield read_example(root / name, Path(file_name(name)), classes, shape, max_pixels)
            except (ImageError, OSError) as error:
                yield Problem(file_name(root / name), getattr(error, "strerror", None) or str(error))

    return Source(classes, shape, len(names), items(), root, max_pixels, on_invalid, split=split)
