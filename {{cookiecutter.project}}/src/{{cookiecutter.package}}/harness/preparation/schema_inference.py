"""Inference of a table's schema from its rows."""

import math
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from numpy.typing import NDArray

from ..core import config, files
from ..core.errors import UserError
from ..inputs.table_notation import LARGEST, Notation
from . import schema_hints, table_private
from .schema import MAX_CATEGORIES, Column
from .table import Table
from .table_cells import as_numpy, convert, holds_no_values, stored
from .table_guesses import MOSTLY

if TYPE_CHECKING:
    import pyarrow as pa


class _Statistics:
    """Statistics of a column, in bounded memory.

    Attributes:
        rows: Number of cells.
        nulls: Number of missing cells.
        words: Word for a missing value -> number of cells.
        low: Smallest number.
        high: Largest number.
        texts: Canonical texts; None if there are more than `MAX_CATEGORIES`.
        other: A text that is no number, if any.
        undecodable: Number of cells in another encoding.
    """

    def __init__(self, notation: Notation) -> None:
        self.rows = self.nulls = 0
        self.words: Counter[str] = Counter()
        self.low, self.high = math.inf, -math.inf
        self.texts: set[str] | None = set()
        self.other: str | None = None
        self.undecodable = 0
        self._notation = notation
        self._numbers = self._times = self._dates = 0

    def add(self, values: "pa.Array", is_time: bool) -> None:
        """Updates the statistics with some cells."""
        import pyarrow as pa
        import pyarrow.compute as pc

        self.rows += len(values)
        levels = stored(values).value_counts()  # so that each distinct cell is converted once
        cells, counts = levels.field("values"), as_numpy(levels.field("counts"))
        numbers, _ = convert(cells, "number", self._notation, "")
        is_number = as_numpy(numbers.is_valid())
        # Once there are too many texts to list, those of numbers are of no interest, and take the most time.
        chosen = np.ones_like(is_number) if self.texts is not None else ~is_number
        texts, bad = convert(cells.filter(pa.array(chosen)), "text", self._notation, "")
        missing, undecodable = chosen.copy(), bad.get("encoding", np.zeros(len(texts), np.bool_))
        missing[chosen] = as_numpy(texts.is_null()) & ~undecodable
        self.undecodable += int(counts[chosen][undecodable].sum())
        self.nulls += int(counts[missing].sum())
        self._add_words(cells.filter(pa.array(missing)), counts[missing])
        # Truth values are categories, although a column of numbers may hold them.
        is_number[chosen] &= ~as_numpy(pc.is_in(texts, pa.array(["true", "false"])))
        self._numbers += int(counts[is_number].sum())
        others = texts.filter(pa.array(~is_number[chosen])).drop_null()
        self.other = self.other or (others[0].as_py() if len(others) else None)
        numbers = numbers.filter(pa.array(is_number))
        if len(numbers):
            extremes = pc.min_max(numbers).as_py()
            self.low, self.high = min(self.low, extremes["min"]), max(self.high, extremes["max"])
        else:
            self._dates += self._count(cells, counts, "date")
            self._times += self._count(cells, counts, "time") if is_time else 0
        if self.texts is not None:
            self.texts.update(texts.drop_null().to_pylist())
            if len(self.texts) > MAX_CATEGORIES:
                self.texts = None

    def _count(self, cells: "pa.Array", counts: NDArray[np.int64], type: str) -> int:
        """Number of cells of a type."""
        return int(counts[as_numpy(convert(cells, type, self._notation, "")[0].is_valid())].sum())

    def _add_words(self, cells: "pa.Array", counts: NDArray[np.int64]) -> None:
        for cell, count in zip(cells.to_pylist(), counts.tolist(), strict=True):
            word = cell.decode() if isinstance(cell, bytes) else str(cell)
            if word in self._notation.nulls:
                self.words[word] += count

    @property
    def numeric(self) -> bool:
        """Whether the column holds numbers."""
        return self._mostly(self._numbers)

    @property
    def dated(self) -> bool:
        """Whether the column holds dates."""
        return self._mostly(self._dates)

    @property
    def temporal(self) -> bool:
        """Whether the column holds times."""
        return self._mostly(self._times)

    @property
    def constant(self) -> bool:
        """Whether all cells are equal; a missing one equals no other."""
        return self.texts is not None and len(self.texts) + (self.nulls > 0) < 2

    @property
    def unusable(self) -> int:
        """Number of cells that are not numbers."""
        return self.rows - self.nulls - self._numbers

    def _mostly(self, count: int) -> bool:
        return count > 0 and count >= MOSTLY * (self.rows - self.nulls)


def infer(source: Table) -> dict[str, Column]:
    """The schema of a table, from all of its rows.

    Args:
        source: The table.

    Raises:
        UserError: If a header or a configured column is wrong, or there are no rows.
    """
    names = source.header()
    statistics = {name: _Statistics(source.notation()) for name in names}
    ragged: list[tuple[int, str]] = []
    for part in source.chunks(dict.fromkeys(names, "raw")):
        for name, values in zip(names, part.values.columns, strict=True):
            if holds_no_values(values.type):
                raise UserError(
                    f"{part.file}: column {name!r} holds {values.type}, which is no value: write it as a number or "
                    "text, or name it in data.drop"
                )
            statistics[name].add(values, name == source.time)
        ragged += part.ragged[: 1 - len(ragged)]
    if ragged and not statistics[names[0]].rows:
        row, error = ragged[0]
        doubt = "is the first line the header, and are cells quoted that contain the delimiter?"
        raise UserError(f"{source.label}: row {row} {error}, and so all others: {doubt}")
    if not names or not statistics[names[0]].rows:
        cause = "has no rows below its header" if source.keep is None else "has no row that the filter keeps"
        raise UserError(f"{source.label}: {cause}, so that nothing can be inferred")
    _report_index(source)
    return {name: _column(name, column, source) for name, column in statistics.items()}


def _column(name: str, statistics: _Statistics, source: Table) -> Column:
    type = _column_type(name, statistics, source)
    if statistics.undecodable:
        print(
            f"schema: column {name!r}: not {source.encoding} in {schema_hints.cells(statistics.undecodable)}: correct "
            "data.encoding, or save the file in that encoding",
            file=sys.stderr,
        )
    if statistics.words and type != "number":
        words = ", ".join(f"{word!r} ({count:,} cells)" for word, count in sorted(statistics.words.items()))
        print(
            f"schema: column {name!r}: missing, as data.nulls says: {words}; remove there what is a value",
            file=sys.stderr,
        )
    if type == "time":
        return Column(type="time")
    if type == "text":
        return Column(type="text", unique=name == source.id)
    nulls = 0.0 if name in source.roles else min(1.0, math.ceil(200 * statistics.nulls / statistics.rows) / 100)
    constant = statistics.constant
    if type == "date":
        return Column(type="date", nulls=nulls, constant=constant)
    if type == "number":
        low, high = _bounds(name, statistics)
        return Column(type="number", min=low, max=high, nulls=nulls, constant=constant)
    if statistics.texts is None:
        _report_many_texts(name, source)
    categories = None if statistics.texts is None else sorted(statistics.texts)
    return Column(type="category", categories=categories, nulls=nulls, constant=constant)


def _column_type(name: str, statistics: _Statistics, source: Table) -> str:
    if name == source.target:
        return _target_type(name, statistics, source)
    if name == source.time:
        return _time_type(name, statistics)
    if name in (source.id, source.group):
        return "text"
    if name in source.categories:
        return "category"
    return "number" if statistics.numeric else "date" if statistics.dated else "category"


def _target_type(name: str, statistics: _Statistics, source: Table) -> str:
    if statistics.nulls == statistics.rows:
        raise UserError(f"data.target: column {name!r} is empty in all rows: choose another column")
    if source.problem == "classification":
        if statistics.texts is not None and len(statistics.texts) == 1:
            gaps = ": choose another column"
            if statistics.nulls:
                gaps = f"; {statistics.nulls:,} cells are empty, which is no class: write a word there if it means one"
            raise UserError(f"data.target: column {name!r} has the single class {min(statistics.texts)!r}{gaps}")
        return "category"
    if not statistics.numeric:
        raise UserError(
            f"data.target: column {name!r} does not hold numbers: choose another column or problem: classification"
        )
    return "number"


def _time_type(name: str, statistics: _Statistics) -> str:
    if not statistics.numeric and not statistics.temporal:
        raise UserError(f"data.time: column {name!r} holds neither numbers nor times such as 2026-01-31T12:00:00")
    return "number" if statistics.numeric else "time"


def _report_index(source: Table) -> None:
    for name in dict.fromkeys(name for file in source.files for name in source.index(file)):
        print(
            f"schema: column {name!r} is the index of a pandas DataFrame, so no feature; if it should be one, write "
            "the file after `reset_index()`",
            file=sys.stderr,
        )


def _report_many_texts(name: str, source: Table) -> None:
    if name == source.target:
        raise UserError(
            f"data.target: column {name!r} has more than {MAX_CATEGORIES} classes: choose problem: regression or "
            "another column"
        )
    if name not in source.categories:
        print(
            f"schema: column {name!r} has more than {MAX_CATEGORIES} different texts: an identifier or free text? "
            "Name it in data.drop, or keep it: the schema then allows any text",
            file=sys.stderr,
        )


def _bounds(name: str, statistics: _Statistics) -> tuple[float, float]:
    """The range, extended at both ends and rounded outward.

    The extension is half the width of the range, or half the size of a constant.
    """
    if statistics.unusable:
        print(
            f"schema: column {name!r}: no number in {schema_hints.cells(statistics.unusable)}, such as "
            f"{schema_hints.shown(statistics.other or '')}: `prepare` lists them; codes belong in data.categories",
            file=sys.stderr,
        )
    low, high = statistics.low, statistics.high
    slack = (high - low) / 2 or abs(low) / 2 or 1.0
    step = 10.0 ** (math.floor(math.log10(slack)) - 1)
    wide = (math.floor((low - slack) / step) * step, math.ceil((high + slack) / step) * step)
    lowest, highest = (float(f"{max(-LARGEST, min(LARGEST, bound)):.12g}") for bound in wide)
    lowest, highest = min(lowest, low), max(highest, high)  # 12 digits do not tell large identifiers apart
    return (max(0.0, lowest) if low >= 0 else lowest), (min(0.0, highest) if high <= 0 else highest)


def write(columns: Mapping[str, Column], path: Path) -> None:
    """Writes a schema as YAML, without defaults.

    Args:
        columns: The schema.
        path: File to write.
    """
    import yaml

    content = {"columns": {name: column.model_dump(exclude_defaults=True) for name, column in columns.items()}}
    text = yaml.safe_dump(content, default_flow_style=None, width=100, allow_unicode=True, sort_keys=False)
    head = "# `prepare` checks every row against this; harness/preparation/schema.py explains each key.\n"
    files.write_text(path, head + text)


@click.command("schema")
@click.option("--force", is_flag=True, help="Overwrite the file if it exists.")
@click.option("--private", is_flag=True, help="Write nothing; name columns that look like personal data.")
def command(force: bool, private: bool) -> None:
    """Infer the schema of the configured table from its rows.

    Writes the file that data.schema names: review it, correct it and commit it. `prepare` checks every row against it.
    """
    from omegaconf import OmegaConf

    composed: Any = OmegaConf.to_container(OmegaConf.create(config.compose()))
    config.check({"data": composed.get("data")}, {}, ["data"])
    source = config.instantiate(composed["data"])
    if not isinstance(source, Table):
        raise UserError(f"data: {composed['data']['_target_']} is not a table source; only tables have a schema")
    if private:
        print("\n".join(table_private.report(source)))
        return
    if source.schema.exists() and not force:
        raise UserError(f"{source.schema} exists: edit it, or overwrite it with --force and review the difference")
    hints = schema_hints.hints(source)
    for hint in hints:
        print(f"schema: {hint}", file=sys.stderr)
    columns = infer(source)
    write(columns, source.schema)
    again = "; after changing keys of data, infer it again with --force" if hints else ""
    print(f"{source.schema}: {len(columns)} columns. Review it, correct it and commit it{again}", file=sys.stderr)
