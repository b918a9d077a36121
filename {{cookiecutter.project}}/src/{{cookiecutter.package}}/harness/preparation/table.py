"""A table to prepare: its files, the roles of its columns, its schema, and a filter of its rows."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from pydantic import Field

from ..core import paths
from ..core.errors import UserError
from ..prepared.tables import GROUP, NAME
from .schema import Column, load
from .schema_checks import suggestion
from .table_cells import as_numpy, convert
from .table_files import File, Part

if TYPE_CHECKING:
    import pyarrow as pa

Problem = Literal["classification", "regression"]
Division = Literal["random", "group", "time"]
OnInvalid = Literal["stop", "drop", "impute"]
Character = Annotated[str, Field(min_length=1, max_length=1)]

LISTED = 1000  # problems that are printed, violations that the report holds; all are counted


def refuse(problems: Sequence[str]) -> None:
    """Stops at problems that no `on_invalid` can solve.

    Args:
        problems: A line for each; without any, nothing happens.

    Raises:
        UserError: With the problem; several are printed first.
    """
    if len(problems) == 1:
        raise UserError(problems[0])
    for problem in problems[:LISTED]:
        print(f"prepare: {problem}", file=sys.stderr)
    if problems:
        raise UserError(f"the table has {len(problems)} errors, listed above")


class Filter(NamedTuple):
    """A filter of rows, applied before anything else: the other rows do not exist for schema, checks and splits.

    Attributes:
        columns: Column on which the filter depends -> its type, as in the schema. It may be named in data.drop.
        keep: From these columns to a boolean Arrow array, whether to keep each row; null leaves the row out.
    """

    columns: Mapping[str, str]
    keep: Callable[["pa.RecordBatch"], "pa.Array"]

    def reads(self, wanted: Mapping[str, str]) -> dict[str, str]:
        """The columns to read from the files, so that both the filter and a pass over the table have theirs.

        Args:
            wanted: Column -> type that the pass reads.
        """
        # Text can be converted to either type.
        contested = {name: "text" for name, type in self.columns.items() if wanted.get(name, type) not in (type, "raw")}
        return {**self.columns, **wanted, **contested}

    def apply(self, part: Part) -> Part:
        """The rows of a part that the filter keeps, and its ragged rows, which have no cells to judge."""
        import pyarrow as pa
        import pyarrow.compute as pc

        cells = [convert(part.values[name], type)[0] for name, type in self.columns.items()]
        kept = pc.fill_null(self.keep(pa.RecordBatch.from_arrays(cells, [*self.columns])), False)
        return part._replace(rows=part.rows[as_numpy(kept)], values=part.values.filter(kept))


@dataclass(frozen=True, kw_only=True)
class Table:
    """A source of rows, as a function of data/tables.py returns it.

    Attributes:
        label: Name of the table in messages.
        files: Its files, in the order of the rows.
        path: File or folder that DVC must watch, None for data that ship inside a package.
        schema: File of the schema.
        keep: Filter of the rows, None to keep all.

    The other attributes are settings of the section `data`: see `TableSettings` in data/tables.py.
    """

    label: str
    files: Sequence[File]
    target: str
    problem: Problem
    schema: Path
    on_invalid: OnInvalid
    path: Path | None = None
    drop: Sequence[str] = ()
    categories: Sequence[str] = ()
    id: str | None = None
    time: str | None = None
    group: str | None = None
    split: Division = "random"
    keep: Filter | None = None

    def __post_init__(self) -> None:
        """Refuses columns with contradicting roles."""
        for division, column in (("group", self.group), ("time", self.time)):
            if self.split == division and column is None:
                raise UserError(f"data.split: {division} needs data.{division}: name the column")
        for key, columns in (("drop", self.drop), ("id", [self.id]), ("time", [self.time]), ("group", [self.group])):
            if self.target in columns:
                raise UserError(f"data.{key}: {self.target!r} is the target already: choose another column")
        if overlap := sorted({*self.drop} & {self.id, self.time, self.group, *self.categories}):
            raise UserError(f"data.drop: {overlap[0]!r} is named elsewhere in data as well: keep one of the two")

    @property
    def input(self) -> str:
        """The kind of input."""
        return "tables"

    @property
    def roles(self) -> set[str]:
        """The columns that are no features."""
        return {name for name in (self.target, self.id, self.time, self.group) if name is not None}

    def chunks(self, wanted: Mapping[str, str]) -> Iterator[Part]:
        """The rows of all files in order, filtered: every pass over the table reads through here.

        Args:
            wanted: Column -> type in the schema, or `raw` for the cells as they are.
        """
        reads = wanted if self.keep is None else self.keep.reads(wanted)
        for file in self.files:
            for part in file.read(reads):
                chosen = part if self.keep is None else self.keep.apply(part)
                yield chosen._replace(values=chosen.values.select([*wanted]))

    def header(self, expected: Sequence[str] | None = None) -> list[str]:
        """The names of the columns in use, once the header of every file is checked.

        Args:
            expected: Columns of the schema; None for those of the first file.

        Raises:
            UserError: With every column that is missing, unknown, without a name or there twice.
        """
        problems: list[str] = []
        origin = str(self.schema) if expected is not None else self.files[0].name
        for file in self.files:
            names = file.header()
            used = [name for name in names if name not in self.drop]
            expected = used if expected is None else expected
            problems += self._unknown(file.name, names)
            problems += _unusable(file.name, names, used)
            problems += _differences(file.name, used, expected, origin)
        refuse(list(dict.fromkeys(problems)))
        return list(expected or ())

    def _unknown(self, file: str, names: list[str]) -> list[str]:
        configured: dict[str, Sequence[str | None]] = {
            "data.target": [self.target],
            "data.id": [self.id],
            "data.time": [self.time],
            "data.group": [self.group],
            "data.drop": self.drop,
            "data.categories": self.categories,
            "the filter of the source": [*self.keep.columns] if self.keep else [],
        }
        return [
            f"{key}: {file} has no column {column!r}{suggestion(column, names)}"
            for key, columns in configured.items()
            for column in columns
            if column is not None and column not in names
        ]

    def columns(self) -> dict[str, Column]:
        """The schema, once it is checked against the configuration and the header of every file.

        Raises:
            UserError: With everything that does not fit.
        """
        columns = {name: column for name, column in load(self.schema).items() if name not in self.drop}
        self.header([*columns])
        refuse([*self._mistyped(columns), *self._unfit(columns)])
        return columns

    def _mistyped(self, columns: Mapping[str, Column]) -> Iterator[str]:
        for name, column in columns.items():
            types = self._types(name)
            if column.type not in types:
                yield (
                    f"{self.schema}: column {name!r} is of type {column.type}, with this configuration of data it must "
                    f"be {' or '.join(types)}: edit it, or infer it anew with `python -m {paths.NAME} schema --force`"
                )

    def _types(self, name: str) -> tuple[str, ...]:
        """The types that a column may have in the schema, according to its role."""
        if name == self.target:
            return ("number",) if self.problem == "regression" else ("category",)
        if name in (self.id, self.group):
            return ("text",)
        if name == self.time:
            return ("number", "time")
        return ("category",) if name in self.categories else ("number", "category")

    def _unfit(self, columns: Mapping[str, Column]) -> Iterator[str]:
        for name in sorted(self.roles):
            if columns[name].nulls:
                yield f"{self.schema}: column {name!r} needs a value in every row, because of its role: set nulls: 0"
        classes = columns[self.target].categories or ()
        if self.problem == "classification" and len(classes) < 2:
            yield (
                f"{self.schema}: the target {self.target!r} has {len(classes)} class(es) in `categories:`, at least 2 "
                "are needed"
            )
        if not set(columns) - self.roles:
            yield f"{self.schema}: no column is left to predict {self.target!r} from"


def _unusable(file: str, names: Sequence[str], used: Sequence[str]) -> Iterator[str]:
    for name, count in Counter(names).items():
        if count > 1:
            yield f"{file}: {count} columns are called {name!r}: rename or remove one"
    for reserved in ("", NAME, GROUP):
        if reserved in used:
            yield f"{file}: a column is called {reserved!r}: give it another name, or name it in data.drop"


def _differences(file: str, used: list[str], expected: Sequence[str], origin: str) -> Iterator[str]:
    for name in expected:
        if name not in used:
            yield f"{file}: column {name!r} is missing, which {origin} has{suggestion(name, used)}: put it back"
    for name in used:
        if name not in expected:
            yield f"{file}: column {name!r} is unknown to {origin}: add a line for it, or name it in data.drop"
