"""Rows of a table in the report and on the page."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import contracts
from ..preparation.schema import load
from ..prepared import tables as prepared_tables
from ..prepared.tables import NAME

if TYPE_CHECKING:
    pass


def form(section: Mapping[str, Any], manifest: contracts.Manifest) -> dict[str, Any]:
    """Returns what the service's page must know beside models/model.json, from the schema.

    Args:
        section: Section `data` of the configuration.
        manifest: Of the prepared data.

    Returns:
        properties: Column -> minimum, maximum, choices, where there are such, and nullable.
        range: Smallest and largest number that the target may be, None where it has none.
    """
    schema = load(Path(section["schema"]))
    properties = {}
    for name in (column["name"] for column in manifest["columns"]):
        column = schema[name]
        bounds = {"minimum": column.min, "maximum": column.max, "choices": column.categories}
        given = {key: value for key, value in bounds.items() if value is not None}
        properties[name] = {**given, "nullable": column.nulls > 0}
    target = schema[manifest["target_name"]]
    return {"properties": properties, "range": None if None in (target.min, target.max) else [target.min, target.max]}


def examples(rows: Sequence[int]) -> list[dict[str, Any]]:
    """Returns rows of the test split as the service takes them.

    Args:
        rows: Which ones.

    Returns:
        instance: Column -> value, None where it is missing.
    """
    return [{"instance": row} for row in prepared_tables.load("test").drop_columns([NAME]).take(list(rows)).to_pylist()]


def subject(manifest: contracts.Manifest) -> str:
    """Returns what the model is asked about, for its card."""
    kinds = Counter(column["type"] for column in manifest["columns"])
    return f"rows of {kinds['number']} numbers and {kinds['category']} categories"


def worst(rows: Sequence[int], titles: Sequence[str], total: int, folder: Path) -> list[str]:
    """Lists the rows of the test split with which the model does worst.

    Args:
        rows: Which ones, the worst first.
        titles: One for each.
        total: Number of mistakes there are.
        folder: Where worst.csv goes.

    Returns:
        Lines of the model card.
    """
    import csv as text

    if not rows:
        return ["No mistakes on the test split."]
    table = prepared_tables.load("test").take(list(rows))
    columns = [name for name in table.column_names if name != NAME]
    with (folder / "worst.csv").open("w", newline="", encoding="utf-8") as file:
        writer = text.writer(file, lineterminator="\n")
        writer.writerow(["row", "outcome", *columns])
        for title, row in zip(titles, table.to_pylist(), strict=True):
            writer.writerow([row[NAME], title, *(row[name] for name in columns)])
    shown = [f"| {_cell(row[NAME])} | {_cell(title)} |" for title, row in zip(titles, table.to_pylist(), strict=True)]
    return [
        f"The worst {len(shown)} of {total}; their values are in [worst.csv]({folder.name}/worst.csv).",
        "",
        "| row | outcome |",
        "| --- | --- |",
        *shown,
    ]


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
