"""Violations of the schema: found, counted, listed, dropped or imputed."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.paths import DATA_REPORT
from ..inputs.table_notation import Notation
from .schema import Column
from .schema_checks import Cells, explain, violations
from .table import LISTED, Table
from .table_cells import convert
from .table_files import Part

if TYPE_CHECKING:
    import pyarrow as pa

PRINTED = 20  # maximum number of violations on the terminal
UNREADABLE = ("type", "size", "encoding")  # kinds of violations whose cells become null by conversion


def check(part: Part, columns: Mapping[str, Column], notation: Notation) -> tuple["pa.RecordBatch", list[Cells]]:
    """The converted rows of a part, and all violations in them.

    Args:
        part: A part of a file.
        columns: The schema.
        notation: How the cells are written.
    """
    import pyarrow as pa

    converted, cells = {}, []
    for name, column in columns.items():
        converted[name], bad = convert(part.values[name], column.type, notation, name)
        cells += [Cells(name, kind, np.flatnonzero(mask)) for kind, mask in bad.items()]
    unreadable = {name: [rows for column, _, rows in cells if column == name] for name in {c.column for c in cells}}
    rows = pa.RecordBatch.from_arrays([*converted.values()], [*converted])
    for violation in violations(rows, columns):
        if violation.kind == "null" and violation.column in unreadable:
            # An unreadable cell has become null, but is a single violation.
            nulls = np.setdiff1d(violation.rows, np.concatenate(unreadable[violation.column]))
            violation = violation._replace(rows=nulls)
        if len(violation.rows):
            cells.append(violation)
    return rows, cells


def apply_policy(
    rows: "pa.RecordBatch", cells: Sequence[Cells], table: Table
) -> tuple["pa.RecordBatch", NDArray[np.bool_]]:
    """The rows after imputation, and a mask of those to keep, bool [n].

    Args:
        rows: Rows, converted to the types of the schema.
        cells: Violations in these rows.
        table: The table, whose `on_invalid` is applied.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    remaining = np.ones(len(rows), np.bool_)
    for name, _, places in cells:
        if table.on_invalid == "impute" and name not in table.roles:
            invalid = np.zeros(len(rows), np.bool_)
            invalid[places] = True
            imputed = pc.if_else(pa.array(invalid), None, rows[name])
            rows = rows.set_column(rows.column_names.index(name), name, imputed)
        else:
            remaining[places] = False
    return rows, remaining


class _Listed(NamedTuple):
    """A violation with its place and explanation."""

    file: str
    row: int
    column: str
    reason: str


class Found(NamedTuple):
    """The violations in a part.

    Attributes:
        counts: (column, kind of violation) -> number of violations; "" for a whole row.
        rows: Number of rows with a violation.
        listed: The first violations, sorted.
    """

    counts: Mapping[tuple[str, str], int]
    rows: int
    listed: Sequence[_Listed]


def explained(part: Part, cells: Sequence[Cells], table: Table, columns: Mapping[str, Column], listed: int) -> Found:
    """The violations in a part, counted, and the first explained.

    Args:
        part: A part of a file; its ragged rows are violations.
        cells: Violations in the other rows.
        table: The table.
        columns: Schema of the table.
        listed: Maximum number to explain.
    """
    counts = Counter({("", "ragged"): len(part.ragged)} if part.ragged else {})
    first = [
        _Listed(part.file, row, "", explain("ragged", error, None, table.schema, False)) for row, error in part.ragged
    ]
    for column, kind, rows in cells:
        counts[column, kind] += len(rows)
        for place in rows[:listed].tolist():
            text, in_role = _text(part, column, place), column in table.roles
            reason = explain(kind, text, columns[column], table.schema, in_role)
            first.append(_Listed(part.file, int(part.rows[place]), column, reason))
    places = np.concatenate([np.zeros(0, np.int64), *(rows for *_, rows in cells)])
    return Found(counts, len(part.ragged) + len(np.unique(places)), sorted(first)[:listed])


class Violations:
    """The violations of a table: counts, and a list of the first."""

    def __init__(self, table: Table) -> None:
        """Starts with no violations.

        Args:
            table: The table.
        """
        self._table = table
        self._counts: Counter[tuple[str, str]] = Counter()
        self._listed: list[_Listed] = []
        self.rows = 0  # number of rows with a violation

    @property
    def total(self) -> int:
        """Number of violations."""
        return self._counts.total()

    @property
    def room(self) -> int:
        """How many more violations are listed."""
        return LISTED - len(self._listed)

    def add(self, found: Found) -> None:
        """Counts the violations of a part, and lists them up to `LISTED`."""
        self._counts.update(found.counts)
        self.rows += found.rows
        self._listed += found.listed[: self.room]

    def report(self) -> dict[str, Any]:
        """The violations, for reports/data.json."""
        by_column: dict[str, dict[str, int]] = {}
        for (column, kind), count in sorted(self._counts.items()):
            by_column.setdefault(column or "(whole row)", {})[kind] = count
        return {
            "on_invalid": self._table.on_invalid,
            "violations": self.total,
            "violations_by_column": by_column,
            "violations_listed": [violation._asdict() for violation in self._listed],
        }

    def show(self) -> None:
        """Prints the first violations; those of the same kind in one line."""
        alike: dict[tuple[str, str, str], list[int]] = {}
        for file, row, column, reason in self._listed:
            alike.setdefault((file, column, reason), []).append(row)
        printed = 0
        for (file, column, reason), rows in list(alike.items())[:PRINTED]:
            place = f"column {column!r}: " if column else ""
            print(f"prepare: {file}: {_rows(rows)}: {place}{reason}", file=sys.stderr)
            printed += len(rows)
        if (remaining := self.total - printed) > 0:
            print(
                f"prepare: {remaining:,} more violations: {DATA_REPORT} counts all and lists up to {LISTED:,}",
                file=sys.stderr,
            )


def _rows(rows: Sequence[int]) -> str:
    """Row numbers, at most five."""
    if len(rows) == 1:
        return f"row {rows[0]}"
    shown = ", ".join(map(str, rows[:5]))
    return f"rows {shown}" + (f" and {len(rows) - 5:,} more" if len(rows) > 5 else "")


def _text(part: Part, column: str, place: int) -> str:
    cell = part.values.column(column)[place].as_py()
    if cell is None or cell != cell:
        return ""
    text = cell.decode("utf-8", "backslashreplace") if isinstance(cell, bytes) else str(cell)
    return text if len(text) <= 60 else text[:57] + "..."
