"""Batch prediction of a folder of pictures."""

import hashlib
import itertools
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import UserError
from ..inputs import images as inputs_images
from . import items

BATCH_ROWS = 64  # pictures predicted at a time
DECODERS = 4  # pictures decoded at a time: each may hold `max_pixels`
MAX_FILE = 32 * 2**20  # bytes of a picture to be predicted, as the service has it


def batches(path: Path, description: Mapping[str, Any]) -> items.BatchInput:
    """Returns the files of a folder and its sub-folders, for a batch prediction; hidden ones are left out.

    They are decoded as the service decodes them.

    Args:
        path: The folder.
        description: The content of models/model.json.

    Raises:
        UserError: Where there is no such folder, or no file in it.
    """
    if not path.is_dir():
        raise UserError(f"{path}: there is no such folder; this model takes pictures: give the folder that holds them")
    stamp, total = hashlib.sha256(), 0
    for name in _files(path):
        try:
            found = (path / name).stat()
        except OSError:  # a link to nowhere
            found = (path / name).lstat()
        stamp.update(f"{name}\0{found.st_size}\0{found.st_mtime_ns}\0".encode(errors="surrogateescape"))
        total += 1
    if not total:
        raise UserError(f"{path}: the folder holds no file")

    def load(name: str) -> tuple[dict[str, NDArray[Any]], str | None]:
        try:
            file = path / name
            if not file.is_file() and file.exists():  # a pipe would never end
                raise inputs_images.ImageError("is no regular file")
            if file.stat().st_size > MAX_FILE:
                raise inputs_images.ImageError(f"the file is larger than {MAX_FILE} bytes")
            return inputs_images.from_file(file.read_bytes(), description), None
        except (inputs_images.ImageError, OSError) as error:
            return {}, getattr(error, "strerror", None) or str(error)

    def read(done: int) -> Iterator[items.Batch]:
        names = itertools.islice(_files(path), done, None)
        with ThreadPoolExecutor(DECODERS, thread_name_prefix="decode") as pool:
            while batch := list(itertools.islice(names, BATCH_ROWS)):
                loaded = list(pool.map(load, batch))
                fine = [feeds["image"] for feeds, error in loaded if error is None]
                # A name may hold bytes that are no text.
                paths = [os.fsencode(name).decode(errors="backslashreplace") for name in batch]
                yield items.Batch(
                    {"path": paths},
                    [error for _, error in loaded],
                    {"image": np.concatenate(fine)} if fine else {},
                )

    return items.BatchInput({"path": "string"}, stamp.hexdigest(), total, "pictures", 16 * BATCH_ROWS, read)


def _files(root: Path, below: str = "") -> Iterator[str]:
    """Yields the files below a folder in the order of their names; of one folder at a time, names are in memory."""
    for name in sorted(os.listdir(root / below)):
        if name.startswith("."):
            continue
        if not (path := root / below / name).is_dir():
            yield below + name
        elif not path.is_symlink():  # it may lead back here
            yield from _files(root, f"{below}{name}/")
