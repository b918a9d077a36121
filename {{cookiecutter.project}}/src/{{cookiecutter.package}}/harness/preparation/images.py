"""Pictures: read from a source, split and written to disk."""

import csv
import hashlib
import shutil
import struct
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from .. import contracts, prepared
from ..core.errors import UserError
from ..inputs import images as inputs_images
from . import splits as preparation_splits

Size = tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]  # height, width in pixels
OnInvalid = Literal["stop", "drop"]
SUFFIXES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP", ".gif": "GIF", ".webp": "WEBP"}


class Example(NamedTuple):
    """One labelled picture.

    Attributes:
        name: What a person calls it: a path or a row number.
        label: Index into the source's classes; the number to predict where the source has none.
        digest: Hash of the decoded pixels before resizing: the same picture has the same digest in any file format.
        image: uint8 [H, W, C], pixel values 0..255.
    """

    name: str
    label: float
    digest: str
    image: NDArray[np.uint8]


class Problem(NamedTuple):
    """A file that is no usable example: its path and what is wrong with it."""

    path: str
    reason: str


class Source(NamedTuple):
    """What a data source gives.

    Attributes:
        classes: Names of the classes, labels index into it; empty where labels are numbers.
        shape: (H, W, C) of every image.
        size: Number of items that `items` yields.
        items: Examples and problems, in a reproducible order.
        path: Where the data lie, None for data that ship inside a package.
        max_pixels: The largest picture accepted, here and by the service.
        on_invalid: What a file that cannot be used does: `stop` the run (all of them are listed first) or be dropped.
        target_name: What is predicted.
    """

    classes: list[str]
    shape: tuple[int, int, int]
    size: int
    items: Iterator[Example | Problem]
    path: Path | None = None
    max_pixels: int = 100_000_000
    on_invalid: OnInvalid = "stop"
    target_name: str = "class"

    @property
    def input(self) -> str:
        """The kind of the examples."""
        return "images"


def read_example(file: Path, name: Path, classes: list[str], shape: tuple[int, int, int], max_pixels: int) -> Example:
    if len(name.parts) < 2:
        raise inputs_images.ImageError("lies in no class folder: move it into one")
    expected = SUFFIXES.get(file.suffix.lower())
    if expected is None:
        raise inputs_images.ImageError(f"its name does not end in {', '.join(SUFFIXES)}: rename or remove it")
    image = inputs_images.open_image(file.read_bytes(), max_pixels)
    if image.format != expected:
        raise inputs_images.ImageError(f"is named {file.suffix} but holds {image.format}: rename it")
    label = classes.index(name.parts[0])
    return Example(name.as_posix(), label, digest(image), inputs_images.to_array(image, shape))


def digest(image: Image.Image) -> str:
    """Returns the hash of an image's pixels, the same whichever lossless format the file had.

    Grey pictures count as colour, since an animation or palette file can hold the same picture only as colour.
    """
    return hashlib.sha256(f"{image.size}".encode() + image.convert("RGB").tobytes()).hexdigest()


def write(source: Source, splits: contracts.Splits, folder: Path = prepared.PREPARED) -> dict[str, Any]:
    """Streams a source to disk, one picture in memory at a time.

    An exact duplicate stays: its content decides its split, so that it cannot leak. The same picture under two classes
    is a problem, since one of them is wrong; with two numbers it was measured twice.

    Args:
        source: Where the pictures come from.
        splits: Seed and fractions of the split.
        folder: Where to write; replaced as a whole once everything is written.

    Returns:
        The report: examples by split, and by class where there are classes, what was skipped, duplicates.

    Raises:
        UserError: Where files cannot be used and the source says `stop`, or a split has no example, of some class.
    """
    from tqdm import tqdm

    classes = source.classes
    labels: dict[str, list[float]] = {split: [] for split in prepared.SPLITS}
    digests = {split: hashlib.sha256() for split in prepared.SPLITS}
    problems: list[tuple[str, str]] = []
    duplicates: list[tuple[str, str]] = []
    seen: dict[str, tuple[str, float]] = {}
    with preparation_splits.replaced(folder) as temporary:
        with ExitStack() as stack:
            raw, index = {}, {}
            for split in prepared.SPLITS:
                raw[split] = stack.enter_context((temporary / split / "images.raw").open("wb"))
                rows = stack.enter_context((temporary / split / "index.csv").open("w", newline="", encoding="utf-8"))
                index[split] = csv.writer(rows, lineterminator="\n")
                index[split].writerow(["name", "label", "digest"])
            for item in tqdm(source.items, "prepare", source.size, unit=" images", disable=None):
                if isinstance(item, Problem):
                    problems.append((item.path, item.reason))
                    continue
                first, label = seen.setdefault(item.digest, (item.name, item.label))
                if classes and label != item.label:
                    reason = f"is the same picture as {first}, under another class: remove one"
                    problems.append((item.name, reason))
                    continue
                if first != item.name:
                    duplicates.append((item.name, first))
                split, pixels = preparation_splits.assign(item.digest, splits), item.image.tobytes()
                raw[split].write(pixels)
                digests[split].update(pixels + struct.pack(">I" if classes else ">d", item.label))
                labels[split].append(item.label)
                index[split].writerow([item.name, classes[int(item.label)] if classes else item.label, item.digest])
        _refuse(problems, source)
        examples = {split: len(labels[split]) for split in prepared.SPLITS}
        targets = {s: np.asarray(labels[s], np.int64 if classes else np.float64) for s in prepared.SPLITS}
        described: dict[str, Any] = {
            "input": "images",
            "target": "classification" if classes else "regression",
            "target_name": source.target_name,
            "shape": list(source.shape),
            "max_pixels": source.max_pixels,
            "examples": examples,
            "digests": {split: digests[split].hexdigest() for split in prepared.SPLITS},
        }
        by_class = {}
        if classes:
            counts = {s: np.bincount(targets[s], minlength=len(classes)).tolist() for s in prepared.SPLITS}
            preparation_splits.require_every_class(classes, counts)
            described |= {"classes": classes, "counts": counts}
            by_class["classes"] = {s: dict(zip(classes, counts[s], strict=True)) for s in prepared.SPLITS}
        preparation_splits.require_examples(examples)
        for split in prepared.SPLITS:
            _to_npy(temporary / split / "images.raw", (examples[split], *source.shape))
            np.save(temporary / split / "targets.npy", targets[split])
        preparation_splits.write_manifest(described, temporary)
    return {
        "examples": examples,
        **by_class,
        "skipped": len(problems),
        "skipped_files": [list(problem) for problem in problems],
        "duplicates": len(duplicates),
        "duplicate_files": [list(pair) for pair in duplicates],
    }


def _refuse(problems: list[tuple[str, str]], source: Source) -> None:
    for path, reason in problems:
        print(f"prepare: {path}: {reason}", file=sys.stderr)
    if problems and source.on_invalid == "stop":
        raise UserError(
            f"{len(problems)} of {source.size} files cannot be used, all of them are listed above: mend or "
            "remove them, or set data.on_invalid: drop in conf/"
        )


def _to_npy(raw: Path, shape: tuple[int, ...]) -> None:
    # The number of rows is known only now, and comes first in a .npy file.
    with raw.with_suffix(".npy").open("wb") as file, raw.open("rb") as rows:
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.uint8)), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        shutil.copyfileobj(rows, file, 1 << 20)
    raw.unlink()
