"""The rows of a part of a table: checked against the schema, divided, ready to be written."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..contracts import Splits
from ..inputs.table_notation import Notation
from ..prepared import SPLITS
from ..prepared.tables import GROUP, NAME
from .schema import Column
from .schema_checks import Cells
from .table import Table
from .table_cells import numbers
from .table_files import Part
from .table_splits import Ahead, Hashes, by_level, divide, hash_rows
from .table_violations import UNREADABLE, Found, apply_policy, check, explained
from .table_writer import canonical

if TYPE_CHECKING:
    import pyarrow as pa


class Rules(NamedTuple):
    """What the work on a part depends on, besides its rows.

    Attributes:
        table: The table; its files are not read.
        columns: Schema of the table.
        notation: How the cells are written.
        splits: Seed and fractions of the split.
        ahead: Result of the first pass.
    """

    table: Table
    columns: Mapping[str, Column]
    notation: Notation
    splits: Splits
    ahead: Ahead

    @property
    def features(self) -> dict[str, Column]:
        """Schema of the features."""
        return {name: column for name, column in self.columns.items() if name not in self.table.roles}

    @property
    def fields(self) -> "pa.Schema":
        """Columns of rows.arrow."""
        import pyarrow as pa

        types = {name: pa.string() if c.type == "category" else pa.float64() for name, c in self.features.items()}
        types |= {NAME: pa.string()} | ({GROUP: pa.string()} if self.table.group is not None else {})
        return pa.schema(types)


class Unchecked(NamedTuple):
    """A part that was read.

    Attributes:
        part: The part.
        repeated: Positions in the part of rows whose id occurred before, int64 [n].
        listed: Number of violations that are listed at most.
        write: Whether the rows are written; not after a violation that ends the run.
    """

    part: Part
    repeated: NDArray[np.int64]
    listed: int
    write: bool


class Divided(NamedTuple):
    """The rows of a part that are written.

    Attributes:
        hashes: Hashes of their contents, uint64 [n].
        targets: Numbers or indices of classes, [n].
        split: Their split, as index into `prepared.SPLITS`, int64 [n].
        rows: The columns of rows.arrow, for each split.
    """

    hashes: Hashes
    targets: NDArray[Any]
    split: NDArray[np.int64]
    rows: Sequence["pa.RecordBatch"]


class Checked(NamedTuple):
    """A part that was checked.

    Attributes:
        rows: Number of rows.
        dropped: Number of rows that are left out.
        imputed: Number of cells that are imputed.
        nulls: Column -> number of missing values.
        found: The violations.
        divided: The rows to write, if any are.
    """

    rows: int
    dropped: int
    imputed: int
    nulls: Mapping[str, int]
    found: Found
    divided: Divided | None


def process(rules: Rules, parts: Iterable[Unchecked]) -> Iterator[Checked]:
    """Yields the checked parts.

    Args:
        rules: What the work depends on.
        parts: The parts, as they were read.
    """
    for unchecked in parts:
        yield _checked(rules, unchecked)


def _checked(rules: Rules, unchecked: Unchecked) -> Checked:
    table, part = rules.table, unchecked.part
    rows, cells = check(part, rules.columns, rules.notation)
    if table.id is not None and len(unchecked.repeated):
        cells.append(Cells(table.id, "duplicate", unchecked.repeated))
    found = explained(part, cells, table, rules.columns, unchecked.listed)
    nulls = {name: rows[name].null_count for name in rules.columns}
    for name, kind, places in cells:
        nulls[name] -= len(places) if kind in UNREADABLE else 0
    rows, remaining = apply_policy(rows, cells, table)
    imputed = sum(int(remaining[places].sum()) for *_, places in cells) if table.on_invalid == "impute" else 0
    dropped = len(part.ragged) + int((~remaining).sum())
    write = unchecked.write and not (found.rows and table.on_invalid == "stop")
    divided = _divided(rules, part, rows, remaining) if write else None
    return Checked(len(part.rows) + len(part.ragged), dropped, imputed, nulls, found, divided)


def _divided(rules: Rules, part: Part, rows: "pa.RecordBatch", remaining: NDArray[np.bool_]) -> Divided:
    import pyarrow as pa

    table = rules.table
    rows = rows.append_column(NAME, _names(table, part, rows))
    if table.group is not None:
        rows = rows.append_column(GROUP, rows[table.group])
    if not remaining.all():
        rows = rows.filter(pa.array(remaining))
    hashes, fields = hash_rows(rows.select([*rules.features, table.target])), rules.fields
    split = divide(table, rows, hashes, rules.splits, rules.ahead)
    by_split = [canonical(rows.filter(pa.array(split == index)), fields) for index in range(len(SPLITS))]
    return Divided(hashes, _targets(rules, rows[table.target]), split, by_split)


def _names(table: Table, part: Part, rows: "pa.RecordBatch") -> "pa.Array":
    import pyarrow as pa
    import pyarrow.compute as pc

    if table.id is not None:
        return rows[table.id]
    return pc.binary_join_element_wise(Path(part.file).name, pa.array(part.rows).cast(pa.string()), ":")


def _targets(rules: Rules, values: "pa.Array") -> NDArray[Any]:
    """Targets: numbers, or indices of classes."""
    if rules.table.problem == "regression":
        return numbers(values)
    classes = {name: index for index, name in enumerate(rules.columns[rules.table.target].categories or [])}
    return by_level(values, lambda name: classes[name or ""], np.int64)
