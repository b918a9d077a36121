"""Whose data are erased, and the rows of it in segments and ledgers."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..capture.contracts import Privacy
from ..capture.segments import ENCRYPTED
from ..core.errors import UserError
from .reading import Segments

if TYPE_CHECKING:
    from pyrage.x25519 import Identity


ANSWER = re.compile("[0-9a-f]{32}(?=-|$)")  # an id of an answer, also before the position in it


class Person(NamedTuple):
    """Whose data are erased.

    Attributes:
        ids: Ids of answers, or of rows (`data.id`).
        column: Column of a table by which rows are found; empty for none.
        value: Its value.
        key: SERVICE_LOG_KEY, with which private values are hashed in segments; empty if unknown.
        answers: Of a file of rows from production: the id of the answer that each row comes from.
    """

    ids: frozenset[str]
    column: str = ""
    value: str = ""
    key: bytes = b""
    answers: Sequence[str] = ()

    def has_id(self, text: object) -> bool:
        """Whether a text is one of the ids, or names a row of an answer: the id, and its position."""
        answer = ANSWER.match(str(text))
        return str(text) in self.ids or (answer is not None and answer[0] in self.ids)

    def has_value(self, cell: object) -> bool:
        """Whether a cell of the column has the value."""
        text = "" if cell is None else str(cell).strip()
        if text == self.value or (self.key and text in _hashes(self.value, self.key)):
            return True
        try:
            return float(text) == float(self.value)
        except ValueError:
            return False

    def is_line(self, line: Mapping[str, Any]) -> bool:
        """Whether a line of a segment is a request with the person among its rows."""
        if "request" not in line:
            return False
        rows = line["request"].get("instances", [])
        by_value = bool(self.column) and any(self.column in row and self.has_value(row[self.column]) for row in rows)
        return by_value or line["id"] in self.ids


@cache  # asked for each cell of the column
def _hashes(value: str, key: bytes) -> frozenset[str | None]:
    """The hashes of a private value: as text, and as a number if it is one."""
    hashed = Privacy({}, key).hash
    try:
        return frozenset([hashed(value), hashed(float(value))])
    except ValueError:
        return frozenset([hashed(value)])


def strip_segment(
    file: Path, name: str, person: Person, identities: Sequence[Identity], to: Path | None
) -> tuple[int, set[str]]:
    """Copies a segment without the person: a request with a row of it goes as a whole, with all feedback on it.

    Args:
        file: The segment, under any name.
        name: Its name.
        person: The person.
        identities: What decrypts it; the first one's recipient can read the copy.
        to: Where to; None to count only.

    Returns:
        Number of lines of the person, and the ids of its requests.
    """
    kept, count, ids = [], 0, set()
    for line in Segments([file], identities).lines(encrypted=name.endswith(ENCRYPTED)):
        if person.is_line(line):
            count += 1
            ids.add(str(line["id"]))
            continue
        if "feedback" in line:
            items = [item for item in line["feedback"] if item["id"] not in person.ids]
            count += len(line["feedback"]) - len(items)
            line = line | {"feedback": items}
            if not items:
                continue
        kept.append(json.dumps(line, separators=(",", ":")).encode() + b"\n")
    if to is not None:
        data = gzip.compress(b"".join(kept), mtime=0)
        if name.endswith(ENCRYPTED):
            import pyrage

            data = pyrage.encrypt(data, [identities[0].to_public()])
        to.write_bytes(data)
    return count, ids


def strip_ledger(file: Path, person: Person, to: Path | None) -> int:
    """Copies a ledger without examples of the person; returns their number.

    Args:
        file: The ledger.
        person: The person.
        to: Where to; None to count only.
    """
    header, *rows = list(csv.reader(io.StringIO(file.read_text(encoding="utf-8")))) or [[]]
    kept = [row for row in rows if row and row[0] not in person.ids]
    if to is not None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([header, *kept])
        to.write_text(text.getvalue(), encoding="utf-8")
    return len(rows) - len(kept)


def refuse_column(person: Person) -> None:
    """Rejects a search by column, which pictures do not have.

    Raises:
        UserError: If the person is searched by a column.
    """
    if person.column:
        raise UserError("--where: pictures have no columns: name the answer or the file with --id")
