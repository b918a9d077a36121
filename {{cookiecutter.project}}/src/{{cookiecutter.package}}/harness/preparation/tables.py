"""Preparation of a table, in two passes over its rows.

1. `look_ahead` determines repeated ids and the times at which the splits begin, if the configuration needs them.
2. `_RowPass` checks every row against the schema, applies `on_invalid`, and writes the row to its split.

Both read through `Table.chunks`. Then the columns and splits are reviewed as a whole; data/prepared is replaced only
if there is no error.
"""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..contracts import Splits
from ..core.errors import UserError
from ..core.paths import DATA_REPORT
from ..prepared import PREPARED, SPLITS
from ..prepared.tables import GROUP, NAME
from .schema import Column
from .schema_checks import Cells
from .splits import Strata, replaced, require_every_class, write_manifest, write_report
from .table import Table, refuse
from .table_cells import numbers
from .table_files import Part
from .table_review import column_problems, require_rows, warnings
from .table_splits import Ahead, Spool, by_level, divide, hash_rows, look_ahead, positions
from .table_violations import UNREADABLE, Violations, apply_policy, check
from .table_writer import SplitWriter

if TYPE_CHECKING:
    import pyarrow as pa


def write(table: Table, splits: Splits, folder: Path = PREPARED) -> dict[str, Any]:
    """Writes the splits of a table.

    Args:
        table: The source of the rows.
        splits: Seed and fractions of the split.
        folder: Folder to write; replaced as a whole at the end.

    Returns:
        The content of reports/data.json: examples by split and class, violations by column and kind, dropped rows,
        imputed cells, duplicates, warnings.

    Raises:
        UserError: If the table does not fit its schema, or a split lacks rows or a class.
    """
    columns = table.columns()
    with replaced(folder) as temporary:
        ahead = look_ahead(table, columns, splits, temporary)
        rows = _RowPass(table, columns, splits, temporary)
        rows.run(ahead)
        if moves := rows.strata.moves():  # only now is it known which classes lack rows: write them again
            rows = _RowPass(table, columns, splits, temporary)
            rows.run(ahead._replace(moves=moves))
        report = rows.report()
        _require_valid(table, rows, report)
        manifest = _manifest(table, rows.features, columns[table.target].categories or [], rows.writers)
        report["examples"] = manifest["examples"]
        if table.problem == "classification":
            leave_out = f"remove the class from {table.schema} and set data.on_invalid: drop"
            require_every_class(manifest["classes"], manifest["counts"], table.split, leave_out)
            report["classes"] = {
                split: dict(zip(manifest["classes"], counts, strict=True))
                for split, counts in manifest["counts"].items()
            }
        require_rows(table, manifest["examples"])
        refuse(column_problems(table, columns, rows.writers, rows.missing()))
        report["warnings"] = warnings(table, rows.features, rows.writers, splits, temporary)
        for warning in report["warnings"]:
            print(f"prepare: warning: {warning}", file=sys.stderr)
        write_manifest(manifest, temporary)
    return report


class _RowPass:
    """The pass that checks and writes the rows, and its counts.

    Attributes:
        features: Schema of the features.
        writers: The splits, in the order of `SPLITS`.
        violations: All violations of the schema.
        rows: Number of rows read.
        strata: Classes that lack rows in a split; none unless the split is stratified.
    """

    def __init__(self, table: Table, columns: Mapping[str, Column], splits: Splits, folder: Path) -> None:
        import pyarrow as pa

        self.features = {name: column for name, column in columns.items() if name not in table.roles}
        self.violations = Violations(table, columns)
        self.rows = 0
        self.strata = Strata()
        self._table, self._columns, self._splits = table, columns, splits
        self._notation = table.notation(columns)
        self._dropped = self._imputed = self._duplicates = 0
        self._position = 0  # of the next row, not counting ragged rows
        self._nulls: Counter[str] = Counter()
        self._hashes = Spool(folder)
        types = {name: pa.string() if c.type == "category" else pa.float64() for name, c in self.features.items()}
        types |= {NAME: pa.string()} | ({GROUP: pa.string()} if table.group is not None else {})
        dtype = np.float64 if table.problem == "regression" else np.int64
        self.writers = [SplitWriter(folder / split, pa.schema(types), self.features, dtype) for split in SPLITS]

    def run(self, ahead: Ahead) -> None:
        """Checks and writes all rows.

        Args:
            ahead: Result of the first pass.
        """
        from tqdm import tqdm

        types = {name: column.type for name, column in self._columns.items()}
        with tqdm(desc="prepare", unit=" rows", unit_scale=True, disable=None) as progress:
            for part in self._table.chunks(types):
                self._process(part, ahead)
                progress.update(len(part.rows))
        for writer in self.writers:
            writer.close()
        self._duplicates = sum(map(len, self._hashes.repeated()))

    def _process(self, part: Part, ahead: Ahead) -> None:
        rows, cells = check(part, self._columns, self._notation)
        cells += self._repeated_ids(part, ahead)
        self._count(part, rows, cells)
        rows, remaining = apply_policy(rows, cells, self._table)
        self._dropped += len(part.ragged) + int((~remaining).sum())
        if self._table.on_invalid == "impute":
            self._imputed += sum(int(remaining[places].sum()) for *_, places in cells)
        if not (self.violations.total and self._table.on_invalid == "stop"):  # else only list other violations
            self._write(part, rows, remaining, ahead)

    def _repeated_ids(self, part: Part, ahead: Ahead) -> list[Cells]:
        start, self._position = self._position, self._position + len(part.rows)
        low, high = np.searchsorted(ahead.repeated, (start, self._position))
        repeated = ahead.repeated[low:high] - start
        return [Cells(self._table.id, "duplicate", repeated)] if self._table.id is not None and len(repeated) else []

    def _count(self, part: Part, rows: "pa.RecordBatch", cells: Sequence[Cells]) -> None:
        self.rows += len(part.rows) + len(part.ragged)
        for name in self._columns:
            self._nulls[name] += rows[name].null_count
        for name, kind, places in cells:
            self._nulls[name] -= len(places) if kind in UNREADABLE else 0
        if cells or part.ragged:
            self.violations.add(part, cells)

    def _write(self, part: Part, rows: "pa.RecordBatch", remaining: NDArray[np.bool_], ahead: Ahead) -> None:
        import pyarrow as pa

        table = self._table
        rows = rows.append_column(NAME, _names(table, part, rows))
        if table.group is not None:
            rows = rows.append_column(GROUP, rows[table.group])
        if not remaining.all():
            rows = rows.filter(pa.array(remaining))
        targets = self._targets(rows[table.target])
        hashes = hash_rows(rows.select([*self.features, table.target]))
        self._hashes.add(hashes)
        split = divide(table, rows, hashes, self._splits, ahead)
        if table.split == "stratified" and not ahead.moves:
            self._note(targets, positions(hashes, self._splits), split)
        for index, writer in enumerate(self.writers):
            chosen = split == index
            writer.add(rows.filter(pa.array(chosen)), targets[chosen])

    def _note(self, targets: NDArray[np.int64], places: NDArray[np.uint64], split: NDArray[np.int64]) -> None:
        for label in filter(self.strata.lacks, np.unique(targets).tolist()):
            chosen = targets == label
            self.strata.add(label, dict(zip(places[chosen].tolist(), split[chosen].tolist(), strict=True)))

    def _targets(self, values: "pa.Array") -> NDArray[Any]:
        """Targets: numbers, or indices of classes."""
        if self._table.problem == "regression":
            return numbers(values)
        classes = {name: index for index, name in enumerate(self._columns[self._table.target].categories or [])}
        return by_level(values, lambda name: classes[name or ""], np.int64)

    def missing(self) -> dict[str, float]:
        """Column -> fraction of missing values."""
        return {name: self._nulls[name] / self.rows for name in self._columns}

    def report(self) -> dict[str, Any]:
        """The counts in reports/data.json."""
        return {
            "rows": self.rows,
            "skipped": self._dropped,
            "duplicates": self._duplicates,
            **self.violations.report(),
            "imputed": self._imputed,
        }


def _names(table: Table, part: Part, rows: "pa.RecordBatch") -> "pa.Array":
    import pyarrow as pa
    import pyarrow.compute as pc

    if table.id is not None:
        return rows[table.id]
    return pc.binary_join_element_wise(Path(part.file).name, pa.array(part.rows).cast(pa.string()), ":")


def _require_valid(table: Table, rows: _RowPass, report: Mapping[str, Any]) -> None:
    if not rows.rows:
        cause = "has no rows below its header" if table.keep is None else "has no row that the filter keeps"
        raise UserError(f"{table.label}: {cause}, so that nothing can be prepared")
    rows.violations.show()
    if rows.violations.total and table.on_invalid == "stop":
        write_report(report)
        raise UserError(
            f"{rows.violations.total:,} violation(s) in {rows.violations.rows:,} of {rows.rows:,} rows (see above and "
            f"{DATA_REPORT}): fix them, edit {table.schema}, or set data.on_invalid: drop or impute in conf/"
        )


def _manifest(
    table: Table, features: Mapping[str, Column], classes: list[str], writers: Sequence[SplitWriter]
) -> dict[str, Any]:
    splits = dict(zip(SPLITS, writers, strict=True))
    manifest: dict[str, Any] = {
        "input": "tables",
        "target": table.problem,
        "target_name": table.target,
        "columns": [{"name": name, "type": column.type} for name, column in features.items()],
        "notation": table.notation(features).describe(),
        "examples": {split: writer.rows for split, writer in splits.items()},
        "digests": {split: writer.digest.hexdigest() for split, writer in splits.items()},
    }
    if table.id is not None:
        manifest["id"] = table.id
    if table.group is not None:
        manifest["group"] = table.group
    if table.problem == "classification":
        manifest["classes"] = classes
        manifest["counts"] = {
            split: [writer.counts[label] for label in range(len(classes))] for split, writer in splits.items()
        }
    return manifest
