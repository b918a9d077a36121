"""The images of a folder as input of a batch prediction."""

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..contracts import Description
from ..core.errors import UserError
from ..core.files import file_name, walk
from ..inputs.contracts import MAX_FILE_BYTES
from ..inputs.images import ImageError, from_file
from .items import Batch, BatchInput

BATCH_ROWS = 64  # number of images in a batch
DECODERS = 4  # number of images decoded at a time, each with up to `max_pixels`


def batches(path: Path, description: Description) -> BatchInput:
    """The images below a folder, decoded as by the service.

    Hidden files are ignored, links are followed.

    Args:
        path: The folder.
        description: Content of models/model.json.

    Raises:
        UserError: If the folder is missing or empty, or a link leads back to a folder that contains it.
    """
    if not path.is_dir():
        raise UserError(
            f"{path}: there is no such folder; this model takes pictures: name the folder that contains them"
        )
    stamp, total = _stamp(path)
    if not total:
        raise UserError(f"{path}: the folder contains no files")

    def pieces(skip: int) -> Iterator[list[str]]:
        names = itertools.islice(walk(path), skip, None)
        while piece := list(itertools.islice(names, BATCH_ROWS)):
            yield piece

    decode = partial(_batches, path, description)
    return BatchInput({"path": "string"}, stamp, total, "pictures", 16 * BATCH_ROWS, pieces, decode)


def _batches(folder: Path, description: Description, pieces: Iterable[Sequence[str]]) -> Iterator[Batch]:
    """Yields a batch for each piece, a list of names in the folder."""
    with ThreadPoolExecutor(DECODERS, thread_name_prefix="decode") as pool:
        for names in pieces:
            decoded = list(pool.map(lambda name: _decode(folder / name, description), names))
            pixels = [image for image, error in decoded if image is not None]
            yield Batch(
                {"path": [file_name(name) for name in names]},
                [error for _, error in decoded],
                {"image": np.concatenate(pixels)} if pixels else {},
            )


def _stamp(folder: Path) -> tuple[str, int]:
    """Digest of names, sizes and modification times, and number of files."""
    stamp, total = hashlib.sha256(), 0
    for name in walk(folder):
        try:
            status = (folder / name).stat()
        except OSError:  # a broken link
            status = (folder / name).lstat()
        stamp.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode(errors="surrogateescape"))
        total += 1
    return stamp.hexdigest(), total


def _decode(file: Path, description: Description) -> tuple[NDArray[Any] | None, str | None]:
    """Pixels of an image, [1, H, W, C], or its error; the other is None."""
    try:
        if not file.is_file() and file.exists():  # reading a pipe would never end
            raise ImageError("not a regular file")
        if file.stat().st_size > MAX_FILE_BYTES:
            raise ImageError(f"the file is larger than {MAX_FILE_BYTES} bytes")
        return from_file(file.read_bytes(), description)["image"], None
    except (ImageError, OSError) as error:
        return None, getattr(error, "strerror", None) or str(error)
