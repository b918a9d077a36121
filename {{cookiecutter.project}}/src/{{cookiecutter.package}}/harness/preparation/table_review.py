"""Review of whole columns and splits: errors and warnings."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..contracts import Splits
from ..core.errors import UserError, shortened
from ..prepared import SPLITS
from ..prepared.tables import batches
from . import table_guesses
from .schema import MAX_CATEGORIES, Column
from .table import Problem, Table
from .table_cells import as_numpy, numbers
from .table_writer import SplitWriter

if TYPE_CHECKING:
    import pyarrow as pa

STEPS = 1000  # number of 32-bit numbers within the range of a target from which it is fine enough
MANY = 30  # number of levels from which they may be numbers
FEW = 10  # number of rows below which a pattern may be chance
SAMPLE = 65_536  # number of training rows that are searched for leaks


def require_rows(table: Table, examples: Mapping[str, int]) -> None:
    """Rejects empty splits.

    Args:
        table: The table.
        examples: Split -> number of rows.

    Raises:
        UserError: Naming the empty splits, with a remedy.
    """
    if empty := [split for split, number in examples.items() if not number]:
        more = "add rows, raise prepare.validation/test or change prepare.seed"
        remedy = {
            "random": more,
            "stratified": more,
            "group": f"column {table.group!r} has too few groups: add some, or change prepare.seed",
            "time": f"column {table.time!r} has too few distinct times: use data.split: random",
        }
        raise UserError(
            f"{table.label}: split {' and '.join(empty)} got none of the {sum(examples.values())} rows: "
            + remedy[table.split]
        )


def column_problems(
    table: Table, columns: Mapping[str, Column], writers: Sequence[SplitWriter], missing: Mapping[str, float]
) -> list[str]:
    """Errors of whole columns, which dropping rows cannot fix.

    Args:
        table: The table.
        columns: Schema of the table.
        writers: The splits.
        missing: Column -> fraction of missing values.
    """
    return [
        *_missing_values(table, columns, missing),
        *_single_values(table, columns, writers),
        *_single_target(table, writers),
    ]


def _missing_values(table: Table, columns: Mapping[str, Column], missing: Mapping[str, float]) -> list[str]:
    return [
        f"{table.label}: column {name!r}: {missing[name]:.2%} of the rows lack it, {table.schema} allows "
        f"{column.nulls:.2%}: fix the data, or raise `nulls:` there"
        for name, column in columns.items()
        if column.nulls and missing[name] > column.nulls
    ]


def _single_values(table: Table, columns: Mapping[str, Column], writers: Sequence[SplitWriter]) -> Iterator[str]:
    if sum(writer.rows for writer in writers) < 2:
        return
    for name in writers[0].values:
        values = set().union(*(writer.values[name] for writer in writers))
        if len(values) < 2 and not columns[name].constant:
            yield (
                f"{table.label}: column {name!r} has a single value, {', '.join(map(_shown, values))}: "
                f"fix the data, name it in data.drop, or set `constant: true` in {table.schema}"
            )


def _shown(value: float | str | None) -> str:
    return "none" if value is None else str(value)


def _single_target(table: Table, writers: Sequence[SplitWriter]) -> Iterator[str]:
    low = min(writer.low for writer in writers)
    if table.problem == "regression" and low == max(writer.high for writer in writers):
        yield f"{table.label}: the target {table.target!r} is {low:g} in all rows: choose another target"


def warnings(
    table: Table, features: Mapping[str, Column], writers: Sequence[SplitWriter], splits: Splits, folder: Path
) -> list[str]:
    """Warnings about suspicious columns and unexpected sizes of splits.

    Args:
        table: The table.
        features: Schema of the features.
        writers: The splits.
        splits: Expected fractions of the splits.
        folder: Folder of the prepared data.
    """
    return [
        *_constant(writers[0]),
        *_coarse_target(table, writers),
        *_unexpected_sizes(table, writers, splits),
        *_suspicious_columns(table, features, folder),
    ]


def _constant(training: SplitWriter) -> Iterator[str]:
    names = [name for name, values in training.values.items() if len(values) < 2]
    shown = shortened([*map(repr, names)])
    if len(names) == 1:
        yield f"column {shown} is constant in the training split, a model learns nothing from it: name it in data.drop"
    elif names:
        yield f"columns {shown} are constant in the training split, a model learns nothing from them: see data.drop"


def _coarse_target(table: Table, writers: Sequence[SplitWriter]) -> Iterator[str]:
    low, high = min(writer.low for writer in writers), max(writer.high for writer in writers)
    step = float(np.spacing(np.float32(max(abs(low), abs(high)))))
    if table.problem == "regression" and high - low < STEPS * step:
        yield (
            f"the target {table.target!r} goes from {low:.10g} to {high:.10g}, where the 32-bit numbers of a model are "
            f"{step:.2g} apart: predict the difference from a fixed number instead"
        )


def _unexpected_sizes(table: Table, writers: Sequence[SplitWriter], splits: Splits) -> Iterator[str]:
    total = sum(writer.rows for writer in writers)
    equal = (
        "many rows are equal, and equal rows stay together; data.split: group with an identifier as data.group divides "
        "them"
    )
    cause = {
        "random": equal,
        "stratified": equal,
        "group": f"the groups in {table.group!r} are few or of unequal size",
        "time": f"many rows have the same {table.time!r}",
    }
    for split, expected, writer in zip(SPLITS[1:], (splits.validation, splits.test), writers[1:], strict=True):
        if total >= 200 and abs(writer.rows / total - expected) > expected / 2:
            yield (
                f"split {split} holds {writer.rows / total:.0%} of the rows, {expected:.0%} are configured: "
                f"{cause[table.split]}"
            )


def _suspicious_columns(table: Table, features: Mapping[str, Column], folder: Path) -> Iterator[str]:
    sample = next(batches("train", SAMPLE, folder))
    targets = np.asarray(np.load(folder / "train/targets.npy", mmap_mode="r")[: len(sample)])
    for name, column in features.items():
        if column.type == "category" and name not in table.categories:
            yield from _many_levels(name, sample[name], column, table)
        if found := leak(sample[name], targets, table.problem):
            yield f"column {name!r} {found}: is it known when a prediction is made? If not, name it in data.drop"


def _many_levels(name: str, values: "pa.Array", column: Column, table: Table) -> Iterator[str]:
    import pyarrow.compute as pc

    counted = pc.value_counts(values.drop_null())
    levels: dict[str, int] = dict(zip(counted.field(0).to_pylist(), counted.field(1).to_pylist(), strict=True))
    if len(levels) >= MANY and (guess := table_guesses.notation(levels, table.notation())):
        advice = guess.advice if guess.unit else f"if all are written so, {guess.advice} and infer the schema again"
        looks = f"{len(levels):,} categories that are {guess.what}, such as {guess.example!r}"
        yield f"column {name!r} has {looks}: {advice}"
    elif len(levels) > MAX_CATEGORIES and column.categories is None:
        yield (
            f"column {name!r} has {len(levels):,} different texts in {len(values):,} training rows: an identifier "
            "or free text? Name it in data.drop, or group the rare ones"
        )


def leak(values: "pa.Array", targets: NDArray[Any], problem: Problem) -> str | None:
    """Description of a target leak; None if the column does not leak.

    Args:
        values: Cells of a feature, doubles or texts.
        targets: Numbers or indices of classes, [n].
        problem: Whether the target holds classes or numbers.
    """
    import pyarrow as pa

    valid = as_numpy(values.is_valid())
    if problem == "classification" and _gaps_tell(valid, targets):
        return "is filled for some classes and empty for all others"
    values, targets = values.drop_null(), targets[valid]
    if len(targets) < 20 or targets.min() == targets.max():
        return None
    if not pa.types.is_floating(values.type):
        return _text_leak(values, targets)
    cells = numbers(values)
    if cells.min() == cells.max():
        return None
    if problem == "classification":
        low, high = _extremes(cells, targets)
        order = np.argsort(low)
        separated = (low[order][1:] > high[order][:-1]).all()
        return "separates the classes without error" if separated else None
    if _correlated(cells, targets):
        return "is as good as the target (|correlation| > 0.9999)"
    if _correlated(_ranks(cells), _ranks(targets)):
        return "is as good as the rank of the target (|correlation| > 0.9999)"
    return None


def _gaps_tell(valid: NDArray[np.bool_], targets: NDArray[Any]) -> bool:
    """Whether each class has the cell in all of its rows or in none."""
    return min(valid.sum(), (~valid).sum()) >= FEW and not np.intersect1d(targets[valid], targets[~valid]).size


def _text_leak(values: "pa.Array", targets: NDArray[Any]) -> str | None:
    codes = values.dictionary_encode()
    if len(codes.dictionary) < 2 or len(codes.dictionary) > len(targets) / 2:
        return None  # nearly every text occurs once, which proves nothing
    low, high = _extremes(targets, as_numpy(codes.indices))
    return "determines the target: each text has a single target value" if (low == high).all() else None


def _correlated(x: NDArray[Any], y: NDArray[Any]) -> bool:
    return bool(abs(np.corrcoef(x, y)[0, 1]) > 0.9999)


def _extremes(values: NDArray[Any], groups: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Minimum and maximum of the values in each group."""
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=groups.min() - 1))
    return np.minimum.reduceat(values[order], starts), np.maximum.reduceat(values[order], starts)


def _ranks(values: NDArray[Any]) -> NDArray[np.int64]:
    """Rank of each value; equal values have equal ranks."""
    ranks: NDArray[np.int64] = np.unique(values, return_inverse=True)[1]
    return ranks
