"""The images of a folder as input of a batch prediction."""

import hashlib
import itertools
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..contracts import Description
from ..core.errors import UserError
from ..inputs.contracts import MAX_FILE_BYTES
from ..inputs.images import ImageError, from_file
from .items import Batch, BatchInput

BATCH_ROWS = 64  # number of images in a batch
DECODERS = 4  # number of images decoded at a time, each with up to `max_pixels`


def batches(path: Path, description: Description) -> BatchInput:
    """The images below a folder, decoded as by the service.

    Hidden files are ignored.

    Args:
        path: The folder.
        description: Content of models/model.json.

    Raises:
        UserError: If the folder is missing or empty.
    """
    if not path.is_dir():
        raise UserError(
            f"{path}: there is no such folder; this model takes pictures: name the folder that contains them"
        )
    stamp, total = _stamp(path)
    if not total:
        raise UserError(f"{path}: the folder contains no files")

    def read(skip: int) -> Iterator[Batch]:
        names = itertools.islice(_files(path), skip, None)
        with ThreadPoolExecutor(DECODERS, thread_name_prefix="decode") as pool:
            while batch := list(itertools.islice(names, BATCH_ROWS)):
                decoded = list(pool.map(lambda name: _decode(path / name, description), batch))
                pixels = [image for image, error in decoded if image is not None]
                # A name may contain bytes that are not text.
                names_as_text = [os.fsencode(name).decode(errors="backslashreplace") for name in batch]
                yield Batch(
                    {"path": names_as_text},
                    [error for _, error in decoded],
                    {"image": np.concatenate(pixels)} if pixels else {},
                )

    return BatchInput({"path": "string"}, stamp, total, "pictures", 16 * BATCH_ROWS, read)


def _stamp(folder: Path) -> tuple[str, int]:
    """Digest of names, sizes and modification times, and number of files."""
    stamp, total = hashlib.sha256(), 0
    for name in _files(folder):
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


def _files(root: Path, below: str = "") -> Iterator[str]:
    """Yields the files below a folder in order, folder by folder."""
    for name in sorted(os.listdir(root / below)):
        if name.startswith("."):
            continue
        if not (path := root / below / name).is_dir():
            yield below + name
        elif not path.is_symlink():  # a link may form a loop
            yield from _files(root, f"{below}{name}/")
