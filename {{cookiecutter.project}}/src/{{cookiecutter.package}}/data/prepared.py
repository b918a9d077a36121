"""Prepared data on disk: a folder for each split, arrays that are memory-mapped, never loaded whole.

data/prepared/manifest.json             classes, shape, pixel limit, counts, digests
data/prepared/<split>/images.npy        uint8 [N, H, W, C], pixel values 0..255
data/prepared/<split>/labels.npy        int64 [N], index into the manifest's classes
data/prepared/<split>/index.csv         name, label and content digest of each row
"""

import csv
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

PREPARED = Path("data/prepared")
SPLITS = ("train", "validation", "test")


class Example(NamedTuple):
    """One labelled image.

    Attributes:
        name: What a person calls it: a path or a row number.
        label: Index into the source's classes.
        digest: Hash of the decoded pixels before resizing: the same picture has the same digest in any file format.
        image: uint8 [H, W, C], pixel values 0..255.
    """

    name: str
    label: int
    digest: str
    image: NDArray[np.uint8]


def assign(digest: str, seed: int, validation: float, test: float) -> str:
    """Returns the split of an example from its content alone.

    Adding examples therefore never moves another one, and exact duplicates never lie in two splits. Every class
    is divided with the same expected fractions.

    Args:
        digest: The example's content digest.
        seed: Another seed gives another, independent split.
        validation: Expected fraction of the validation split.
        test: Expected fraction of the test split.
    """
    position = int.from_bytes(hashlib.sha256(f"{seed}:{digest}".encode()).digest()[:8]) / 2**64
    return "test" if position < test else "validation" if position < test + validation else "train"


def write(
    examples: Iterable[Example],
    split_of: Callable[[str], str],
    classes: list[str],
    shape: tuple[int, ...],
    max_pixels: int,
    folder: Path = PREPARED,
) -> None:
    """Streams examples to disk; one image is in memory at a time.

    Args:
        examples: The examples, in a reproducible order.
        split_of: Content digest -> split.
        classes: Names of the classes; labels index into it.
        shape: (H, W, C) of every image.
        max_pixels: The source's limit, which the service applies as well.
        folder: Where to write; replaced as a whole once everything is written.
    """
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    labels: dict[str, list[int]] = {split: [] for split in SPLITS}
    digests = {split: hashlib.sha256() for split in SPLITS}
    with ExitStack() as stack:
        raw, index = {}, {}
        for split in SPLITS:
            (temporary / split).mkdir(parents=True)
            raw[split] = stack.enter_context((temporary / split / "images.raw").open("wb"))
            rows = stack.enter_context((temporary / split / "index.csv").open("w", newline="", encoding="utf-8"))
            index[split] = csv.writer(rows, lineterminator="\n")
            index[split].writerow(["name", "label", "digest"])
        for example in examples:
            split, pixels = split_of(example.digest), example.image.tobytes()
            raw[split].write(pixels)
            digests[split].update(pixels + example.label.to_bytes(4))
            labels[split].append(example.label)
            index[split].writerow([example.name, classes[example.label], example.digest])
    for split in SPLITS:
        _to_npy(temporary / split / "images.raw", (len(labels[split]), *shape))
        np.save(temporary / split / "labels.npy", np.asarray(labels[split], np.int64))
    manifest = {
        "classes": classes,
        "shape": list(shape),
        "max_pixels": max_pixels,
        "counts": {split: np.bincount(labels[split], minlength=len(classes)).tolist() for split in SPLITS},
        "digests": {split: digests[split].hexdigest() for split in SPLITS},
    }
    (temporary / "manifest.json").write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(temporary, folder)


def _to_npy(raw: Path, shape: tuple[int, ...]) -> None:
    # The number of rows is known only now, and comes first in a .npy file.
    with raw.with_suffix(".npy").open("wb") as file, raw.open("rb") as rows:
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.uint8)), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        shutil.copyfileobj(rows, file, 1 << 20)
    raw.unlink()


def manifest(folder: Path = PREPARED) -> dict[str, Any]:
    """Returns the manifest: classes, shape, counts and digests."""
    content: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return content


def load(split: str, folder: Path = PREPARED) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Returns a split, its images memory-mapped.

    Args:
        split: `train`, `validation` or `test`.
        folder: Where the prepared data lie.

    Returns:
        Images, uint8 [N, H, W, C], read-only and on disk, and labels, int64 [N].
    """
    images = np.load(folder / split / "images.npy", mmap_mode="r")
    return images, np.load(folder / split / "labels.npy")


def names(split: str, folder: Path = PREPARED) -> list[str]:
    """Returns the examples' names of a split, in the order of its rows."""
    with (folder / split / "index.csv").open(newline="", encoding="utf-8") as rows:
        return [row["name"] for row in csv.DictReader(rows)]
