"""Writes the splits of a table, once every row is checked against the schema."""

import hashlib
import io
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import contracts, prepared
from ..core.errors import UserError
from ..prepared import tables as prepared_tables
from ..prepared.tables import GROUP, NAME
from . import schema
from . import splits as preparation_splits
from .schema import LISTED, stop_at
from .table_files import BLOCK, File, Part, as_numpy, convert, nullable, numbers
from .table_splits import (
    Hashes,
    Spool,
    assign,
    by_level,
    hash_column,
    hash_rows,
    mix,
    ordered,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from .table import Table

REPORT = Path("reports/data.json")
PRINTED = 20  # violations shown on the terminal
SAMPLE = 65_536  # training rows in which leaks are looked for


class _Findings:
    """Violations: all counted, the first ones kept in full."""

    def __init__(self, table: "Table", columns: Mapping[str, schema.Column]) -> None:
        self.table, self.columns = table, columns
        self.counts: Counter[tuple[str, str]] = Counter()
        self.listed: list[tuple[str, int, str, str]] = []
        self.rows = 0

    def add(self, file: File, part: Part, cells: Sequence[schema.Cells]) -> None:
        """Takes the violations of some rows."""
        found: list[tuple[int, str, str]] = []
        room = LISTED - len(self.listed)
        for row, cause in part.ragged:
            self.counts["", "ragged"] += 1
            found.append((row, "", schema.reason("ragged", cause, None, self.table.schema)))
        for column, kind, rows in cells:
            self.counts[column, kind] += len(rows)
            for row in rows[:room].tolist():
                reason = schema.reason(kind, self._text(part, column, row), self.columns[column], self.table.schema)
                found.append((int(part.rows[row]), column, reason))
        self.rows += len(part.ragged) + len(
            np.unique(np.concatenate([np.zeros(0, np.int64), *(rows for *_, rows in cells)]))
        )
        self.listed += [(file.name, *one) for one in sorted(found)[:room]]

    @staticmethod
    def _text(part: Part, column: str, row: int) -> str:
        value = part.values.column(column)[row].as_py()
        text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
        return text if len(text) <= 60 else text[:57] + "..."

    def report(self) -> dict[str, Any]:
        """Returns what reports/data.json tells of them."""
        by_column: dict[str, dict[str, int]] = {}
        for (column, kind), count in sorted(self.counts.items()):
            by_column.setdefault(column or "(whole row)", {})[kind] = count
        return {
            "on_invalid": self.table.on_invalid,
            "violations": self.counts.total(),
            "violations_by_column": by_column,
            "violations_listed": [
                {"file": file, "row": row, "column": column, "reason": reason}
                for file, row, column, reason in self.listed
            ],
        }

    def tell(self) -> None:
        """Prints the first ones, a line each."""
        for file, row, column, reason in self.listed[:PRINTED]:
            where = f"column {column!r}: " if column else ""
            print(f"prepare: {file}: row {row}: {where}{reason}", file=sys.stderr)
        if (more := self.counts.total() - PRINTED) > 0:
            print(f"prepare: {more:,} more violations: {REPORT} counts all and lists {LISTED:,}", file=sys.stderr)


class _Split:
    """Writes a split and remembers of it what the report needs."""

    def __init__(self, folder: Path, fields: "pa.Schema", features: Mapping[str, schema.Column], dtype: type) -> None:
        import pyarrow as pa

        self.folder, self.features, self.dtype = folder, features, np.dtype(dtype)
        self.rows = self._cells = 0
        self.digest = hashlib.sha256()
        self.values: dict[str, set[Any]] = {name: set() for name in features}  # two of them show that it varies
        self.counts: Counter[int] = Counter()
        self.extremes = [np.inf, -np.inf]
        self._sink = _Digesting(folder / "rows.arrow", self.digest)
        self._writer = pa.ipc.new_file(self._sink, fields)
        self._targets = (folder / "targets.npy").open("wb")
        self._pending: list[pa.RecordBatch] = []
        npy_header(self._targets, self.dtype, (0,))

    def add(self, rows: "pa.RecordBatch", targets: NDArray[Any]) -> None:
        """Takes rows and their targets."""
        import pyarrow.compute as pc

        if not len(targets):
            return
        self.rows += len(targets)
        self._targets.write(np.ascontiguousarray(targets, self.dtype).tobytes())
        if self.dtype == np.int64:
            self.counts.update(dict(enumerate(np.bincount(targets).tolist())))
        self.extremes = [min(self.extremes[0], float(targets.min())), max(self.extremes[1], float(targets.max()))]
        for name, seen in self.values.items():
            if len(seen) < 2:
                found = pc.min_max(rows[name]).as_py()
                seen |= {value for value in found.values() if value is not None}
        self._pending.append(rows)
        self._cells += rows.num_rows * rows.num_columns
        if self._cells >= 1 << 20:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._pending:
            self._writer.write_batch(pa.concat_batches(self._pending))
            self._pending, self._cells = [], 0

    def close(self) -> None:
        """Completes the files."""
        self._flush()
        self._writer.close()
        self._sink.close()
        self._targets.seek(0)
        npy_header(self._targets, self.dtype, (self.rows,))
        self._targets.close()
        with (self.folder / "targets.npy").open("rb") as file:
            while block := file.read(BLOCK):
                self.digest.update(block)


class _Digesting(io.FileIO):
    """A file that knows the digest of what is written to it."""

    def __init__(self, path: Path, digest: Any) -> None:
        super().__init__(path, "wb")
        self.digest = digest

    def write(self, data: Any) -> int:
        self.digest.update(data)
        return super().write(data) or 0


def npy_header(file: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    """Writes the beginning of a .npy file."""
    # NumPy leaves room for the largest number of rows, so that the header can be written anew once it is known.
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


class _Ahead(NamedTuple):
    """What must be known of all rows before the first is written.

    Attributes:
        repeated: Ordinals of the rows, over all files, whose id has occurred before.
        boundaries: Time from which rows belong to validation, and to the test.
    """

    repeated: NDArray[np.int64]
    boundaries: tuple[np.uint64, np.uint64]


def _look_ahead(table: "Table", columns: Mapping[str, schema.Column], splits: contracts.Splits, folder: Path) -> _Ahead:
    """Reads ids and times, where there are any to look at."""
    time = table.time if table.split == "time" else None
    unique = next((name for name in [table.id] if name and columns[name].unique), None)
    ids, times, ordinal = Spool(folder), Spool(folder), 0
    wanted = {name: columns[name].type for name in (unique, time) if name}
    for _, part in table.chunks(wanted) if wanted else ():
        if unique:
            values, _ = convert(part.values[unique], "text")
            hashes = hash_column(values)
            missing = np.flatnonzero(as_numpy(values.is_null()))
            hashes[missing] = mix((missing + ordinal).astype(np.uint64))  # missing ids are no duplicates
            ids.add(hashes)
        if time:
            times.add(ordered(convert(part.values[time], columns[time].type)[0].drop_null()))
        ordinal += len(part.rows)
    fractions = (1 - splits.validation - splits.test, 1 - splits.test)
    ranks = [min(max(times.size - 1, 0), round(times.size * fraction)) for fraction in fractions]
    first, second = (times.smallest(rank) for rank in ranks) if times.size else (np.uint64(0), np.uint64(0))
    return _Ahead(np.sort(np.concatenate([np.zeros(0, np.int64), *ids.repeated()])), (first, second))


def _check(
    part: Part, columns: Mapping[str, schema.Column], id: str | None, repeated: NDArray[np.int64]
) -> tuple["pa.RecordBatch", list[schema.Cells]]:
    """Returns the typed rows and every violation in them."""
    import pyarrow as pa

    typed, cells = {}, []
    for name, column in columns.items():
        typed[name], bad = convert(part.values[name], column.type)
        cells += [schema.Cells(name, kind, np.flatnonzero(mask)) for kind, mask in bad.items()]
    found = pa.RecordBatch.from_arrays(list(typed.values()), list(typed))
    told = {name: np.concatenate([rows for other, _, rows in cells if other == name]) for name, *_ in cells}
    for name, kind, rows in schema.violations(found, columns):
        # What could not be read is null by now; it is one violation, not two.
        rows = np.setdiff1d(rows, told[name]) if kind == "null" and name in told else rows
        if len(rows):
            cells.append(schema.Cells(name, kind, rows))
    if id is not None and len(repeated):
        cells.append(schema.Cells(id, "duplicate", repeated))
    return found, cells


def _apply(
    rows: "pa.RecordBatch", cells: Sequence[schema.Cells], table: "Table"
) -> tuple["pa.RecordBatch", NDArray[np.bool_]]:
    """Returns the rows with the policy applied to their violations, and which of them remain."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kept = np.ones(len(rows), np.bool_)
    for name, _, where in cells:
        if table.on_invalid == "impute" and name not in table.roles:
            bad = np.zeros(len(rows), np.bool_)
            bad[where] = True
            index = rows.column_names.index(name)
            rows = rows.set_column(index, name, pc.if_else(pa.array(bad), None, rows[name]))
        else:
            kept[where] = False
    return rows, kept


def _names(table: "Table", file: File, part: Part, rows: "pa.RecordBatch") -> "pa.Array":
    import pyarrow as pa
    import pyarrow.compute as pc

    if table.id is not None:
        return rows[table.id]
    return pc.binary_join_element_wise(Path(file.name).name, pa.array(part.rows).cast(pa.string()), ":")


def write(table: "Table", splits: contracts.Splits, folder: Path = prepared.PREPARED) -> dict[str, Any]:
    """Streams a table to disk.

    Args:
        table: Where the rows come from.
        splits: Seed and fractions of the split.
        folder: Where to write; replaced as a whole once everything is written.

    Returns:
        The report: examples by split and class, violations by column and kind, rows dropped, cells imputed,
        duplicates, warnings.

    Raises:
        UserError: Where the table does not fit its schema, or a split lacks rows or a class.
    """
    import pyarrow as pa
    from tqdm import tqdm

    columns = table.columns()
    features = {name: column for name, column in columns.items() if name not in table.roles}
    index_of = {name: index for index, name in enumerate(columns[table.target].categories or [])}
    number_of_rows = dropped = imputed = 0
    nulls: Counter[str] = Counter()
    findings = _Findings(table, columns)
    fields = pa.schema([(name, pa.float64() if c.type == "number" else pa.string()) for name, c in features.items()])
    fields = fields.append(pa.field(NAME, pa.string()))
    if table.group is not None:
        fields = fields.append(pa.field(GROUP, pa.string()))
    dtype = np.float64 if table.problem == "regression" else np.int64
    with preparation_splits.replaced(folder) as temporary:
        contents = Spool(temporary)
        ahead = _look_ahead(table, columns, splits, temporary)
        with tqdm(desc="prepare", unit=" rows", unit_scale=True, disable=None) as progress:
            writers = [_Split(temporary / name, fields, features, dtype) for name in prepared.SPLITS]
            ordinal = 0
            for file, part in table.chunks({name: column.type for name, column in columns.items()}):
                low, high = np.searchsorted(ahead.repeated, (ordinal, ordinal + len(part.rows)))
                rows, cells = _check(part, columns, table.id, ahead.repeated[low:high] - ordinal)
                ordinal += len(part.rows)
                number_of_rows += len(part.rows) + len(part.ragged)
                nulls.update({name: rows[name].null_count for name in columns if rows[name].null_count})
                if cells or part.ragged:
                    for name, kind, where in cells:
                        nulls[name] -= len(where) if kind in _UNREADABLE else 0
                    findings.add(file, part, cells)
                rows, kept = _apply(rows, cells, table)
                if table.on_invalid == "impute":
                    imputed += sum(int(kept[where].sum()) for name, _, where in cells)
                dropped += len(part.ragged) + int((~kept).sum())
                progress.update(len(kept))
                if findings.counts and table.on_invalid == "stop":
                    continue  # only to find the other violations
                rows = rows.append_column(NAME, _names(table, file, part, rows))
                if table.group is not None:
                    rows = rows.append_column(GROUP, rows[table.group])
                if not kept.all():
                    rows = rows.filter(pa.array(kept))
                targets = (
                    numbers(rows[table.target])
                    if table.problem == "regression"
                    else by_level(rows[table.target], lambda name: index_of[name or ""], np.int64)
                )
                content = hash_rows(rows.select([*features, table.target]))
                contents.add(content)
                which = _divide(table, rows, content, splits, ahead.boundaries)
                written = _canonical(rows.select(fields.names), fields)
                for index, writer in enumerate(writers):
                    mine = which == index
                    writer.add(written.filter(pa.array(mine)), targets[mine])
        for writer in writers:
            writer.close()
        duplicates = sum(map(len, contents.repeated()))
        del contents
        report = {"rows": number_of_rows, "skipped": dropped, "duplicates": duplicates, **findings.report()}
        report["imputed"] = imputed
        _stop_at_findings(table, findings, number_of_rows, report)
        described = _describe(table, features, writers)
        report["examples"] = described["examples"]
        if table.problem == "classification":
            preparation_splits.require_every_class(described["classes"], described["counts"])
            report["classes"] = {
                split: dict(zip(described["classes"], counts, strict=True))
                for split, counts in described["counts"].items()
            }
        _stop_at_empty(table, described["examples"])
        stop_at(_column_problems(table, columns, writers, nulls, number_of_rows))
        report["warnings"] = _warnings(table, features, writers, splits, temporary)
        for warning in report["warnings"]:
            print(f"prepare: warning: {warning}", file=sys.stderr)
        preparation_splits.write_manifest(described, temporary)
    return report


_UNREADABLE = ("type", "size", "encoding")  # such cells are null by now, though nobody left them empty


def _canonical(rows: "pa.RecordBatch", fields: "pa.Schema") -> "pa.RecordBatch":
    """Returns the same rows with bytes that depend on their content alone, what lies under a null included."""
    import pyarrow as pa

    columns = [nullable(numbers(values)) if pa.types.is_floating(values.type) else values for values in rows.columns]
    return pa.RecordBatch.from_arrays(columns, schema=fields)


def _divide(
    table: "Table",
    rows: "pa.RecordBatch",
    content: Hashes,
    splits: contracts.Splits,
    boundaries: tuple[np.uint64, np.uint64],
) -> NDArray[np.int64]:
    if table.split == "time":
        return np.searchsorted(np.asarray(boundaries), ordered(rows[table.time]), side="right")
    return assign(hash_column(rows[table.group]) if table.split == "group" else content, splits)


def _stop_at_findings(table: "Table", findings: _Findings, number: int, report: Mapping[str, Any]) -> None:
    if not number:
        raise UserError(f"{table.label}: has no rows below its header: nothing can be prepared")
    findings.tell()
    if findings.counts and table.on_invalid == "stop":
        REPORT.parent.mkdir(exist_ok=True)
        REPORT.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        raise UserError(
            f"{findings.counts.total():,} violation(s) in {findings.rows:,} of {number:,} rows (see above and "
            f"{REPORT}): mend them, correct {table.schema}, or set data.on_invalid: drop or impute in conf/"
        )


def _column_problems(
    table: "Table",
    columns: Mapping[str, schema.Column],
    writers: Sequence[_Split],
    nulls: Counter[str],
    number: int,
) -> list[str]:
    """Returns what is wrong with whole columns: no row can be dropped to mend it."""
    problems = [
        f"{table.label}: column {name!r}: {nulls[name] / number:.2%} of the rows lack it, {table.schema} allows "
        f"{column.nulls:.2%}: mend the data, or raise `nulls:` there"
        for name, column in columns.items()
        if column.nulls and nulls[name] / number > column.nulls
    ]
    for name in writers[0].features:
        found = set().union(*(writer.values[name] for writer in writers))
        if len(found) < 2 and not columns[name].constant and sum(writer.rows for writer in writers) > 1:
            problems.append(
                f"{table.label}: column {name!r} holds one value only, {', '.join(map(str, found)) or 'none'}: mend "
                f"the data, name it in data.drop, or set `constant: true` in {table.schema}"
            )
    low = min(writer.extremes[0] for writer in writers)
    if table.problem == "regression" and low == max(writer.extremes[1] for writer in writers):
        problems.append(f"{table.label}: the target {table.target!r} is {low:g} in all rows: nothing can be learnt")
    return problems


def _stop_at_empty(table: "Table", examples: Mapping[str, int]) -> None:
    if empty := [split for split, number in examples.items() if not number]:
        cure = {
            "random": "add rows, raise prepare.validation/test or change prepare.seed",
            "group": f"column {table.group!r} has too few groups: add some, or change prepare.seed",
            "time": f"column {table.time!r} has too few different times: use data.split: random",
        }
        raise UserError(
            f"{table.label}: split {' and '.join(empty)} has no rows of {sum(examples.values())}: {cure[table.split]}"
        )


def _describe(table: "Table", features: Mapping[str, schema.Column], writers: Sequence[_Split]) -> dict[str, Any]:
    splits = dict(zip(prepared.SPLITS, writers, strict=True))
    described: dict[str, Any] = {
        "input": "tables",
        "target": table.problem,
        "target_name": table.target,
        "columns": [{"name": name, "type": column.type} for name, column in features.items()],
        "examples": {split: writer.rows for split, writer in splits.items()},
        "digests": {split: writer.digest.hexdigest() for split, writer in splits.items()},
    }
    if table.id is not None:
        described["id"] = table.id
    if table.group is not None:
        described["group"] = table.group
    if table.problem == "classification":
        classes = schema.load(table.schema)[table.target].categories or []
        described["classes"] = classes
        described["counts"] = {
            split: [writer.counts[label] for label in range(len(classes))] for split, writer in splits.items()
        }
    return described


def _warnings(
    table: "Table",
    features: Mapping[str, schema.Column],
    writers: Sequence[_Split],
    splits: contracts.Splits,
    folder: Path,
) -> list[str]:
    """Returns what is suspicious in the training split, or in how the rows divide."""
    warnings = [
        f"column {name!r} is constant in the training split and tells nothing: name it in data.drop"
        for name, seen in writers[0].values.items()
        if len(seen) < 2
    ]
    total = sum(writer.rows for writer in writers)
    for writer, name, expected in zip(writers[1:], prepared.SPLITS[1:], (splits.validation, splits.test), strict=True):
        if total >= 200 and abs(writer.rows / total - expected) > expected / 2:
            cause = {
                "random": "many rows are equal, and equal rows stay together; data.split: group with an identifier as "
                "data.group divides them",
                "group": f"the groups in {table.group!r} are few or of unequal size",
                "time": f"many rows have the same {table.time!r}",
            }
            warnings.append(
                f"split {name} holds {writer.rows / total:.0%} of the rows, {expected:.0%} are configured: "
                f"{cause[table.split]}"
            )
    sample = next(prepared_tables.batches("train", SAMPLE, folder))
    targets = np.load(folder / "train/targets.npy", mmap_mode="r")[: len(sample)]
    for name, column in features.items():
        if column.type == "category" and column.categories is None:
            levels = len(sample[name].unique())
            if levels > schema.MAX_CATEGORIES:
                warnings.append(
                    f"column {name!r} has {levels:,} different texts in {len(sample):,} training rows: an identifier "
                    "or free text? Name it in data.drop, or group the rare ones"
                )
        if leak := _leak(sample[name], np.asarray(targets), table.problem):
            warnings.append(
                f"column {name!r} {leak}: would it be known when a prediction is asked for? If not, name it in "
                "data.drop"
            )
    return warnings


def _leak(values: "pa.Array", targets: NDArray[Any], problem: str) -> str | None:
    """Returns how a column gives away the target, if it does."""
    import pyarrow as pa

    valid = as_numpy(values.is_valid())
    values, targets = values.drop_null(), targets[valid]
    if len(targets) < 20 or targets.min() == targets.max():
        return None
    if pa.types.is_floating(values.type):
        found = numbers(values)
        if found.min() == found.max():
            return None
        if problem == "classification":
            low, high = _extremes(found, targets)
            order = np.argsort(low)
            apart = (low[order][1:] > high[order][:-1]).all()
            return "separates the classes without an error" if apart else None
        for way, x, y in (("", found, targets), ("the rank of ", _ranks(found), _ranks(targets))):
            if abs(np.corrcoef(x, y)[0, 1]) > 0.9999:
                return f"is as good as {way}the target (|correlation| > 0.9999)"
        return None
    codes = values.dictionary_encode()
    if len(codes.dictionary) < 2 or len(codes.dictionary) > len(targets) / 2:
        return None  # nearly every value occurs once: that gives nothing away
    low, high = _extremes(targets, as_numpy(codes.indices))
    return "has the target's value for each of its own" if (low == high).all() else None


def _extremes(values: NDArray[Any], groups: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Returns the smallest and the largest value of each group that occurs."""
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=groups.min() - 1))
    return np.minimum.reduceat(values[order], starts), np.maximum.reduceat(values[order], starts)


def _ranks(values: NDArray[Any]) -> NDArray[np.int64]:
    """Returns the rank of each value, the same for equal ones."""
    ranks: NDArray[np.int64] = np.unique(values, return_inverse=True)[1]
    return ranks
