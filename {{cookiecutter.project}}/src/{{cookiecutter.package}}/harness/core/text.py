"""Numbers and tables as text."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], words: int = 1) -> list[str]:
    """Returns the lines of a Markdown table, the first columns aligned left, as words are, the others right."""

    def line(cells: Sequence[object]) -> str:
        # A column, a class or a delimiter may be called anything.
        return "| " + " | ".join(" ".join(str(cell).replace("|", "\\|").split()) for cell in cells) + " |"

    return [line(columns), "|" + "---|" * words + "---:|" * (len(columns) - words), *map(line, rows)]


def number(value: Any, digits: int = 4) -> str:
    """Returns a number as a person reads it: this many significant digits, an exponent only where it is far from 1."""
    if value is None or not np.isfinite(value):
        return "-"
    size = abs(value)
    if 10**digits <= size < 1e12:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def compared(error: float, baseline: float, less: str) -> str:
    """Returns in words how much smaller an error is than that of the naive answer.

    Args:
        error: Of the model.
        baseline: Of the naive answer.
        less: Follows the percentage.
    """
    if error == baseline:
        return "no better"
    if error > baseline:
        return "the model is worse than that"
    return f"{1 - error / baseline:.0%} {less}"


def aligned(rows: Sequence[Sequence[object]]) -> list[str]:
    """The lines of a plain table, each column as wide as its longest cell.

    Args:
        rows: Cells of each row, the header first; all rows have the same number of cells.
    """
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]
