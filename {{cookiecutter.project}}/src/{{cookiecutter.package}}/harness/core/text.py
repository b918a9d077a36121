"""Numbers, dates, names and tables as text."""

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta

import numpy as np

# What Markdown or a site that shows it (`~`, `$`) takes for more than a character; not "a_b", nor "*" between blanks.
MARKS = re.compile(r"[\\`\[\]|~$]|(?<=\S)\*|\*(?=\S)|(?<![^\W_])_|_(?![^\W_])")


def table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], words: int = 1, markdown: bool = False
) -> list[str]:
    """The lines of a Markdown table.

    Args:
        columns: Titles of the columns.
        rows: Cells of each row.
        words: Number of first columns that hold words, aligned left; the others are aligned right.
        markdown: Whether the cells are Markdown; otherwise they are shown as they are.
    """
    show = _whole if markdown else escaped
    alignment = "|" + "---|" * words + "---:|" * (len(columns) - words)
    return [_line(columns, escaped), alignment, *(_line(row, show) for row in rows)]


def _line(cells: Sequence[object], show: Callable[[str], str]) -> str:
    return "| " + " | ".join(show(str(cell)) for cell in cells) + " |"


def _whole(cell: str) -> str:
    """Markdown as a cell of a table: in code, too, a bar ends the cell."""
    return in_line(cell).replace("|", "\\|")


def in_line(text: str) -> str:
    """A text in one line: names of columns and classes may have several."""
    return " ".join(text.split())


def escaped(text: str) -> str:
    """A text that Markdown shows as it is, in one line: the name of a column or class may have any character.

    It must not be the beginning of a paragraph, where also "#", "-" or "1." have a meaning.

    Args:
        text: The text.
    """
    line = MARKS.sub(r"\\\g<0>", in_line(text))
    line = re.sub(r"&(?=#?\w+;)", "&amp;", line)
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", line)  # not "\<", which not all tools know


def code(text: str) -> str:
    """A text as code in Markdown, in one line.

    Args:
        text: The text.
    """
    line = in_line(text)
    longest = max(map(len, re.findall("`+", line)), default=0)
    fence, space = "`" * (longest + 1), " " if longest else ""
    return f"{fence}{space}{line}{space}{fence}"


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
    return f"{value:,.{digits}g}"


def entry(value: float | None, digits: int = 4) -> str:
    """A number of a table as `number`, without marks between thousands: 2024 may be a year.

    Args:
        value: The number; None and NaN become "-".
        digits: Number of significant digits.
    """
    return number(value, digits).replace(",", "")


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
