"""Dates of a table: one rule for the pipeline, requests and batch prediction.

A date is ISO 8601 text, 2026-01-31 or 2026-01-31T12:30:00+01:00; without a zone it is UTC. For the model it is a number
of days since 1970-01-01 in UTC, with the time as a fraction.
"""

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from .table_notation import Notation

EXAMPLE = "2026-01-31 or 2026-01-31T12:30:00"
_ISO = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?(Z|[+-][0-9]{2}:?[0-9]{2})?)?"
)
_START = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = timedelta(days=1)


class NotADate(ValueError):
    """A cell that is no date; the message is one line for the user."""


def parse(text: str) -> datetime | None:
    """The time that a text spells, in UTC unless it names a zone; None if it is no date."""
    if not _ISO.fullmatch(text):
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:  # no such day
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def date_reader(notation: Notation) -> Callable[[object], float]:
    """A function from a cell of a date column to days since 1970, NaN if missing.

    It raises `NotADate`.

    Args:
        notation: How the cells are written.
    """
    words = frozenset(("", *notation.nulls))

    def read(cell: object) -> float:
        text = cell.strip() if isinstance(cell, str) else cell
        if text is None or (isinstance(text, str) and text in words):
            return math.nan
        if isinstance(text, str) and (time := parse(text)):
            return (time - _START) / _DAY
        raise NotADate(f"{str(cell)[:50]!r} is not a date such as {EXAMPLE}")

    return read
