"""Preparation: a source is read, checked, split and written to data/prepared."""

import importlib
from typing import Any

from ..contracts import Source, Splits


def write(source: Source, splits: Splits) -> dict[str, Any]:
    """Writes data/prepared from a source.

    Args:
        source: Where examples come from.
        splits: Seed and fractions of the split.

    Returns:
        The content of reports/data.json.
    """
    report: dict[str, Any] = importlib.import_module(f".{source.input}", __package__).write(source, splits)
    return report
