"""Pictures: where they come from, how they lie on disk once prepared, and what a model is given of them.

A source is a function chosen by `_target_` in conf/data/; its keyword-only parameters are the configuration. It yields
examples one at a time, and a `Problem` instead of an example that cannot be used.

data/prepared/<split>/images.npy   uint8 [N, H, W, C], pixel values 0..255
data/prepared/<split>/index.csv    name, label and content digest of each row
"""

import base64
import csv
import hashlib
import io
import itertools
import os
import shutil
import struct
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from .. import config
from ..cli import UserError
from ..inputs import images
from . import prepared

SECTION = "augmentation"
Size = tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]  # height, width in pixels
OnInvalid = Literal["stop", "drop"]
ASKED = 64  # pictures predicted at a time
DECODERS = 4  # pictures decoded at a time: each may hold `max_pixels`
MAX_FILE = 32 * 2**20  # bytes of a picture to be predicted, as the service has it
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

    def write(self, splits: prepared.Splits) -> dict[str, Any]:
        """Writes data/prepared; see `write`."""
        return write(self, splits)


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
                yield _read(file, file.relative_to(root), classes, shape, max_pixels)
            except (images.ImageError, OSError) as error:
                yield Problem(str(file), getattr(error, "strerror", None) or str(error))

    return Source(classes, shape, len(files), items(), root, max_pixels, on_invalid)


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


def write(source: Source, splits: prepared.Splits, folder: Path = prepared.PREPARED) -> dict[str, Any]:
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
    with prepared.replaced(folder) as temporary:
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
                split, pixels = prepared.assign(item.digest, splits), item.image.tobytes()
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
            prepared.require_every_class(classes, counts)
            described |= {"classes": classes, "counts": counts}
            by_class["classes"] = {s: dict(zip(classes, counts[s], strict=True)) for s in prepared.SPLITS}
        prepared.require_examples(examples)
        for split in prepared.SPLITS:
            _to_npy(temporary / split / "images.raw", (examples[split], *source.shape))
            np.save(temporary / split / "targets.npy", targets[split])
        prepared.write_manifest(described, temporary)
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


def load(split: str, folder: Path = prepared.PREPARED) -> NDArray[np.uint8]:
    """Returns the pictures of a split, uint8 [N, H, W, C], read-only and on disk.

    Args:
        split: `train`, `validation` or `test`.
        folder: Where the prepared data lie.
    """
    array: NDArray[np.uint8] = np.load(folder / split / "images.npy", mmap_mode="r")
    return array


def names(split: str, folder: Path = prepared.PREPARED) -> list[str]:
    """Returns the examples' names of a split, in the order of its rows."""
    with (folder / split / "index.csv").open(newline="", encoding="utf-8") as rows:
        return [row["name"] for row in csv.DictReader(rows)]


def inputs(manifest: prepared.Manifest, section: Mapping[str, Any]) -> prepared.Inputs:
    """Returns what a model is fitted on.

    Args:
        manifest: Of the prepared data.
        section: Section `augmentation` of the configuration.
    """

    def layers() -> tuple[prepared.Tensor, prepared.Tensor]:
        import keras

        image = keras.Input(tuple(manifest["shape"]), name="image")
        return image, keras.layers.Rescaling(1 / 255)(image)

    return prepared.Inputs("image", load, layers, augment=config.instantiate(section))


def feeds(split: str, batch_size: int = 256) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Yields what the exported model is asked with, in the order of the rows.

    Args:
        split: `train`, `validation` or `test`.
        batch_size: Pictures in memory at a time.
    """
    array = load(split)
    for start in range(0, len(array), batch_size):
        yield {"image": array[start : start + batch_size].astype(np.float32)}


def describe(manifest: prepared.Manifest) -> dict[str, Any]:
    """Returns what the service must know of pictures."""
    return {"shape": manifest["shape"], "max_pixels": manifest["max_pixels"]}


def asked(path: Path, description: Mapping[str, Any]) -> prepared.Questions:
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
                raise images.ImageError("is no regular file")
            if file.stat().st_size > MAX_FILE:
                raise images.ImageError(f"the file is larger than {MAX_FILE} bytes")
            return images.from_file(file.read_bytes(), description), None
        except (images.ImageError, OSError) as error:
            return {}, getattr(error, "strerror", None) or str(error)

    def read(done: int) -> Iterator[prepared.Asked]:
        names = itertools.islice(_files(path), done, None)
        with ThreadPoolExecutor(DECODERS, thread_name_prefix="decode") as pool:
            while batch := list(itertools.islice(names, ASKED)):
                loaded = list(pool.map(load, batch))
                fine = [feeds["image"] for feeds, error in loaded if error is None]
                # A name may hold bytes that are no text.
                paths = [os.fsencode(name).decode(errors="backslashreplace") for name in batch]
                yield prepared.Asked(
                    {"path": paths},
                    [error for _, error in loaded],
                    {"image": np.concatenate(fine)} if fine else {},
                )

    return prepared.Questions({"path": "string"}, stamp.hexdigest(), total, "pictures", 16 * ASKED, read)


def _files(root: Path, below: str = "") -> Iterator[str]:
    """Yields the files below a folder in the order of their names; of one folder at a time, names are in memory."""
    for name in sorted(os.listdir(root / below)):
        if name.startswith("."):
            continue
        if not (path := root / below / name).is_dir():
            yield below + name
        elif not path.is_symlink():  # it may lead back here
            yield from _files(root, f"{below}{name}/")


def form(section: Mapping[str, Any], manifest: prepared.Manifest) -> dict[str, Any]:
    """Returns what the service's page must know beside models/model.json: nothing.

    Args:
        section: Section `data` of the configuration.
        manifest: Of the prepared data.
    """
    return {}


def examples(rows: Sequence[int]) -> list[dict[str, str]]:
    """Returns pictures of the test split as the service takes them.

    Args:
        rows: Which ones.

    Returns:
        file: A PNG file, in base64.
    """

    def png(pixels: NDArray[np.uint8]) -> bytes:
        file = io.BytesIO()
        Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(file, "PNG")
        return file.getvalue()

    array = load("test")
    return [{"file": base64.b64encode(png(array[row])).decode()} for row in rows]


def subject(manifest: prepared.Manifest) -> str:
    """Returns what the model is asked about, for its card."""
    height, width, channels = manifest["shape"]
    return f"{'grey' if channels == 1 else 'colour'} pictures of {height} x {width} pixels"


def worst(rows: Sequence[int], titles: Sequence[str], total: int, folder: Path) -> list[str]:
    """Draws the pictures of the test split with which the model does worst.

    Args:
        rows: Which ones, the worst first.
        titles: One for each.
        total: Number of mistakes there are.
        folder: Where mistakes.png goes.

    Returns:
        Lines of the model card.
    """
    from .. import plots

    array = load("test")
    plots.gallery([array[row] for row in rows], titles, total, folder / "mistakes.png")
    return [f"![worst examples]({folder.name}/mistakes.png)"]
