"""Sources of pictures: each is one function, chosen by `_target_` in conf/data/."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from PIL import Image
from pydantic import Field

from ..harness.core.errors import UserError
from ..harness.inputs.images import ImageError, to_array
from ..harness.preparation.images import Example, OnInvalid, Problem, Size, Source, pixel_digest, read_example


def digits(*, image_size: Size, channels: Literal[1, 3]) -> Source:
    """The 1,797 real 8x8 images of handwritten digits that scikit-learn ships.

    Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998.

    Args:
        image_size: Height and width to resize to, in pixels.
        channels: 1 for gray, 3 for color.
    """
    from sklearn.datasets import load_digits  # 3 s of imports that no other source needs

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
) -> Source:
    """A folder with one subfolder a class, holding PNG, JPEG, BMP, GIF and WebP files of any size.

    Hidden files are ignored. Every other file that cannot be used is yielded as a `Problem`.

    Args:
        path: The folder, relative to the project's root.
        image_size: Height and width to resize to, in pixels.
        channels: 1 for gray, 3 for color.
        max_pixels: Files with more pixels, according to their header, are not decoded.
        on_invalid: `stop` ends the run at files that cannot be used, once all of them are listed; `drop` skips them.

    Raises:
        UserError: If the folder is missing or has fewer than two classes.
    """
    root = Path(path)
    if not root.is_dir():
        raise UserError(
            f"data.path: there is no folder {path!r}; put one subfolder a class there, then `dvc add {path}`"
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

    return Source(classes, shape, len(files), items(), root, max_pixels, on_invalid)


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
