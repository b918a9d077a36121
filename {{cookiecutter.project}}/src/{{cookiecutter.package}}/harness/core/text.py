"""Numbers, dates and tables as text."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

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


def percent(share: float, digits: int = 1) -> str:
    """A share in percent. What is not 0 or 1 is not rounded to 0% or 100%, which would say that there is no exception.

    Args:
        share: The share, from 0 to 1.
        digits: Number of digits behind the decimal point.
    """
    step = 10.0 ** -(digits + 2)
    if 0 < share < step:
        return f"< {step:.{digits}%}"
    if 1 - step < share < 1:
        return f"> {1 - step:.{digits}%}"
    return f"{share:.{digits}%}"


def rounded(value: float) -> float:
    """A number rounded to eight digits, because more would differ between processors."""
    return float(f"{value:.8g}")


def date(days: float) -> str:
    """A date as in requests: ISO 8601, without a time if that is 00:00.

    As `prepared.tables.date_text`, which stages use that do not depend on this module.

    Args:
        days: Days since 1970-01-01 in UTC.
    """
    return (datetime(1970, 1, 1) + days * timedelta(days=1)).isoformat().removesuffix("T00:00:00")


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
    return f"{percent(1 - error / baseline, 0)} {less}"


def aligned(rows: Sequence[Sequence[object]]) -> list[str]:
    """The lines of a plain-text table with aligned columns.

    Args:
        rows: Cells of each row, the header first; all rows have the same number of cells.
    """
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]
