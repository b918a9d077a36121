"""Preparation of a table, in two passes over its rows.

1. `look_ahead` determines repeated ids and the times at which the splits begin, if the configuration needs them.
2. `_RowPass` checks every row against the schema, applies `on_invalid`, and writes the row to its split.

Both read through `Table.chunks`, in this process; the executor checks the rows that the second pass reads. Then the
columns and splits are reviewed as a whole; data/prepared is replaced only if there is no error.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..contracts import Splits
from ..core.errors import UserError
from ..core.paths import DATA_REPORT
from ..executors import Executor, executor
from ..prepared import PREPARED, SPLITS
from .schema import Column
from .splits import Strata, replaced, require_every_class, write_manifest, write_report
from .table import Table, refuse
from .table_review import column_problems, require_rows, warnings
from .table_rows import Checked, Divided, Rules, Unchecked, process
from .table_splits import Spool, look_ahead, positions
from .table_violations import Violations
from .table_writer import SplitWriter


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
        UserError: If the table does not fit its schema, or a split lacks rows or a class; if the executor cannot be
            reached.
    """
    execute = executor()
    columns = table.columns()
    with replaced(folder) as temporary:
        ahead = look_ahead(table, columns, splits, temporary)
        # The filter may be no function of a module, and all repeated ids may be many: they stay in this process.
        described, without_ids = replace(table, files=(), keep=None), ahead._replace(repeated=ahead.repeated[:0])
        rules = Rules(described, columns, table.notation(columns), splits, without_ids)
        rows = _RowPass(table, rules, temporary)
        rows.run(execute, ahead.repeated)
        if moves := rows.strata.moves():  # only now is it known which classes lack rows: write them again
            rules = rules._replace(ahead=without_ids._replace(moves=moves))
            rows = _RowPass(table, rules, temporary)
            rows.run(execute, ahead.repeated)
        report = rows.report()
        _require_valid(table, rows, report)
        manifest = _manifest(table, columns, rows.features, rows.writers)
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

    def __init__(self, table: Table, rules: Rules, folder: Path) -> None:
        self.features = rules.features
        self.violations = Violations(table)
        self.rows = 0
        self.strata = Strata()
        self._table, self._rules = table, rules
        self._dropped = self._imputed = self._duplicates = 0
        self._nulls: Counter[str] = Counter()
        self._hashes = Spool(folder)
        dtype = np.float64 if table.problem == "regression" else np.int64
        self.writers = [SplitWriter(folder / split, rules.fields, self.features, dtype) for split in SPLITS]

    def run(self, execute: Executor, repeated: NDArray[np.int64]) -> None:
        """Checks and writes all rows.

        Args:
            execute: Where the rows are checked.
            repeated: Ascending positions of the rows whose id occurred before, int64 [n].
        """
        from tqdm import tqdm

        with tqdm(desc="prepare", unit=" rows", unit_scale=True, disable=None) as progress:
            for checked in execute(partial(process, self._rules), self._parts(repeated)):
                self._add(checked)
                progress.update(checked.rows)
        for writer in self.writers:
            writer.close()
        self._duplicates = sum(map(len, self._hashes.repeated()))

    def _parts(self, repeated: NDArray[np.int64]) -> Iterator[Unchecked]:
        start = 0  # position of the next row, not counting ragged rows
        for part in self._table.chunks({name: column.type for name, column in self._rules.columns.items()}):
            low, high = np.searchsorted(repeated, (start, start + len(part.rows)))
            yield Unchecked(part, repeated[low:high] - start, self.violations.room, not self._stopped)
            start += len(part.rows)

    @property
    def _stopped(self) -> bool:
        """Whether a violation ends the run: only others are still listed."""
        return bool(self.violations.total) and self._table.on_invalid == "stop"

    def _add(self, checked: Checked) -> None:
        self.rows += checked.rows
        self._dropped += checked.dropped
        self._imputed += checked.imputed
        self._nulls.update(checked.nulls)
        self.violations.add(checked.found)
        if checked.divided is not None and not self._stopped:
            self._write(checked.divided)

    def _write(self, divided: Divided) -> None:
        self._hashes.add(divided.hashes)
        if self._table.split == "stratified" and not self._rules.ahead.moves:
            self._note(divided.targets, positions(divided.hashes, self._rules.splits), divided.split)
        for index, writer in enumerate(self.writers):
            writer.add(divided.rows[index], divided.targets[divided.split == index])

    def _note(self, targets: NDArray[np.int64], places: NDArray[np.uint64], split: NDArray[np.int64]) -> None:
        for label in filter(self.strata.lacks, np.unique(targets).tolist()):
            chosen = targets == label
            self.strata.add(label, dict(zip(places[chosen].tolist(), split[chosen].tolist(), strict=True)))

    def missing(self) -> dict[str, float]:
        """Column -> fraction of missing values."""
        return {name: self._nulls[name] / self.rows for name in self._rules.columns}

    def report(self) -> dict[str, Any]:
        """The counts in reports/data.json."""
        return {
            "rows": self.rows,
            "skipped": self._dropped,
            "duplicates": self._duplicates,
            **self.violations.report(),
            "imputed": self._imputed,
        }


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


def described(table: Table) -> dict[str, Any]:
    """What is known before a row is read: input, target, columns, group and classes, as in the manifest.

    Args:
        table: The source of the rows.

    Raises:
        UserError: If the table does not fit its schema.
    """
    return _described(table, table.columns())


def _described(table: Table, columns: Mapping[str, Column]) -> dict[str, Any]:
    features = [{"name": name, "type": column.type} for name, column in columns.items() if name not in table.roles]
    found: dict[str, Any] = {
        "input": "tables",
        "target": table.problem,
        "target_name": table.target,
        "columns": features,
    }
    if table.group is not None:
        found["group"] = table.group
    if table.problem == "classification":
        found["classes"] = columns[table.target].categories or []
    return found


def _manifest(
    table: Table, columns: Mapping[str, Column], features: Mapping[str, Column], writers: Sequence[SplitWriter]
) -> dict[str, Any]:
    splits = dict(zip(SPLITS, writers, strict=True))
    manifest: dict[str, Any] = {
        **_described(table, columns),
        "notation": table.notation(features).describe(),
        "examples": {split: writer.rows for split, writer in splits.items()},
        "digests": {split: writer.digest.hexdigest() for split, writer in splits.items()},
    }
    if table.id is not None:
        manifest["id"] = table.id
    if table.problem == "classification":
        labels = range(len(manifest["classes"]))
        manifest["counts"] = {split: [writer.counts[label] for label in labels] for split, writer in splits.items()}
    return manifest
