"""The command `erase`: removes a person from data of production and of training, and says where it still is."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import click

from .. import audit, configuration
from ..capture.segments import SUFFIX
from ..capture.settings import PREFIX
from ..core import config, files
from ..core.commands import FILE
from ..core.errors import UserError
from ..tracking import store
from . import destination, history
from .collect import SEGMENTS, track, tracked
from .contracts import Destination
from .person import Person, strip_ledger, strip_segment
from .reading import identities

NOT_UNLEARNED = "A model that has learned from these data still has: train and register a new one, retire the others."


class Place(NamedTuple):
    """A folder or file in which the person may be.

    Attributes:
        path: The folder or file.
        is_production: Whether it holds segments.
    """

    path: Path
    is_production: bool

    def files(self) -> Iterator[Path]:
        """Yields its files, hidden ones too."""
        found = sorted(self.path.rglob("*")) if self.path.is_dir() else [self.path]
        yield from (file for file in found if file.is_file() and not file.name.startswith(".git"))


class Eraser:
    """A person, and the formats in which it may be."""

    def __init__(self, person: Person, source: Any, environment: Mapping[str, str]) -> None:
        """Prepares to read.

        Args:
            person: The person.
            source: The data source.
            environment: The environment variables.
        """
        self.person = person
        self._source, self._identities = source, identities(environment)
        self._writer: Destination = destination(source.input)

    def strip(self, file: Path, name: str, to: Path | None) -> int:
        """Copies a file without the person; returns the number of its rows, pictures or lines.

        Ids of answers that are found belong to the person from now on.

        Args:
            file: The file, under any name.
            name: Its path in its folder.
            to: Where to; None to count only.
        """
        ids: set[str] = set()
        if SUFFIX in Path(name).name:
            count, ids = strip_segment(file, name, self.person, self._identities, to)
        elif Path(name).name.startswith(".production-"):
            count = strip_ledger(file, self.person, to)
        elif Path(name).name.startswith("."):
            return 0
        else:
            person = self.person._replace(answers=_answers(file))
            count, ids = self._writer.strip(file, name, self._source, person, to)
        self.person = self.person._replace(ids=self.person.ids | ids)
        return count

    def count(self, place: Place) -> dict[Path, int]:
        """File -> number of rows of the person, of files that have any."""
        found = {file: self.strip(file, self._name(file, place), None) for file in place.files()}
        return {file: count for file, count in found.items() if count}

    def erase(self, place: Place, file: Path) -> None:
        """Rewrites a file without the person; a picture of it is removed.

        Args:
            place: Where the file is.
            file: The file.
        """
        if self._source.input == "images" and not place.is_production and not file.name.startswith("."):
            file.unlink()  # a picture, of any format
            return
        with files.replacing(file) as temporary:
            self.strip(file, self._name(file, place), temporary)

    def holds(self, file: Path, name: str) -> bool:
        """Whether an old version of a file has the person."""
        return self.strip(file, name, None) > 0

    @staticmethod
    def _name(file: Path, place: Place) -> str:
        return file.name if file == place.path else file.relative_to(place.path).as_posix()


def erase(person: Person, environment: Mapping[str, str], folder: Path = SEGMENTS) -> str:
    """Erases a person from the configured source and from what the service has kept; returns a report.

    Args:
        person: The person.
        environment: The environment variables.
        folder: Folder of the segments; it may be absent.

    Raises:
        UserError: If the person is nowhere, or data are imported.
    """
    source = config.instantiate(configuration.parse(config.compose())["data"])
    places = [Place(folder, True)] if folder.exists() else []
    if source.path is not None and Path(source.path).exists():
        places.insert(0, Place(Path(source.path), False))
    copies = [Place(SEGMENTS, True)] if SEGMENTS.exists() and folder.resolve() != SEGMENTS.resolve() else []
    eraser = Eraser(person, source, environment)
    found: dict[Path, int] = {}
    known: frozenset[str] | None = None
    while known != eraser.person.ids:  # a row leads to its answer, and an answer to its rows
        known = eraser.person.ids
        found = {file: count for place in places for file, count in eraser.count(place).items()}
    stale = [place.path for place in copies if eraser.count(place)]  # before anything is erased: it may need a key
    roots = {place: root for place in (*places, *copies) if (root := tracked(place.path))}
    touched = [place for place in places if any(file in found for file in place.files())]
    for place in touched:
        _refuse_import(roots.get(place))
    audit.record("erase", by_column=person.column or None, files=len(found), rows=sum(found.values()))
    for place in touched:
        # A ledger comes after the file of its rows, which it names by their order.
        for file in sorted(set(place.files()) & found.keys(), key=lambda file: (file.name.startswith("."), file)):
            eraser.erase(place, file)
    targets = [roots[place] for place in touched if place in roots]
    changed = track(targets) if targets else []
    holders = dict.fromkeys(roots.values(), eraser.holds)
    with store.in_one_line():
        kept = history.search(holders) if holders else history.Kept([], [], [])
    if not found and not kept.commits and not stale:
        raise UserError("nobody is found by this: look at the column's name and value in the table, or the id")
    return "\n".join([*_report(found, kept, changed), *map(_stale, stale)]) + "\n"


def _answers(file: Path) -> list[str]:
    """The id of the answer of each row in a file that `collect` has written, from its ledger; [] for other files."""
    path = file.with_name(f".{file.stem}.csv")
    if not (file.stem.startswith("production-") and path.is_file()):
        return []
    with path.open(newline="", encoding="utf-8") as rows:
        return [row["id"] for row in csv.DictReader(rows)]


def _refuse_import(root: Path | None) -> None:
    """Rejects data that `dvc update` would bring back.

    Raises:
        UserError: If DVC imports them.
    """
    from yaml import safe_load

    content = safe_load(Path(f"{root}.dvc").read_text(encoding="utf-8")) if root else {}
    if "deps" in content:
        raise UserError(
            f"{root} is imported from {content['deps'][0]['path']}: erase there first (of segments, FOLDER), then "
            f"`dvc update {root}.dvc`"
        )


def _stale(path: Path) -> str:
    return f"{path} is a copy that still has it: `dvc update {path}.dvc`, then commit, or erase there, too"


def _report(found: Mapping[Path, int], kept: history.Kept, changed: list[Path]) -> Iterator[str]:
    yield f"erased from {len(found)} file(s):" if found else "no file of the workspace has it"
    yield from (f"  {file}: {count:,}" for file, count in found.items())
    if kept.commits:
        yield "still in the data of these commits:"
        yield from (f"  {commit}" for commit in kept.commits)
    if kept.models:
        yield "models that were made of such data:"
        yield from (f"  {model}" for model in kept.models)
    if kept.unknown:
        yield "unknown, because the data are not in this cache (`dvc fetch --all-commits` brings them):"
        yield from (f"  {commit}" for commit in kept.unknown)
    if changed:
        named = " ".join(map(str, changed))
        yield f"\nNext: dvc repro && git add {named} dvc.lock params.yaml machine.json && git commit"
    if kept.commits:
        yield "Then `dvc gc --workspace --cloud` removes the data of all other commits, here and in the remote."
    yield NOT_UNLEARNED


@click.command()
@click.argument("folder", type=FILE, default=SEGMENTS)
@click.option("--id", "name", default="", help="Id of an answer, or of a row (data.id).")
@click.option("--where", default="", metavar="COLUMN=VALUE", help="Rows of the table with this value.")
def command(folder: Path, name: str, where: str) -> None:
    """Erase a person from data of production and of training.

    FOLDER has the segments that the service has kept, data/production by default. A request with a row of the person
    goes as a whole. SERVICE_LOG_IDENTITY names the file with the secret key that decrypts segments, SERVICE_LOG_KEY is
    the key of hashed columns.
    """
    import os

    column, _, value = where.partition("=")
    if bool(name) == bool(where) or (where and not (column and value)):
        raise UserError("name the person by either --id ID or --where COLUMN=VALUE")
    key = os.environ.get(f"{PREFIX}KEY", "").encode()
    print(erase(Person(frozenset([name] if name else []), column, value, key), os.environ, folder), end="")
