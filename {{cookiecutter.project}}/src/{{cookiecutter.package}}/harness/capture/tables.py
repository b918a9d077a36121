"""The rows of a request as they are kept: in JSON, without private values."""

from __future__ import annotations

import json
from typing import Any

from ..contracts import Description
from ..core.text import date
from .answered import Answered
from .contracts import MOST_ROWS, Privacy


def request(answered: Answered, description: Description, privacy: Privacy) -> tuple[bytes, int]:
    """A request as `{"instances": [...]}`: a JSON body as it came, unless columns are private.

    Of a CSV file, the model's columns are kept: others may be anything.

    Args:
        answered: The request.
        description: Content of models/model.json.
        privacy: What is not kept as it is.

    Returns:
        JSON in one line, and the number of rows.
    """
    if answered.content_type == "application/json" and not privacy.columns:
        # In valid JSON, line ends are between two tokens.
        return answered.body.replace(b"\n", b" ").replace(b"\r", b" "), answered.rows
    names = [column["name"] for column in description["columns"]]
    columns = [_cells(answered.feeds[column["name"]][:MOST_ROWS], column["type"]) for column in description["columns"]]
    rows = [privacy.kept(dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True)]
    return json.dumps({"instances": rows}, separators=(",", ":")).encode(), len(rows)


def _cells(values: Any, type: str) -> list[Any]:
    """Values of a column as in a JSON request, None if missing."""
    if type == "category":
        return [level or None for level in values.tolist()]
    numbers = [None if number != number else number for number in values.tolist()]
    return [None if number is None else date(number) for number in numbers] if type == "date" else numbers
