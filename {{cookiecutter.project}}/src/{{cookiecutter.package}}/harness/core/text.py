"""Numbers and tables as text."""

from collections.abc import Iterable, Sequence

import numpy as np


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], words: int = 1) -> list[str]:
    """The lines of a Markdown table.

    Args:
        columns: Titles of the columns.
        rows: Cells of each row.
        words: Number of first columns that hold words, aligned left; the others are aligned right.
    """
    alignment = "|" + "---|" * words + "---:|" * (len(columns) - words)
    return [_line(columns), alignment, *map(_line, rows)]


def _line(cells: Sequence[object]) -> str:
    # The name of a column or class may contain any character.
    return "| " + " | ".join(" ".join(str(cell).replace("|", "\\|").split()) for cell in cells) + " |"


def number(value: float | None, digits: int = 4) -> str:
    """A number with a few significant digits, without an exponent if possible.

    Args:
        value: The number; None and NaN become "-".
        digits: Number of significant digits.
    """
    if value is None or not np.isfinite(value):
        return "-"
    if 10**digits <= abs(value) < 1e12:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def compared(error: float, baseline: float, less: str) -> str:
    """Comparison of a model's error with that of a baseline, in words.

    Args:
        error: Error of the model.
        baseline: Error of the baseline.
        less: Words after the percentage, "lower" for instance.
    """
    if error == baseline:
        return "no better"
    if error > baseline:
        return "the model is worse than the baseline"
    return f"{1 - error / baseline:.0%} {less}"


def aligned(rows: Sequence[Sequence[object]]) -> list[str]:
    """The lines of a plain-text table with aligned columns.

    Args:
        rows: Cells of each row, the header first; all rows have the same number of cells.
    """
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]
