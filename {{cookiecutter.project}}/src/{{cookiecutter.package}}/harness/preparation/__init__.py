"""Preparation: examples are read, checked, split and written."""

import importlib
from typing import Any

from ..contracts import Source, Splits


def write(source: Source, splits: Splits) -> dict[str, Any]:
    """Writes data/prepared; `images` or `tables` does so, as the source requires.

    Args:
        source: The source of the examples.
        splits: Seed and fractions of the split.

    Returns:
        The content of reports/data.json.
    """
    report: dict[str, Any] = importlib.import_module(f".{source.input}", __package__).write(source, splits)
    return report


def described(source: Source) -> dict[str, Any]:
    """What is known before an example is read: input, target, columns and classes, as in the manifest.

    Args:
        source: The source of the examples.

    Raises:
        UserError: If a table does not fit its schema.
    """
    found: dict[str, Any] = importlib.import_module(f".{source.input}", __package__).described(source)
    return found
