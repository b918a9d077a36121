"""Guesses of what texts mean: numbers in another notation, dates, words for a missing value."""

import codecs
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ..inputs.table_dates import parse
from ..inputs.table_notation import NUMBER, Notation, number_pattern, plain_number
from ..inputs.tables import other_kind

MOSTLY = 0.9  # fraction of the cells from which a column is taken for what they look like

# Decimal mark and mark between thousands, more common ones first: of two that fit equally, the first is taken.
MARKS: Sequence[tuple[str, str | None]] = (
    (".", ","),
    (",", None),
    (",", "."),
    *((decimal, mark) for mark in (" ", "'") for decimal in (".", ",")),
    (".", None),
)
_UNIT = re.compile(r"([^\W\d_]{1,6}[²³]?(/[^\W\d_]{1,3}[²³]?)?|[%‰°$€£¥₹])")
_CURRENCY = re.compile(r"([$€£¥₹]|[A-Z]{3} )")
_PARTS = re.compile(r"([+-]?)([^\d+.,-]*)([+-]?[\d.,' \u2019\u00a0\u202f]*\d)(\s?)(\D*)")
_OTHER_DATE = re.compile(
    r"(\d{1,2}[./-]\d{1,2}[./-](\d{4}|\d\d)|\d{4}[./-]\d{1,2}[./-]\d{1,2}|\d{1,2}[. -]+[A-Za-zä]{3,9}[. -]+(\d{4}|\d\d)"
    r"|[A-Za-z]{3,9} \d{1,2},? \d{4})([T ,]+\d{1,2}:\d\d.*)?"
)
_CLOCK = re.compile(r"-?(\d+ days? )?\d{1,3}:\d\d(:\d\d([.]\d+)?)?( ?[AaPp]\.?[Mm]\.?)?")
_MISSING = re.compile(
    r"[?]+|[-\u2013\u2014]+|[.]+|[*]+|#\S+[!?]|\\N|<NA>|\(?(missing|unknown|unk|nil|none|null|nan|n[.]?a[.]?|n/a"
    r"|not available|not applicable|no data|keine angabe|k[.]?a[.]?|unbekannt)\)?",
    re.IGNORECASE,
)


class Guess(NamedTuple):
    """A notation of numbers.

    Attributes:
        decimal: Mark before the decimals.
        thousands: Mark between groups of three digits, if any.
        unit: Sign or unit beside each number, if any.
        example: A cell in this notation.
    """

    decimal: str
    thousands: str | None
    unit: str
    example: str

    @property
    def advice(self) -> str:
        """The keys to set."""
        if self.unit:
            return "write the cells without it: the column is a category otherwise"
        return "set " + " and ".join(f'data.{key}: "{mark}"' for key, mark in self._keys.items())

    @property
    def _keys(self) -> dict[str, str]:
        thousands = {"thousands": self.thousands} if self.thousands else {}
        return thousands if thousands and self.decimal == "." else {"decimal": self.decimal} | thousands

    @property
    def what(self) -> str:
        """What the cells look like, in words."""
        if self.unit:
            return f"numbers with {self.unit!r}"
        marks = {".": "a point", ",": "a comma", "'": "an apostrophe"}
        parts = [f"a decimal {'comma' if self.decimal == ',' else 'point'}"] if "decimal" in self._keys else []
        parts += [f"{marks.get(self.thousands, 'a blank')} between thousands"] if self.thousands else []
        return f"numbers with {' and '.join(parts)}"


_PATTERNS = [(decimal, mark, re.compile(number_pattern(decimal, mark))) for decimal, mark in MARKS]


def notation(counts: Mapping[str, int], configured: Notation) -> Guess | None:
    """The notation of texts that are mostly numbers; None if they are not, or can be read as configured.

    Args:
        counts: Text -> number of cells.
        configured: The configured notation.
    """
    read, plain = plain_number(configured), re.compile(NUMBER)
    total = sum(counts.values())
    if sum(count for text, count in counts.items() if read(text) is not None) >= MOSTLY * total:
        return None
    if guess := _marks(counts, total):
        return guess
    cores: dict[tuple[str, str], dict[str, int]] = {}
    for text, count in counts.items():
        if parts := _PARTS.fullmatch(text):
            sign, before, number, _, after = parts.groups()
            if (not before or _CURRENCY.fullmatch(before)) and (not after or _UNIT.fullmatch(after)):
                cell = cores.setdefault((before, after), {})
                cell[sign + number] = cell.get(sign + number, 0) + count
    for (before, after), numbers in cores.items():
        if (before or after) and len(numbers) >= 10 and sum(numbers.values()) >= MOSTLY * total:
            guess = _marks(numbers, total) or Guess(".", None, "", "")
            if all(plain.fullmatch(text) for text in numbers) or guess.example:
                example = next(text for text in counts if before in text and after in text)
                return guess._replace(unit=(before or after).strip(), example=example)
    return None


def _marks(counts: Mapping[str, int], total: int) -> Guess | None:
    """The marks with which most texts are numbers; None if they are too few, or no text has a mark."""
    best, most = None, MOSTLY * total
    for decimal, thousands, number in _PATTERNS:
        cells = {text: count for text, count in counts.items() if number.fullmatch(text)}
        marks = {mark for mark in (decimal if decimal == "," or not thousands else None, thousands) if mark}
        example = max(cells, key=lambda text: (len(marks & {*text}), text), default="")
        if marks & {*example} and (sum(cells.values()) > most or (best is None and sum(cells.values()) == most)):
            best, most = Guess(decimal, thousands, "", example), sum(cells.values())
    return best


def dates(counts: Mapping[str, int]) -> str | None:
    """A cell of texts that are mostly dates; None if they are not.

    Args:
        counts: Text -> number of cells.
    """
    for is_date in (parse, _OTHER_DATE.fullmatch):
        cells = {text: count for text, count in counts.items() if is_date(text)}
        if cells and sum(cells.values()) >= MOSTLY * sum(counts.values()):
            return next(iter(cells))
    return None


def clock(counts: Mapping[str, int]) -> str | None:
    """A cell of texts that are all times of day, or durations; None if they are not.

    Args:
        counts: Text -> number of cells.
    """
    return next(iter(counts), None) if all(map(_CLOCK.fullmatch, counts)) else None


def undecodable(path: Path, encoding: str) -> str:
    """What a file is that is not in an encoding, and what to do.

    Args:
        path: The file.
        encoding: The configured encoding.
    """
    with path.open("rb") as file:
        beginning = file.read(1 << 16)
    likely = "cp1252"  # as Windows writes in western Europe
    if beginning.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        likely = "utf-16"
    else:
        with suppress(UnicodeDecodeError):
            codecs.getincrementaldecoder("utf-8")().decode(beginning)
            likely = "utf-8"
    advice = f"is not {encoding}: set data.encoding (it may be {likely}), or save the file as UTF-8"
    return other_kind(beginning) or advice


def single_column(name: str, below: Sequence[str], delimiters: Sequence[str]) -> str:
    """What may be wrong with a file of a single column.

    Args:
        name: Name of the column.
        below: Cells of the row below it.
        delimiters: Characters that may separate cells.
    """
    if looks := [character for character in delimiters if character in name]:
        return f" It looks like {looks[0]!r}"
    if len(below) > 1:
        return " If there is a line above the header, remove it"
    is_padded = below and len(below[0].split()) >= len(name.split()) > 1
    return " Blanks between cells are no delimiter: save the file with commas" if is_padded else ""


def missing(text: str) -> bool:
    """Whether a text may be a word for a missing value."""
    return bool(_MISSING.fullmatch(text.strip()))
