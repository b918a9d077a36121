"""Bins of a variable: their names, and the bin of each value.

A bin is described in JSON, so that the service sorts values as `evaluate` did:

type     `number` or `date` (deciles, with the smallest and largest value), `range` (deciles without ends), `category`,
         or `choice` (one of a few names)
bins     names for people, in order
edges    of a number or date: smallest value, upper ends of the bins; of a range: ends between the bins
levels   of a category or choice: those with a bin of their own
others   of a category: other levels that were seen; None if these are too many to tell from new ones
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bins = Mapping[str, Any]
Place = Callable[[NDArray[Any]], NDArray[np.int64]]  # values [N] -> index of the bin of each, [N]
ENOUGH = ((400, 10), (100, 5))  # rows from which on there are this many deciles
LEVELS = {10: 20, 5: 5}  # number of deciles -> of the most frequent levels of a category
LEAST = 5  # rows of a bin
SEEN = 200  # number of rare levels that are remembered
LONGEST = 60  # characters of a level in the name of its bin
MISSING, OTHER, NEW = "missing", "other", "never seen"


def deciles(rows: int) -> int:
    """Number of bins that so many rows of a reference allow; 0 if they are too few.

    With fewer rows or more bins, the evidence of drift exceeds its limit by chance too often.
    """
    return next((count for enough, count in ENOUGH if rows >= enough), 0)


def numbers(values: NDArray[np.float64], is_date: bool = False) -> Bins | None:
    """Bins of a number or date: quantiles, below and above what was seen, missing; None if nothing was seen.

    Args:
        values: Values of the reference, float64 [N], NaN if missing.
        is_date: Whether they are days since 1970-01-01.
    """
    known = np.sort(values[~np.isnan(values)])
    if not len(known):
        return None
    edges = [float(known[0]), *_quantiles(known, deciles(len(values))), float(known[-1])]
    texts = [_date(edge) for edge in edges] if is_date else _texts(edges)
    names = [f"below {texts[0]}", *map(_between, texts, texts[1:]), f"above {texts[-1]}", MISSING]
    return {"type": "date" if is_date else "number", "edges": edges, "bins": names}


def ranges(values: NDArray[np.float64]) -> Bins:
    """Bins of a number that is never missing: quantiles; the first and the last one have no end.

    Args:
        values: Values of the reference, float64 [N].
    """
    edges = _quantiles(np.sort(values), deciles(len(values)))
    # An edge of probabilities may be nearly 1, and must not look like it.
    texts = _texts([*edges, 0.0, 1.0])[: len(edges)]
    names = [f"up to {texts[0]}", *map(_between, texts, texts[1:]), f"above {texts[-1]}"] if edges else ["all"]
    return {"type": "range", "edges": edges, "bins": names}


def categories(values: Sequence[str], rows: int) -> Bins:
    """Bins of a category: the most frequent levels, other ones, those never seen, missing.

    Args:
        values: Values of the reference, "" if missing.
        rows: Number of rows of the reference, by which the number of bins is chosen.
    """
    counts = Counter(values)
    counts.pop("", None)
    levels = [level for level in _frequent(counts)[: LEVELS[deciles(rows)]] if counts[level] >= LEAST]
    others = sorted({*counts} - {*levels})
    names = [*_names(levels), *([OTHER] if others else []), *([NEW] if len(others) <= SEEN else []), MISSING]
    return {"type": "category", "levels": levels, "others": others if len(others) <= SEEN else None, "bins": names}


def choices(levels: Sequence[str], values: Sequence[str]) -> Bins:
    """Bins of one of several names, all of which are known; of many, the most frequent ones and the others.

    Args:
        levels: The names.
        values: Values of the reference.
    """
    most = max(LEVELS.values())
    if len(levels) > most:
        levels = _frequent(Counter(values))[:most]
        return {"type": "choice", "levels": levels, "bins": [*_names(levels), OTHER]}
    return {"type": "choice", "levels": [*levels], "bins": _names(levels)}


def labels(bins: Bins) -> Sequence[str]:
    """Names of the bins in metrics, which sort as the bins do.

    Grafana sorts them as text.

    Args:
        bins: Content of a variable of models/reference.json.
    """
    names: Sequence[str] = bins["bins"]
    if bins["type"] in ("category", "choice"):
        return names
    return [f"{index:02} {name}" for index, name in enumerate(names)]


def place(bins: Bins) -> Place:
    """The function that sorts values into bins.

    Args:
        bins: Content of a variable of models/reference.json.
    """
    if bins["type"] in ("category", "choice"):
        return _place_level(bins)
    edges = np.array(bins["edges"], np.float64)

    def in_range(values: NDArray[Any]) -> NDArray[np.int64]:
        found: NDArray[np.int64] = edges.searchsorted(values).astype(np.int64)
        return found

    def in_number(values: NDArray[Any]) -> NDArray[np.int64]:
        found: NDArray[np.int64] = edges[1:].searchsorted(values).astype(np.int64) + 1
        found[values < edges[0]] = 0
        found[np.isnan(values)] = len(edges) + 1
        return found

    return in_range if bins["type"] == "range" else in_number


def reference_rows(bins: Bins, values: NDArray[Any]) -> NDArray[np.int64]:
    """Number of reference rows in each bin, int64 [K], each row sorted as if it were not one of the reference.

    Otherwise no row of the reference could be below, above or never seen, and production, of which some rows always
    are, would differ from it. New to the rest are the smallest and the largest row, and levels that occur once.

    Args:
        bins: Bins made from the same values.
        values: Values of the reference, [N].
    """
    places = place(bins)(values)
    if bins["type"] in ("number", "date"):
        for index, edge in ((0, bins["edges"][0]), (len(bins["edges"]), bins["edges"][-1])):
            ends = np.flatnonzero(values == edge)
            if len(ends) == 1:
                places[ends] = index
    elif bins["type"] == "category" and NEW in bins["bins"]:
        counts = Counter(values.tolist())
        once = np.array([counts[level] == 1 and level != "" for level in values.tolist()], bool)
        places[once] = bins["bins"].index(NEW)
    return np.bincount(places, minlength=len(bins["bins"]))


def _place_level(bins: Bins) -> Place:
    last = len(bins["bins"]) - 1
    places = {level: index for index, level in enumerate(bins["levels"])}
    rest = last
    if bins["type"] == "category":
        places |= dict.fromkeys(bins["others"] or [], len(bins["levels"])) | {"": last}
        rest = last - 1  # never seen; or other, if new levels are not told from these

    def in_level(values: NDArray[Any]) -> NDArray[np.int64]:
        return np.array([places.get(value, rest) for value in values.tolist()], np.int64)

    return in_level


def _frequent(counts: Counter[str]) -> list[str]:
    return sorted(counts, key=lambda level: (-counts[level], level))


def _quantiles(known: NDArray[np.float64], count: int) -> list[float]:
    """Upper ends of all bins but the last one: values that occur, without ties and bins of fewer than LEAST rows."""
    edges: list[float] = []
    begin = 0
    spread = float(known[-1] - known[0])
    # To a millionth of the spread: more would differ between processors, and nobody reads them.
    decimals = 6 - math.ceil(math.log10(spread)) if spread else 0
    for step in range(1, count):
        edge = round(float(known[len(known) * step // count]), decimals)
        end = int(known.searchsorted(edge, "right"))
        if end - begin >= LEAST and len(known) - end >= LEAST:
            edges.append(edge)
            begin = end
    return edges


def _between(low: str, high: str) -> str:
    return high if low == high else f"{low} to {high}"


def _texts(edges: Sequence[float]) -> list[str]:
    """Numbers with as few digits as tell them apart, three at least."""
    different = len({*edges})
    digits = next(digits for digits in range(3, 18) if len({f"{edge:.{digits}g}" for edge in edges}) == different)
    return [f"{edge:.{digits}g}" for edge in edges]


def _date(days: float) -> str:
    return (datetime(1970, 1, 1) + timedelta(days=days)).isoformat(timespec="minutes").removesuffix("T00:00")


def _names(levels: Sequence[str]) -> list[str]:
    """Names of levels: one in quotes if it is called as another bin, numbered if it is long."""
    return [
        f"{level[:LONGEST]}... ({index})"
        if len(level) > LONGEST
        else repr(level)
        if level in (MISSING, OTHER, NEW)
        else level
        for index, level in enumerate(levels)
    ]
