"""Sources of pictures: each is one function, chosen by `_target_` in conf/data/."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from PIL import Image
from pydantic import Field

from ..harness.core.errors import UserError
from ..harness.inputs import images as inputs_images
from ..harness.preparation import images as preparation_images
from ..harness.preparation.images import Example, OnInvalid, Problem, Size, Source


def digits(*, image_size: Size, channels: Literal[1, 3]) -> Source:
    """The 1,797 real 8x8 images of handwritten digits that scikit-learn ships.

    Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998.

    Args:
        image_size: Height and width to resize to, in pixels.
        channels: 1 for grey, 3 for colour.
    """
    from sklearn.datasets import (
        load_digits,  # 3 s of imports that no other source needs
    )

    bunch = load_digits()
    shape = (*image_size, channels)

    def items() -> Iterator[Example | Problem]:
        for row, (pixels, label) in enumerate(zip(bunch.images, bunch.target, strict=True)):
            image = Image.fromarray(np.rint(pixels * (255 / 16)).astype(np.uint8))  # 0..16 in the original
            yield Example(
                f"digits[{row}]", int(label), preparation_images.digest(image), inputs_images.to_array(image, shape)
            )

    return Source([str(name) for name in bunch.target_names], shape, len(bunch.target), items())


def image_folder(
    *,
    path: str,
    image_size: Size,
    channels: Literal[1, 3],
    max_pixels: Annotated[int, Field(ge=1)],
    on_invalid: OnInvalid,
) -> Source:
    """A folder with one sub-folder a class, holding PNG, JPEG, BMP, GIF and WebP files of any size.

    Hidden files are ignored. Every other file that cannot be used is yielded as a `Problem`.

    Args:
        path: The folder, relative to the project's root.
        image_size: Height and width to resize to, in pixels.
        channels: 1 for grey, 3 for colour.
        max_pixels: Files whose header announces more pixels than this are not decoded.
        on_invalid: What a file that cannot be used does: `stop` the run (all of them are listed first) or be dropped.

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
                yield preparation_images.read_example(file, file.relative_to(root), classes, shape, max_pixels)
            except (inputs_images.ImageError, OSError) as error:
                yield Problem(str(file), getattr(error, "strerror", None) or str(error))

    return Source(classes, shape, len(files), items(), root, max_pixels, on_invalid)
