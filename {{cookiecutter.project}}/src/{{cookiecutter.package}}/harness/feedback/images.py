"""Labeled pictures in the class folders of the configured source."""

import base64
import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..contracts import Description
from ..core import files
from ..core.errors import UserError
from ..inputs.images import decode, open_image
from ..preparation.images import Source, pixel_digest
from ..prepared import PREPARED, SPLITS
from .contracts import Checked, Labeled
from .person import Person, refuse_column

PATTERN = "*/production-*.png"


def folder(source: Source) -> Path:
    """The folder of the class folders.

    Args:
        source: The pictures.

    Raises:
        UserError: If they are in no folder.
    """
    if source.path is None:
        raise UserError(
            "data: the pictures are inside a library, to which nothing can be added: choose `data: image_folder` in "
            "conf/config.yaml, with pictures in data/raw"
        )
    return source.path


def check(examples: Sequence[Labeled], source: Source) -> Checked:
    """The pictures that are new: a picture under two classes would end `prepare`, twice under one adds nothing.

    Args:
        examples: Pictures.
        source: The pictures that there are.
    """
    known, usable, problems = _known(source), [], Counter[str]()
    for example in examples:
        digest = pixel_digest(open_image(base64.b64decode(example.example), source.max_pixels))
        if example.actual not in source.classes:
            problems["there is no folder of this class"] += 1
        elif digest not in known:
            known[digest] = str(example.actual)
            usable.append(example)
        elif known[digest] == example.actual:
            problems["the data have the same picture"] += 1
        else:
            problems["the data have the same picture under another class"] += 1
    return Checked(usable, [f"{count} picture(s) left out: {why}" for why, count in problems.items()])


def _known(source: Source) -> dict[str, str]:
    """Digest of a picture -> its class, of all that were prepared last or added since."""
    known: dict[str, str] = {}
    for split in SPLITS:
        if (index := PREPARED / split / "index.csv").exists():
            with index.open(newline="", encoding="utf-8") as rows:
                known |= {row["digest"]: row["label"] for row in csv.DictReader(rows)}
    for file in folder(source).glob(PATTERN):
        known[pixel_digest(open_image(file.read_bytes(), source.max_pixels))] = file.parent.name
    return known


def write(examples: Sequence[Labeled], source: Source, name: str) -> list[Path]:
    """Writes pictures into the folders of their classes.

    Args:
        examples: Pictures.
        source: The pictures that there are.
        name: Not used: a picture is named by its id.

    Returns:
        The files.
    """
    written = []
    for example in examples:
        path = folder(source) / str(example.actual) / f"production-{example.id}-{example.place}.png"
        with files.replacing(path) as temporary:
            temporary.write_bytes(base64.b64decode(example.example))
        written.append(path)
    return written


def feeds(examples: Sequence[str], description: Description) -> dict[str, NDArray[Any]]:
    """Inputs of the exported model of pictures that the service has kept.

    Args:
        examples: Pictures: PNG in base64.
        description: Content of models/model.json.
    """
    shape, most = tuple(description["shape"]), description["max_pixels"]
    return {"image": np.stack([decode(base64.b64decode(each), shape, most).astype(np.float32) for each in examples])}


def strip(file: Path, name: str, source: Source, person: Person, to: Path | None) -> tuple[int, set[str]]:
    """Whether a picture is the person's, by its name; such a picture has no copy.

    Args:
        file: The picture.
        name: Its path in the folder.
        source: The pictures.
        person: The person.
        to: Where to; None to count only.

    Returns:
        1 or 0, and no ids.
    """
    refuse_column(person)
    stem = Path(name).stem
    if person.has_id(stem.removeprefix("production-")) or name in person.ids:
        return 1, set()
    if to is not None:
        to.write_bytes(file.read_bytes())
    return 0, set()
