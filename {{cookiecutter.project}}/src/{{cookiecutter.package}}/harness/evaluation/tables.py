"""Table rows in the model card and on the service's page."""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..contracts import Manifest
from ..core import text
from ..preparation.schema import load as load_schema
from ..prepared.tables import NAME, load, requests


def form(section: Mapping[str, Any], manifest: Manifest) -> dict[str, Any]:
    """Facts for the service's page, from the schema of the table.

    Args:
        section: Section `data` of the configuration.
        manifest: Manifest of the prepared data.

    Returns:
        properties: Column -> nullable, and minimum, maximum and choices if they are defined.
        range: Minimum and maximum of the target; None if it has no bounds.
    """
    schema = load_schema(Path(section["schema"]))
    properties = {}
    for name in (column["name"] for column in manifest["columns"]):
        column = schema[name]
        bounds = {"minimum": column.min, "maximum": column.max, "choices": column.categories}
        known = {key: value for key, value in bounds.items() if value is not None}
        properties[name] = {**known, "nullable": column.nulls > 0}
    target = schema[manifest["target_name"]]
    return {"properties": properties, "range": None if None in (target.min, target.max) else [target.min, target.max]}


def examples(rows: Sequence[int]) -> list[dict[str, Any]]:
    """Rows of the test split, as inputs of the service.

    Args:
        rows: Indices of the rows.

    Returns:
        For each row, `instance`: column -> value, None if missing.
    """
    return [{"instance": row} for row in requests("test", rows)]


def subject(manifest: Manifest) -> str:
    """Description of the model's inputs, for the model card."""
    kinds = Counter(column["type"] for column in manifest["columns"])
    dates = f"{kinds['date']} dates and " if kinds["date"] else ""
    return f"rows of {kinds['number']} numbers{',' if dates else ' and'} {dates}{kinds['category']} categories"


def worst(rows: Sequence[int], titles: Sequence[str], total: int, folder: Path) -> list[str]:
    """Lines of the model card with the worst rows.

    Args:
        rows: Indices of the rows, largest error first.
        titles: Title of each row.
        total: Number of rows from which the worst were chosen.
        folder: Folder for worst.csv, with the values of the rows.
    """
    if not rows:
        return ["No mistakes on the test split."]
    names = load("test")[NAME].take(list(rows)).to_pylist()
    cells = requests("test", rows)
    with (folder / "worst.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["row", "outcome", *cells[0]])
        writer.writerows([name, title, *row.values()] for name, title, row in zip(names, titles, cells, strict=True))
    return [
        f"The worst {len(rows)} of {total}; their values are in [worst.csv]({folder.name}/worst.csv).",
        "",
        *text.table(["row", "outcome"], zip(names, titles, strict=True), words=2),
    ]
