"""The value of a table's cell: one rule for the pipeline, requests, batch prediction and the SavedModel.

A cell is a text (as in every CSV file), a number, a truth value, or missing. Equal values have one canonical text:

    2, 2.0, "2.0"                                          "2"      pandas writes integers beside a gap as 2.0
    True, "True", "TRUE"                                   "true"
    2026-01-31 as a date or time, "2026-01-31T00:00:00Z"   "2026-01-31"
    08:05 as a time of day, "08:05:00.000"                 "08:05:00"
    " income" (blanks at its ends)                         "income"
    NaN, None, "", a word of `Notation.nulls`              missing

In a column of numbers, a text is the number that it spells, and true and false are 1 and 0.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ..contracts import Description

NULLS = ("NA", "N/A", "#N/A", "n/a", "NaN", "nan", "NULL", "null")  # words for a missing value, unless configured
UTF_8 = "utf-8"
LARGEST = 3.4028234663852886e38  # the maximum of float32, in which the model computes
# float() alone would also accept 1_000 and non-ASCII digits, which CSV readers reject.
NUMBER = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
TRUTH = {"true": 1.0, "True": 1.0, "TRUE": 1.0, "false": 0.0, "False": 0.0, "FALSE": 0.0}
BLANKS = " \t\r\n\u00a0"  # at the ends of a cell, without a meaning
_DATE, _TIME = r"([0-9]{4}-[0-9]{2}-[0-9]{2})", r"([0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]*[1-9])?\.?0*"
_CLOCK = r"([0-9]{2}:[0-9]{2}:[0-9]{2})"
# Pattern -> replacement, applied one after another; in the syntax that `re` shares with RE2, for the SavedModel.
REWRITES = (
    (f"^[{BLANKS}]+", ""),
    (f"[{BLANKS}]+$", ""),
    (r"^(-?[0-9]+)\.0+$", r"\1"),
    (r"^-0$", "0"),
    (r"^(True|TRUE)$", "true"),
    (r"^(False|FALSE)$", "false"),
    (rf"^{_DATE}[ T]{_TIME}(Z|[+]00:?00)?$", r"\1 \2\3"),
    (rf"^{_DATE}[ T]{_TIME}([+-][0-9][0-9]):?([0-9][0-9])$", r"\1 \2\3\4:\5"),
    (rf"^{_DATE} 00:00:00$", r"\1"),
    (rf"^{_CLOCK}[.]0+$", r"\1"),
    (rf"^{_CLOCK}([.][0-9]*[1-9])0+$", r"\1\2"),
)
_REWRITES = [(re.compile(pattern), replacement) for pattern, replacement in REWRITES]
_NUMBER = re.compile(NUMBER)
_ALIKE = {" ": "[ \u00a0\u202f]", "'": "['\u2019]"}  # mark between thousands -> those that look like it
_SPECIAL = {"nan": math.nan, "inf": math.inf, "infinity": math.inf}
_REWRITTEN = re.compile("|".join(f"(?:{pattern})" for pattern, _ in REWRITES))  # one look instead of seven


class NotANumber(ValueError):
    """A cell that is no number; the message is one line for the user."""


class TooLarge(NotANumber):
    """A number that the model cannot compute with."""


class Notation(NamedTuple):
    """How the cells of a table are written.

    Attributes:
        nulls: Words for a missing value, besides the empty text.
        spellings: Column -> canonical text -> level, for levels that the schema spells in another way.
        decimal: Mark before the decimals of a number in a text.
        thousands: Mark between groups of three digits of a number in a text; None for none.
        encoding: Encoding of the CSV files; those in requests and batch prediction may be UTF-8 as well.
    """

    nulls: Sequence[str] = NULLS
    spellings: Mapping[str, Mapping[str, str]] = {}
    decimal: str = "."
    thousands: str | None = None
    encoding: str = UTF_8

    @property
    def plain(self) -> bool:
        """Whether numbers are written as in Python and JSON."""
        return self.decimal == "." and not self.thousands

    def describe(self) -> dict[str, Any]:
        """The content of `notation` in models/model.json."""
        spelled = {"spellings": dict(self.spellings)} if self.spellings else {}
        marks = {} if self.plain else {"decimal": self.decimal, "thousands": self.thousands}
        encoding = {} if self.encoding == UTF_8 else {"encoding": self.encoding}
        return {"nulls": list(self.nulls)} | spelled | marks | encoding


def notation(description: Description) -> Notation:
    """The notation that a model was trained with.

    Args:
        description: Content of models/model.json.
    """
    # Before models recorded it, `None` was one of the words.
    return Notation(**description.get("notation", {"nulls": [*NULLS, "None"]}))


def canonical(text: str) -> str:
    """The canonical text of a value, from any text of it."""
    text = text.strip(BLANKS)
    if _REWRITTEN.fullmatch(text):
        for pattern, replacement in _REWRITES:
            text = pattern.sub(replacement, text)
    return text


def spellings(levels: Iterable[str]) -> dict[str, str]:
    """Canonical text -> level, for levels of a column that have another spelling.

    If the levels are true and false, 1 and 0 mean the same, and the other way round. A code without its leading zeros,
    as spreadsheets and pandas write it, is the code, unless it is another level.

    Args:
        levels: The levels in the schema.
    """
    known = {canonical(level): level for level in levels}
    alike = {"true": "1", "false": "0"}
    for words in (alike, {number: word for word, number in alike.items()}):
        if known and known.keys() <= words.keys():
            known |= {words[word]: level for word, level in known.items()}
    codes = [level for level in known.values() if re.fullmatch(r"0[0-9]+", level)]
    bare = [code.lstrip("0") or "0" for code in codes]
    shorter = {text: code for text, code in zip(bare, codes, strict=True) if bare.count(text) == 1}
    return {text: level for text, level in (shorter | known).items() if text != level}


def number_pattern(decimal: str, thousands: str | None) -> str:
    """Regular expression of a number with these marks.

    Args:
        decimal: Mark before the decimals.
        thousands: Mark between groups of three digits; None for none.
    """
    digits, mark = "[0-9]+", re.escape(decimal)
    if thousands:
        digits = f"(?:[1-9][0-9]?[0-9]?(?:{_ALIKE.get(thousands, re.escape(thousands))}[0-9][0-9][0-9])+|{digits})"
    return rf"[+-]?(?:{digits}(?:{mark}[0-9]*)?|{mark}[0-9]+)(?:[eE][+-]?[0-9]+)?"


def plain_number(notation: Notation) -> Callable[[str], str | None]:
    """A function from a number as it is written to one that `float` reads, None if it is none."""
    if notation.plain:
        return lambda text: text if _NUMBER.fullmatch(text) else None
    number = re.compile(number_pattern(notation.decimal, notation.thousands))
    removed = re.compile(f"[^0-9eE+{re.escape(notation.decimal)}-]")

    def plain(text: str) -> str | None:
        return removed.sub("", text).replace(notation.decimal, ".") if number.fullmatch(text) else None

    return plain


def number_reader(notation: Notation) -> Callable[[object], float]:
    """A function from a cell of a number column to a float, NaN if missing.

    It raises `NotANumber`, or `TooLarge`.

    Args:
        notation: How the cells are written.
    """
    words = frozenset(("", *notation.nulls))
    missing, plain = null_numbers(notation), plain_number(notation)

    def read(cell: object) -> float:
        text = cell.strip() if isinstance(cell, str) else None
        if cell is None or text in words:
            return math.nan
        number = _float(cell if text is None else text, plain)
        if number is not None and -LARGEST <= number <= LARGEST:
            return math.nan if number in missing else number
        if number is None or math.isinf(number):
            raise (NotANumber if number is None else TooLarge)(f"{_shown(cell)} is not a finite number")
        if math.isnan(number):
            return number
        raise TooLarge(f"{_shown(cell)} is too large for the 32-bit numbers of the model")

    return read


def _float(value: object, plain: Callable[[str], str | None]) -> float | None:
    """A value as a float, infinite if too large for one; None if it is no number."""
    if isinstance(value, str):
        text = plain(value)
        return float(text) if text is not None else _SPECIAL.get(value.lstrip("+-").lower(), TRUTH.get(value))
    if not isinstance(value, bool | int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf


def null_numbers(notation: Notation) -> frozenset[float]:
    """The numbers among the words for a missing value, such as -999."""
    return frozenset(float(word) for word in notation.nulls if _NUMBER.fullmatch(word))


def level_reader(notation: Notation, column: str) -> Callable[[object], str]:
    """A function from a cell of a category to its level, "" if missing.

    It raises ValueError for a cell that is no text, number or truth value.

    Args:
        notation: How the cells are written.
        column: Name of the column.
    """
    words = frozenset(("", *notation.nulls))
    levels = notation.spellings.get(column, {})

    def read(cell: object) -> str:
        if not isinstance(cell, str):
            if cell is None or cell != cell:
                return ""
            if not isinstance(cell, bool | int | float):
                raise ValueError(f"{_shown(cell)} is not a text, a number, true or false")
            cell = str(cell)
        if cell in words:
            return ""
        text = canonical(cell)
        return "" if text in words else levels.get(text, text)

    return read


def _shown(cell: object) -> str:
    text = repr(cell if not isinstance(cell, str) else cell[:50])
    return text if len(text) <= 60 else text[:57] + "..."
