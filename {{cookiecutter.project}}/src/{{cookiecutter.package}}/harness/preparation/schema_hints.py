"""Hints for a new table: what a person would notice in its columns, each with the key to set."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.errors import shortened
from ..inputs.table_dates import parse
from ..inputs.table_notation import BLANKS, Notation, plain_number
from ..prepared import SPLITS
from . import table_guesses
from .schema import MAX_CATEGORIES
from .table import Table
from .table_cells import as_numpy, convert, holds_no_values
from .table_cells import numbers as as_floats
from .table_guesses import MOSTLY
from .table_review import SAMPLE, leak

if TYPE_CHECKING:
    import pyarrow as pa

NAMED = 10  # maximum number of columns that a hint names
FEW = 12  # maximum number of distinct whole numbers that may be codes
LONG = 30  # mean number of characters from which texts are sentences
CUT = 60  # maximum number of characters of a text in a hint
RARE = 30  # number of examples below which a split may well lack a class
IDENTIFIER = "if it identifies the row, data.id: {name}; else data.drop: {names}"
NEARLY = 0.99  # fraction of rows in which a column gives the target


class Hint(NamedTuple):
    """What is noticed in a column.

    Attributes:
        what: What the column looks like; columns that look alike are named together.
        advice: What to do; `{name}` and `{names}` stand for the name of the first column and the list of all.
        example: A cell, or some.
    """

    what: str
    advice: str
    example: str = ""


class Look(NamedTuple):
    """A column of the first rows.

    Attributes:
        name: Name of the column.
        texts: The cells as texts.
        counts: Distinct text -> number of cells, without missing ones.
        numbers: The cells as numbers, float64 [n], NaN if they are none.
    """

    name: str
    texts: "pa.Array"
    counts: dict[str, int]
    numbers: NDArray[np.float64]

    @property
    def rows(self) -> int:
        """Number of cells that are not missing."""
        return sum(self.counts.values())

    @property
    def pointed(self) -> bool:
        """Whether the column holds numbers with a decimal point."""
        return self.numeric and any("." in text for text in self.counts)

    @property
    def numeric(self) -> bool:
        """Whether the column holds numbers."""
        return 0 < MOSTLY * self.rows <= int(np.isfinite(self.numbers).sum())


def hints(source: Table) -> list[str]:
    """A line for each kind of hint, from the first rows.

    Args:
        source: The table.
    """
    found = {look.name: look for look in looks(source)}
    pointed = any(look.pointed for look in found.values())
    together: dict[tuple[str, str], list[tuple[str, Hint]]] = {}
    for look in found.values():
        for hint in _hints(look, found.get(source.target, look), source):
            if pointed and 'data.decimal: ","' in hint.advice:
                advice = "other columns have a decimal point: write these cells as those, or data.drop: {names}"
                hint = hint._replace(advice=advice)
            together.setdefault((hint.what, hint.advice), []).append((look.name, hint))
    lines = [_line([name for name, _ in alike], alike[0][1]) for alike in together.values()]
    return [*_names([*found.values()], source.notation()), *lines]


def cells(count: int) -> str:
    """A number of cells, in words."""
    return f"{count:,} cell{'s' * (count != 1)}"


def shown(text: str) -> str:
    """A text in quotes, cut if it is long."""
    return repr(text if len(text) <= CUT else text[: CUT - 3] + "...")


def _names(looks: Sequence[Look], notation: Notation) -> Iterator[str]:
    """Hints at the header."""
    numeric = [look.name for look in looks if look.numeric]
    plain = map(plain_number(notation), (name.strip(BLANKS) for name in numeric))
    values = [float(text) for text in plain if text is not None]
    ordered = all(value % 1 == 0 for value in values) and values == sorted({*values})
    if len(values) > 1 and len(values) == len(numeric) and not ordered:  # 1960, 1961... are names
        listed = ", ".join(map(repr, numeric[:FEW]))
        yield f"the header names columns {listed}: is it a row of data? Write a line with names above it"
    if padded := [shown(look.name) for look in looks if look.name != look.name.strip(BLANKS)]:
        yield (
            f"names with blanks at their ends: {', '.join(padded[:NAMED])}: requests must have these blanks as well; "
            "better rename the columns"
        )


def _line(names: list[str], hint: Hint) -> str:
    columns = f"column{'s' * (len(names) > 1)} {shortened([*map(repr, names)], NAMED)}"
    example = f", such as {hint.example}" if hint.example else ""
    quoted = [_quoted(name) for name in names]
    listed = f"[{', '.join(quoted[:NAMED])}{', ...' * (len(names) > NAMED)}]"
    advice = hint.advice.replace("{names}", listed).replace("{name}", quoted[0])
    return f"{columns}: {hint.what}{example}: {advice}"


def _quoted(name: str) -> str:
    """A name as YAML reads it: JSON's texts are YAML's as well."""
    import yaml

    is_plain = re.fullmatch(r"[^\W\d]([\w -]*\w)?", name) and yaml.safe_load(name) == name
    return name if is_plain else json.dumps(name, ensure_ascii=False)


def looks(source: Table) -> Iterator[Look]:
    """Yields the columns of the first rows.

    Args:
        source: The table.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    names, notation = source.header(), source.notation()
    parts: list[pa.RecordBatch] = []
    for part in source.chunks(dict.fromkeys(names, "raw")):
        parts.append(part.values.slice(0, SAMPLE - sum(map(len, parts))))
        if sum(map(len, parts)) >= SAMPLE:
            break
    for name in names if any(map(len, parts)) else ():
        cells = pa.concat_arrays([part.column(name) for part in parts])
        if holds_no_values(cells.type):
            continue  # the inference refuses it
        texts, _ = convert(cells, "text", notation, name)
        counted = pc.value_counts(texts.drop_null())
        counts = dict(zip(counted.field(0).to_pylist(), counted.field(1).to_pylist(), strict=True))
        yield Look(name, texts, counts, as_floats(convert(cells, "number", notation, name)[0]))


def _hints(look: Look, target: Look, source: Table) -> Iterator[Hint]:
    if not look.counts and look is not target:
        yield Hint("no value in any row", "data.drop: {names}")
    if not look.counts or look.name in source.roles - {source.target}:
        return
    yield from _missing(look)
    if look is target:
        yield from [*_notation(look, source), *_rare(look, source), *_alike(look)]
        return
    yield from _leaks(look, target, source)
    if len(look.counts) == 1:
        value, gaps = shown(next(iter(look.counts))), look.texts.null_count
        advice = "a model takes the gap for another value; if it has no meaning, data.drop: {names}"
        yield Hint(f"the single value {value}" + " or none" * bool(gaps), advice if gaps else "data.drop: {names}")
    elif look.name not in source.categories:
        yield from _alike(look)
        yield from [*_notation(look, source), *_dates(look)] or [*(_whole(look) if look.numeric else _texts(look))]


def _missing(look: Look) -> Iterator[Hint]:
    codes = _missing_codes(look)
    words = {text: count for text, count in look.counts.items() if text in codes or table_guesses.missing(text)}
    if words and len(words) < len(look.counts):
        listed = ", ".join(map(repr, sorted(words)))
        yield Hint(
            f"{listed} in {cells(sum(words.values()))}", f"if it means a missing value, add {listed} to data.nulls"
        )


def _missing_codes(look: Look) -> list[str]:
    """Numbers such as -999, far from all others of the column."""
    distinct = np.unique(look.numbers[np.isfinite(look.numbers)])
    if not look.numeric or len(distinct) < 3:
        return []
    low, high = distinct[0], distinct[-1]
    codes = [low] if low in (-9, -99, -999, -9999, -99999) and distinct[1] >= 0 else []
    if high in (999, 9999, 99999, 999999) and low >= 0 and high > 3 * distinct[-2]:
        codes.append(high)
    return [f"{code:.0f}" for code in codes]


def _notation(look: Look, source: Table) -> Iterator[Hint]:
    if not look.numeric and (guess := table_guesses.notation(_readable(look), source.notation())):
        yield Hint(guess.what, guess.advice, repr(guess.example))


def _readable(look: Look) -> dict[str, int]:
    return {text: count for text, count in look.counts.items() if not table_guesses.missing(text)}


def _dates(look: Look) -> Iterator[Hint]:
    example = _date_number(look) if look.numeric else table_guesses.dates(_readable(look))
    if example is None and not look.numeric and (example := table_guesses.clock(_readable(look))):
        yield Hint("times of day or durations", "write them as numbers, or data.drop: {names}", repr(example))
    elif example is not None and parse(example):
        yield Hint(
            "dates", "features, of type: date; if the split should follow them, data.time: {name}", repr(example)
        )
    elif example is not None:
        yield Hint("dates in another notation", "write them as 2026-01-31, or data.drop: {names}", repr(example))


def _date_number(look: Look) -> str | None:
    """A cell of numbers such as 20260131; None if they are no dates."""
    days = look.numbers[np.isfinite(look.numbers)]
    year, month, day = days // 10_000, days // 100 % 100, days % 100
    are_dates = (year >= 1900) & (year <= 2100) & (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)
    return f"{days[0]:.0f}" if are_dates.all() else None


def _whole(look: Look) -> Iterator[Hint]:
    numbers = look.numbers[np.isfinite(look.numbers)]
    if (numbers % 1).any():
        return
    padded = next((text for text in look.counts if re.fullmatch(r"0[0-9]+", text)), "")
    is_row = len(numbers) >= RARE and len(look.counts) == len(numbers) > np.ptp(numbers) / 2
    if is_row:
        yield Hint("a different whole number in each row", IDENTIFIER)
    elif padded:
        yield Hint("whole numbers with leading zeros", "if they are codes, data.categories: {names}", repr(padded))
    elif len(numbers) >= RARE and 2 < len(look.counts) <= FEW:
        listed = ", ".join(f"{number:.0f}" for number in np.unique(numbers)[:4])
        yield Hint("few whole numbers", "if they are codes, data.categories: {names}", listed)


def _alike(look: Look) -> Iterator[Hint]:
    """A hint at texts that differ in capital letters only."""
    spellings: dict[str, list[str]] = {}
    for text in sorted(look.counts) if len(look.counts) <= MAX_CATEGORIES else ():
        spellings.setdefault(text.casefold(), []).append(text)
    if found := next((texts for texts in spellings.values() if len(texts) > 1), None):
        yield Hint(
            "texts that differ in capital letters only",
            "write them alike if they mean the same",
            ", ".join(map(shown, found)),
        )


def _texts(look: Look) -> Iterator[Hint]:
    if look.rows < RARE or len(look.counts) < look.rows / 2 or len(look.counts) > MAX_CATEGORIES:
        return  # the inference tells of still more texts
    if np.mean([len(text) for text in look.counts]) >= LONG:
        yield Hint(
            "free text",
            "data.drop: {names}, or make features of it first",
            shown(next(text for text in look.counts if len(text) >= LONG)),
        )
    elif len(look.counts) == look.rows:
        yield Hint("a different text in each row", IDENTIFIER)


def _rare(look: Look, source: Table) -> Iterator[Hint]:
    if source.problem != "classification" or len(look.counts) > MAX_CATEGORIES:
        return
    if few := sorted(name for name, count in look.counts.items() if count < len(SPLITS)):
        advice = f"add some, or leave the class out: remove it from {source.schema} and set data.on_invalid: drop"
        yield Hint(f"fewer than {len(SPLITS)} rows of {shortened([*map(shown, few)], NAMED)}", advice)
    if source.split == "random":
        name, count = min(look.counts.items(), key=lambda pair: (pair[1], pair[0]))
        if len(SPLITS) <= count < RARE:
            yield Hint(f"class {name!r} has {count} rows", "data.split: stratified, so that no split lacks it")


def _leaks(look: Look, target: Look, source: Table) -> Iterator[Hint]:
    is_class = source.problem == "classification"
    known = as_numpy(target.texts.is_valid()) & (is_class | np.isfinite(target.numbers))
    if not known.any():
        return
    values: Any = _floats(look.numbers[known]) if look.numeric else look.texts.filter(_mask(known))
    targets = (
        as_numpy(target.texts.filter(_mask(known)).dictionary_encode().indices) if is_class else target.numbers[known]
    )
    found = leak(values, targets, source.problem)
    if not found and is_class and not look.numeric:
        found = _nearly(values, targets)
    if found:
        yield Hint(found, "if it is not known when a prediction is made, data.drop: {names}")


def _mask(values: NDArray[np.bool_]) -> "pa.Array":
    import pyarrow as pa

    return pa.array(values)


def _floats(values: NDArray[np.float64]) -> "pa.Array":
    import pyarrow as pa

    return pa.array(values, from_pandas=True)


def _nearly(values: "pa.Array", targets: NDArray[Any]) -> str | None:
    """Description of texts that give the class in almost every row; None if they do not."""
    valid = as_numpy(values.is_valid())
    codes, targets = values.drop_null().dictionary_encode(), targets[valid]
    if len(targets) < RARE or len(codes.dictionary) > len(targets) / 20:
        return None
    table = np.zeros((len(codes.dictionary), int(targets.max()) + 1), np.int64)
    np.add.at(table, (as_numpy(codes.indices), targets), 1)
    share, usual = table.max(axis=1).sum() / len(targets), table.sum(axis=0).max() / len(targets)
    return f"gives the class in {share:.1%} of the rows" if share >= NEARLY > usual + 0.04 else None
