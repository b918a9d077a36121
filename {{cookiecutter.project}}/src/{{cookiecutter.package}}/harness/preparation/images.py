"""Preparation of images, one at a time in memory."""

import csv
import functools
import hashlib
import math
import shutil
import struct
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

import numpy as np
from PIL import Image
from pydantic import Field

from ..contracts import Splits
from ..core.errors import UserError
from ..core.files import file_name, walk
from ..inputs.images import REDUCED, ImageError, Pixels, open_image, to_array
from ..prepared import PREPARED, SPLITS
from .splits import Strata, assign, position, replaced, require_every_class, require_examples, write_manifest

Size = tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]  # height, width in pixels
OnInvalid = Literal["stop", "drop"]
Division = Literal["random", "stratified"]
SUFFIXES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP", ".gif": "GIF", ".webp": "WEBP"}


class Example(NamedTuple):
    """A labeled image.

    Attributes:
        name: Path or row number, unique in the source.
        label: Index into the source's classes, or the number to predict if the source has no classes.
        digest: Hash of the decoded pixels before resizing, which does not depend on the file format.
        image: uint8 [H, W, C], or float32 with the fractions of 16-bit gray; values from 0 to 255.
        size: Height and width before resizing; None if it was not resized.
    """

    name: str
    label: float
    digest: str
    image: Pixels
    size: tuple[int, int] | None = None


class Problem(NamedTuple):
    """An unusable file: its path and the reason."""

    path: str
    reason: str


class Source(NamedTuple):
    """A source of images.

    Attributes:
        classes: Names of the classes, indexed by the labels; empty if labels are numbers.
        shape: (H, W, C) of every image.
        size: Number of items.
        items: Examples and problems, in a reproducible order.
        path: Folder of the data; None for data inside a Python package.
        max_pixels: Maximum number of pixels of an image, here and in the service.
        on_invalid: Policy for unusable files: `stop` ends the run after listing all of them, `drop` skips them.
        target_name: Name of the quantity to predict.
        split: `random` splits by a hash of the picture; `stratified` as well, but no split lacks a class.
    """

    classes: list[str]
    shape: tuple[int, int, int]
    size: int
    items: Iterator[Example | Problem]
    path: Path | None = None
    max_pixels: int = 100_000_000
    on_invalid: OnInvalid = "stop"
    target_name: str = "class"
    split: Division = "random"

    @property
    def input(self) -> str:
        """Kind of input."""
        return "images"


def files_below(root: Path) -> list[Path]:
    """The files below a folder of images, in order, as `core.files.walk` finds them.

    Prints a warning if some are reached through links to folders, which DVC does not follow.

    Args:
        root: The folder.

    Raises:
        UserError: If a link leads back to a folder that contains it.
    """
    names = [Path(name) for name in walk(root)]
    folders = sorted({folder for name in names for folder in name.parents})
    if linked := [root / folder for folder in folders if (root / folder).is_symlink()]:
        print(
            f"prepare: warning: {file_name(linked[0])} is a link to a folder: its pictures are read, but DVC does not "
            "follow it: neither `dvc repro` notices changes there, nor does `dvc push` store these pictures",
            file=sys.stderr,
        )
    return names


def read_example(file: Path, name: Path, classes: list[str], shape: tuple[int, int, int], max_pixels: int) -> Example:
    """The image in a file, labeled by its class folder.

    Args:
        file: The image file.
        name: Path of the file, relative to the folder of the class folders.
        classes: Names of the classes.
        shape: (H, W, C) of the result.
        max_pixels: Maximum number of pixels.

    Raises:
        ImageError: If the file cannot be used.
    """
    if len(name.parts) < 2:
        raise ImageError("is in no class folder: move it into one")
    expected = SUFFIXES.get(file.suffix.lower())
    if expected is None:
        raise ImageError(f"its name does not end in {', '.join(SUFFIXES)}: rename or remove it")
    if file.exists() and not file.is_file():  # reading a pipe would never end
        raise ImageError("is not a regular file")
    image = open_image(file.read_bytes(), max_pixels)
    if REDUCED in image.info:
        _warn_of_color()
    if image.format != expected:
        raise ImageError(f"is named {file.suffix} but holds {image.format}: rename it")
    # "/" on every system, so that the written bytes are the same.
    label, digest = classes.index(name.parts[0]), pixel_digest(image)
    return Example(name.as_posix(), label, digest, to_array(image, shape), (image.height, image.width))


@functools.cache  # once
def _warn_of_color() -> None:
    print(
        "prepare: warning: of 16-bit pictures with color or transparency, the upper 8 bits are read; 16-bit gray is "
        "read in full",
        file=sys.stderr,
    )


def pixel_digest(image: Image.Image) -> str:
    """Hash of an image's pixels, equal for all lossless file formats.

    8-bit gray is hashed as color, because some formats store the same image only as color.
    """
    pixels = image if image.mode == "F" else image.convert("RGB")
    return hashlib.sha256(f"{image.size}".encode() + pixels.tobytes()).hexdigest()


def write(source: Source, splits: Splits, folder: Path = PREPARED) -> dict[str, Any]:
    """Writes the splits of an image source.

    Exact duplicates remain: they are in the same split, because the split depends on the content. A duplicate in
    another class is a problem, because one of the labels is wrong; with another number, it is a repeated measurement.

    Args:
        source: Source of the images.
        splits: Seed and fractions of the split.
        folder: Folder to write; replaced as a whole at the end.

    Returns:
        The content of reports/data.json: examples by split and class, dropped files, duplicates.

    Raises:
        UserError: If files are unusable and `on_invalid` is `stop`, or a split is empty or lacks a class.
    """
    from tqdm import tqdm

    problems: list[Problem] = []
    duplicates: list[tuple[str, str]] = []
    with replaced(folder) as temporary:
        with ExitStack() as stack:
            writers = {split: stack.enter_context(_SplitWriter(temporary / split, source.classes)) for split in SPLITS}
            items = tqdm(source.items, "prepare", source.size, unit=" images", disable=None)
            usable = _usable(items, bool(source.classes), problems, duplicates)
            for example, split in _divided(usable, source, splits, temporary):
                writers[split].add(example)
            if any(writer.dtype == np.float32 for writer in writers.values()):
                for writer in writers.values():
                    writer.widen(source.shape)
        _report_problems(problems, source)
        if source.classes:
            require_every_class(source.classes, _class_counts(writers, source.classes), source.split, "remove it")
        require_examples({split: len(writer.labels) for split, writer in writers.items()})
        for writer in writers.values():
            writer.finish(source.shape)
        if any(size != source.shape[:2] for writer in writers.values() for size in writer.sizes):
            for split, writer in writers.items():
                np.save(temporary / split / "sizes.npy", np.asarray(writer.sizes, np.int32))
        manifest = _manifest(source, writers)
        write_manifest(manifest, temporary)
    by_class = {split: dict(zip(source.classes, n, strict=True)) for split, n in manifest.get("counts", {}).items()}
    return {
        "examples": manifest["examples"],
        **({"classes": by_class} if by_class else {}),
        "skipped": len(problems),
        "skipped_files": [list(problem) for problem in problems],
        "duplicates": len(duplicates),
        "duplicate_files": [list(pair) for pair in duplicates],
    }


def _usable(
    items: Iterator[Example | Problem], has_classes: bool, problems: list[Problem], duplicates: list[tuple[str, str]]
) -> Iterator[Example]:
    """Yields the usable examples; appends to `problems` and `duplicates`."""
    seen: dict[str, tuple[str, float]] = {}
    for item in items:
        if isinstance(item, Problem):
            problems.append(item)
            continue
        first, label = seen.setdefault(item.digest, (item.name, item.label))
        if has_classes and label != item.label:
            problems.append(Problem(item.name, f"is the same picture as {first}, under another class: remove one"))
            continue
        if first != item.name:
            duplicates.append((item.name, first))
        yield item


def _divided(
    examples: Iterator[Example], source: Source, splits: Splits, folder: Path
) -> Iterator[tuple[Example, str]]:
    """Yields each example with its split."""
    if source.split == "random":
        yield from ((example, assign(example.digest, splits)) for example in examples)
        return
    if not source.classes:
        raise UserError("data.split: stratified needs classes, the target of a regression has none: use random")
    strata, kept = Strata(), list[tuple[Example, int, str]]()
    with tempfile.TemporaryFile(dir=folder) as pixels:  # which class lacks a split is known only after the last picture
        for example in examples:
            place, split = position(example.digest, splits), assign(example.digest, splits)
            strata.add(int(example.label), {place: SPLITS.index(split)})
            np.save(pixels, example.image)
            kept.append((example._replace(image=np.empty(0, np.uint8)), place, split))
        moves = {place: SPLITS[split] for place, split in strata.moves().items()}
        pixels.seek(0)
        for example, place, split in kept:
            yield example._replace(image=np.load(pixels)), moves.get(place, split)


def _report_problems(problems: list[Problem], source: Source) -> None:
    for path, reason in problems:
        print(f"prepare: {path}: {reason}", file=sys.stderr)
    if problems and source.on_invalid == "stop":
        raise UserError(
            f"{len(problems)} of {source.size} files cannot be used, they are listed above: fix or remove them, or set "
            "data.on_invalid: drop in conf/"
        )


class _SplitWriter:
    """Writer of the files of a split.

    Pixels are uint8 until an example with fractions comes.

    Attributes:
        labels: Labels of the examples, in order.
        sizes: Height and width of each before resizing.
        content: SHA-256 object of pixels and labels.
        dtype: Type of the pixels.
    """

    def __init__(self, folder: Path, classes: list[str]) -> None:
        self.labels: list[float] = []
        self.sizes: list[tuple[int, int]] = []
        self.content = hashlib.sha256()
        self.dtype: np.dtype[Any] = np.dtype(np.uint8)
        self._folder, self._classes = folder, classes
        self._pixels = (folder / "images.raw").open("wb")
        self._rows = (folder / "index.csv").open("w", newline="", encoding="utf-8")
        self._index = csv.writer(self._rows, lineterminator="\n")
        self._index.writerow(["name", "label", "digest"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pixels.close()
        self._rows.close()

    def add(self, example: Example) -> None:
        """Appends an example."""
        if example.image.dtype != np.uint8:
            self.widen(example.image.shape)
        self._append(example.image, example.label)
        self.labels.append(example.label)
        height, width, _ = example.image.shape
        self.sizes.append(example.size or (height, width))
        label = self._classes[int(example.label)] if self._classes else example.label
        self._index.writerow([example.name, label, example.digest])

    def _append(self, image: Pixels, label: float) -> None:
        pixels = image.astype(self.dtype).tobytes()
        self._pixels.write(pixels)
        self.content.update(pixels + struct.pack(">I" if self._classes else ">d", label))

    def widen(self, shape: tuple[int, ...]) -> None:
        """Makes all pixels float32.

        Args:
            shape: (H, W, C) of an image.
        """
        if self.dtype == np.float32:
            return
        self.dtype, self.content = np.dtype(np.float32), hashlib.sha256()
        self._pixels.close()
        narrow = (self._folder / "images.raw").rename(self._folder / "narrow.raw")
        self._pixels = (self._folder / "images.raw").open("wb")
        with narrow.open("rb") as file:
            for label in self.labels:
                self._append(np.frombuffer(file.read(math.prod(shape)), np.uint8), label)
        narrow.unlink()

    def finish(self, shape: tuple[int, int, int]) -> None:
        """Writes images.npy and targets.npy from the closed files."""
        # A .npy file begins with the number of rows, which is known only now.
        raw = self._folder / "images.raw"
        header = {
            "descr": np.lib.format.dtype_to_descr(self.dtype),
            "fortran_order": False,
            "shape": (len(self.labels), *shape),
        }
        with raw.with_suffix(".npy").open("wb") as file, raw.open("rb") as pixels:
            np.lib.format.write_array_header_1_0(file, header)
            shutil.copyfileobj(pixels, file, 1 << 20)
        raw.unlink()
        np.save(self._folder / "targets.npy", np.asarray(self.labels, np.int64 if self._classes else np.float64))


def _class_counts(writers: Mapping[str, _SplitWriter], classes: list[str]) -> dict[str, list[int]]:
    counts = {split: Counter(writer.labels) for split, writer in writers.items()}
    return {split: [count[label] for label in range(len(classes))] for split, count in counts.items()}


def described(source: Source) -> dict[str, Any]:
    """What is known before an image is read: input, target and classes, as in the manifest.

    Args:
        source: The source of the images.
    """
    classes = {"classes": source.classes} if source.classes else {}
    target = "classification" if source.classes else "regression"
    return {"input": "images", "target": target, "target_name": source.target_name, **classes}


def _manifest(source: Source, writers: Mapping[str, _SplitWriter]) -> dict[str, Any]:
    manifest: dict[str, Any] = {
        **described(source),
        "shape": list(source.shape),
        "max_pixels": source.max_pixels,
        "examples": {split: len(writer.labels) for split, writer in writers.items()},
        "digests": {split: writer.content.hexdigest() for split, writer in writers.items()},
    }
    if source.classes:
        manifest["counts"] = _class_counts(writers, source.classes)
    return manifest
