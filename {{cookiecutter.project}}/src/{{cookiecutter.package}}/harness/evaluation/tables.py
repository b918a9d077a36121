"""Table rows in the model card and on the service's page."""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..contracts import Manifest
from ..core import text
from ..preparation import schema
from ..prepared import SPLITS
from ..prepared import manifest as read_manifest
from ..prepared.tables import NAME, column, date_text, load, requests
from ..prepared.tables import groups as group_of_rows
from .metrics import grouped

if TYPE_CHECKING:
    import pyarrow as pa

QUANTILES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)  # not the ends, which are values of few
LEVELS = 20  # maximum number of levels of a category


def form(section: Mapping[str, Any], manifest: Manifest) -> dict[str, Any]:
    """Facts for the service's page, from the schema of the table.

    Args:
        section: Section `data` of the configuration.
        manifest: Manifest of the prepared data.

    Returns:
        properties: Column -> nullable, and minimum, maximum, choices and private if they are defined; of a private
            column only the last.
        range: Minimum and maximum of the target; None if it has no bounds.
    """
    described = schema.load(Path(section["schema"]))
    properties = {}
    for name in (each["name"] for each in manifest["columns"]):
        column = described[name]
        bounds: dict[str, Any] = {"minimum": column.min, "maximum": column.max, "choices": column.categories}
        if column.private:
            bounds = {"private": column.private}
        known = {key: value for key, value in bounds.items() if value is not None}
        properties[name] = {**known, "nullable": column.nulls > 0}
    target = described[manifest["target_name"]]
    return {"properties": properties, "range": None if None in (target.min, target.max) else [target.min, target.max]}


def private() -> set[str]:
    """Columns whose values stand in no report and no file of the service."""
    return schema.private()


def examples(rows: Sequence[int]) -> list[dict[str, Any]]:
    """Rows of the test split, as inputs of the service.

    Args:
        rows: Indices of the rows.

    Returns:
        For each row, `instance`: column -> value, None if missing or private.
    """
    hidden = private()
    return [{"instance": row | dict.fromkeys(hidden & row.keys())} for row in requests("test", rows)]


def row_names(rows: Sequence[int]) -> list[str]:
    """Names of rows of the test split in reports: file and row, or the id; if that is private, the position.

    Args:
        rows: Indices of the rows.
    """
    if read_manifest().get("id") in private():
        return [f"test row {row}" for row in rows]
    texts: list[str] = load("test")[NAME].take(list(rows)).to_pylist()
    return texts


def columns(manifest: Manifest) -> list[str]:
    """Names by which rows can be grouped: the model's columns and `data.group`.

    Args:
        manifest: Manifest of the prepared data.
    """
    names = [column["name"] for column in manifest["columns"]]
    group = manifest.get("group")  # not an input of the model
    return names if group is None else [*names, group]


def groups(name: str, manifest: Manifest) -> dict[str, NDArray[np.bool_]]:
    """Groups of the test rows by the values or quartiles of a column: name -> mask, bool [N].

    Args:
        name: One of `columns`.
        manifest: Manifest of the prepared data.
    """
    kind = {column["name"]: column["type"] for column in manifest["columns"]}.get(name)
    if kind is None:
        return grouped(name, group_of_rows("test"))
    return grouped(name, column("test", name), date_text if kind == "date" else None)


def reference() -> dict[str, Any]:
    """Typical values of each column in the training split, as in requests.

    Returns:
        baseline: Column -> median or most frequent level; None if it has no value, or is private.
        values: Column -> values that others have: numbers and dates at `QUANTILES`, or the most frequent levels; none
            of a private column.
    """
    rows, hidden, baseline, values = load("train"), private(), {}, {}
    for described in read_manifest()["columns"]:
        name, kind = described["name"], described["type"]
        known = rows[name].slice(0, 0 if name in hidden else None).drop_null()
        if kind == "category":
            levels = sorted(Counter(known.to_pylist()).items(), key=lambda item: (-item[1], item[0]))
            found = [level for level, _ in levels[:LEVELS]]
            typical = found[:1]
        elif len(known):
            *found, last = map(date_text, _quantiles(known)) if kind == "date" else _quantiles(known)
            typical = [last]
        else:
            found, typical = [], []
        values[name] = list(dict.fromkeys(found))
        baseline[name] = typical[0] if typical else None
    return {"baseline": baseline, "values": values}


def _quantiles(known: "pa.ChunkedArray") -> list[float]:
    """Observed values of a column, so that a number of children stays whole; the median last.

    If there are no more values between the first and the last of `QUANTILES` than there are of these, it is all of
    them: quantiles would skip those that few rows have.
    """
    values = known.to_numpy()
    *chosen, median = np.quantile(values, (*QUANTILES, 0.5), method="inverted_cdf").tolist()
    between = np.unique(values[(values >= chosen[0]) & (values <= chosen[-1])])
    return [*(between.tolist() if len(between) <= len(QUANTILES) else chosen), median]


def anonymity(names: Sequence[str]) -> list[str]:
    """A section of the model card: how many rows of all splits are alike in some columns (k-anonymity).

    Args:
        names: Names of the columns; without any, there is no section.
    """
    if not names:
        return []
    groups = Counter[tuple[Any, ...]]()
    for split in SPLITS:
        groups.update(zip(*(load(split)[name].to_pylist() for name in names), strict=True))
    listed = ", ".join(map(text.escaped, names))
    smallest, alone = min(groups.values()), sum(count == 1 for count in groups.values())
    return [
        "## Anonymity",
        f"{groups.total():,} rows of all splits form {len(groups):,} groups that are alike in {listed} "
        f"(`evaluate.quasi_identifiers`). The smallest has {smallest:,} row{'s' * (smallest > 1)}, so the table is "
        f"{smallest}-anonymous in these columns; {alone:,} rows are alone in their group. Who knows these columns of a "
        "person finds its row among so many (L. Sweeney, 2002). It says nothing about other columns.",
    ]


def subject(manifest: Manifest) -> str:
    """Description of the model's inputs, for the model card."""
    kinds = Counter(column["type"] for column in manifest["columns"])
    names = {"number": "numbers", "date": "dates", "category": "categories"}
    *first, last = (f"{kinds[one]} {one if kinds[one] == 1 else many}" for one, many in names.items() if kinds[one])
    return f"rows of {', '.join(first)} and {last}" if first else f"rows of {last}"


def worst(rows: Sequence[int], titles: Sequence[str], total: int, folder: Path) -> list[str]:
    """Lines of the model card with the worst rows.

    Args:
        rows: Indices of the rows, largest error first.
        titles: Title of each row.
        total: Number of rows from which the worst were chosen.
        folder: Folder for worst.csv, with the values of the rows, but for private columns.
    """
    if not rows:
        return ["No mistakes on the test split."]
    names, hidden = row_names(rows), private()
    cells = [{name: value for name, value in row.items() if name not in hidden} for row in requests("test", rows)]
    with (folder / "worst.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["row", "outcome", *cells[0]])
        writer.writerows([name, title, *row.values()] for name, title, row in zip(names, titles, cells, strict=True))
    return [
        f"The worst {len(rows)} of {total}; their values are in [worst.csv]({folder.name}/worst.csv).",
        "",
        *text.table(["row", "outcome"], zip(names, titles, strict=True), words=2),
    ]
