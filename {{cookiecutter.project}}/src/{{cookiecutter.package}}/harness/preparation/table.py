"""A table source: files, roles of columns, schema and row filter."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from pydantic import Field

from ..core import paths
from ..core.errors import UserError
from ..inputs.table_notation import NULLS, UTF_8, Notation, canonical, spellings
from ..prepared.tables import GROUP, NAME
from .schema import Column, load
from .schema_checks import suggestion
from .table_cells import as_numpy, convert
from .table_files import File, Part

if TYPE_CHECKING:
    import pyarrow as pa

Problem = Literal["classification", "regression"]
Division = Literal["random", "stratified", "group", "time"]
OnInvalid = Literal["stop", "drop", "impute"]
Decimal = Literal[".", ","]
Thousands = Literal[",", ".", "'", " "] | None
Character = Annotated[str, Field(min_length=1, max_length=1)]

LISTED = 1000  # maximum number of problems printed, and of violations in the report; all are counted


def refuse(problems: Sequence[str]) -> None:
    """Raises an error if there are problems that `on_invalid` cannot fix.

    Args:
        problems: A line for each problem.

    Raises:
        UserError: With the only problem, or with the number of problems after printing them.
    """
    if len(problems) == 1:
        raise UserError(problems[0])
    for problem in problems[:LISTED]:
        print(f"prepare: {problem}", file=sys.stderr)
    if problems:
        raise UserError(f"the table has {len(problems)} errors, listed above")


class Filter(NamedTuple):
    """A row filter, applied before schema, checks and splits.

    Attributes:
        columns: Name of a column that the filter needs -> type as in the schema. It may be named in data.drop.
        keep: These columns -> boolean Arrow array, true for the rows to keep; null drops the row.
    """

    columns: Mapping[str, str]
    keep: Callable[["pa.RecordBatch"], "pa.Array"]

    def reads(self, wanted: Mapping[str, str]) -> dict[str, str]:
        """The columns that the filter or a pass needs: name -> type.

        Args:
            wanted: Columns that the pass needs: name -> type.
        """
        # A column with two types is read as text, which can be converted to either.
        contested = {name: "text" for name, type in self.columns.items() if wanted.get(name, type) not in (type, "raw")}
        return {**self.columns, **wanted, **contested}

    def apply(self, part: Part, notation: Notation) -> Part:
        """A part with only the rows that the filter keeps.

        Ragged rows remain, because they have no cells to filter by.

        Args:
            part: A part of a file.
            notation: How the cells are written.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        cells = [convert(part.values[name], type, notation, name)[0] for name, type in self.columns.items()]
        mask = pc.fill_null(self.keep(pa.RecordBatch.from_arrays(cells, [*self.columns])), False)
        return part._replace(rows=part.rows[as_numpy(mask)], values=part.values.filter(mask))


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table source, which a function of data/tables.py returns.

    Attributes:
        label: Name of the table in messages.
        files: Files of the table, in row order.
        path: File or folder of the data; None for data inside a Python package.
        schema: File of the schema.
        encoding: Encoding of CSV files.
        delimiter: Character between two cells of CSV files.
        keep: Row filter; None keeps all rows.

    The other attributes are settings of section `data`: see `TableSettings` in data/tables.py.
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
    nulls: Sequence[str] = NULLS
    decimal: str = "."
    thousands: str | None = None
    encoding: str = UTF_8
    delimiter: str = ","
    keep: Filter | None = None

    def __post_init__(self) -> None:
        """Rejects contradictory roles of columns."""
        for division, column in (("group", self.group), ("time", self.time)):
            if self.split == division and column is None:
                raise UserError(f"data.split: {division} needs data.{division}: name the column")
        if self.decimal == self.thousands:
            raise UserError(f"data.thousands: {self.thousands!r} is already data.decimal: choose another mark, or null")
        if self.split == "stratified" and self.problem == "regression":
            raise UserError("data.split: stratified needs classes, the target of a regression has none: use random")
        for key, columns in (("drop", self.drop), ("id", [self.id]), ("time", [self.time]), ("group", [self.group])):
            if self.target in columns:
                raise UserError(f"data.{key}: {self.target!r} is already the target: choose another column")
        if overlap := sorted({*self.drop} & {self.id, self.time, self.group, *self.categories}):
            raise UserError(f"data.drop: {overlap[0]!r} is named elsewhere in data as well: remove it there or here")

    @property
    def input(self) -> str:
        """Kind of input."""
        return "tables"

    @property
    def roles(self) -> set[str]:
        """Columns that are not features."""
        return {name for name in (self.target, self.id, self.time, self.group) if name is not None}

    def notation(self, columns: Mapping[str, Column] | None = None) -> Notation:
        """How the cells are written.

        Args:
            columns: The schema, whose spellings of levels are kept; None for canonical texts.
        """
        spelled = {name: spellings(column.categories or ()) for name, column in (columns or {}).items()}
        known = {name: texts for name, texts in spelled.items() if texts}
        return Notation(self.nulls, known, self.decimal, self.thousands, self.encoding)

    def chunks(self, wanted: Mapping[str, str]) -> Iterator[Part]:
        """The filtered rows of all files, in parts, for every pass.

        Args:
            wanted: Columns to read: name -> type in the schema, or `raw` for unconverted cells.
        """
        reads = wanted if self.keep is None else self.keep.reads(wanted)
        notation = self.notation()
        for file in self.files:
            for part in file.read(reads, notation):
                chosen = part if self.keep is None else self.keep.apply(part, notation)
                yield chosen._replace(values=chosen.values.select([*wanted]))

    def header(self, expected: Sequence[str] | None = None) -> list[str]:
        """Names of the used columns, after checking the headers of all files.

        Args:
            expected: Columns of the schema; None for those of the first file.

        Raises:
            UserError: Naming every column that is missing, unknown, unnamed or repeated.
        """
        problems: list[str] = []
        origin = str(self.schema) if expected is not None else self.files[0].name
        for file in self.files:
            names = file.header()
            index = self.index(file, expected)
            used = [name for name in names if name not in self.drop and name not in index]
            expected = used if expected is None else expected
            problems += self._unknown(file.name, names)
            problems += _unusable(file.name, names, used)
            problems += _differences(file.name, used, expected, origin)
        refuse(list(dict.fromkeys(problems)))
        return list(expected or ())

    def index(self, file: File, expected: Sequence[str] | None = None) -> list[str]:
        """Columns of a file that are the index of a pandas DataFrame, and that nothing else names.

        Args:
            file: A file of the table.
            expected: Columns of the schema, if there is one.
        """
        named = {*self.roles, *self.categories, *self.drop, *(expected or ())}
        return [name for name in file.index_columns() if name not in named]

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
            if column and column not in names  # "" stands for columns without a name, if there are any
        ]

    def columns(self) -> dict[str, Column]:
        """The schema, after checking it against configuration and headers.

        Raises:
            UserError: Naming every mismatch.
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
                    f"{self.schema}: column {name!r} is of type {column.type}, but must be {' or '.join(types)} for "
                    f"its role in `data`: edit it, or infer it again with `python -m {paths.NAME} schema --force`"
                )

    def _types(self, name: str) -> tuple[str, ...]:
        """Valid types of a column, according to its role."""
        if name == self.target:
            return ("number",) if self.problem == "regression" else ("category",)
        if name in (self.id, self.group):
            return ("text",)
        if name == self.time:
            return ("number", "time")
        return ("category",) if name in self.categories else ("number", "category", "date")

    def _unfit(self, columns: Mapping[str, Column]) -> Iterator[str]:
        for name in sorted(self.roles):
            if columns[name].nulls:
                yield f"{self.schema}: column {name!r} must have a value in every row: set nulls: 0"
        for name, column in columns.items():
            yield from self._unreachable(name, column.categories or ())
        classes = columns[self.target].categories or ()
        if self.problem == "classification" and len(classes) < 2:
            yield (
                f"{self.schema}: the target {self.target!r} has {len(classes)} class(es) in `categories:`, at least 2 "
                "are needed"
            )
        if not set(columns) - self.roles:
            yield f"{self.schema}: no feature is left to predict {self.target!r}: add columns or drop fewer"

    def _unreachable(self, name: str, levels: Sequence[str]) -> Iterator[str]:
        """Errors of levels that no cell can have."""
        for level in levels:
            if level in self.nulls:
                yield (
                    f"{self.schema}: column {name!r}: {level!r} is a category, and in data.nulls a word for a missing "
                    "value: remove it here or there"
                )
        for text, count in Counter(map(canonical, levels)).items():
            if count > 1:
                alike = [level for level in levels if canonical(level) == text]
                yield f"{self.schema}: column {name!r}: {', '.join(map(repr, alike))} are the same value: keep one"


def _unusable(file: str, names: Sequence[str], used: Sequence[str]) -> Iterator[str]:
    for name, count in Counter(used).items():
        if not name:
            subject = "a column has" if count == 1 else f"{count} columns have"
            index = "" if names[0] else " (the index of a pandas DataFrame? `to_csv(index=False)` leaves it out)"
            yield (f'{file}: {subject} no name, but values{index}: give it one, or leave it out with data.drop: [""]')
        elif count > 1:
            yield f"{file}: {count} columns are called {name!r}: rename or remove one"
    for reserved in (NAME, GROUP):
        if reserved in used:
            yield f"{file}: a column is called {reserved!r}: give it another name, or name it in data.drop"


def _differences(file: str, used: list[str], expected: Sequence[str], origin: str) -> Iterator[str]:
    for name in expected:
        if name not in used:
            yield f"{file}: column {name!r} is missing, which {origin} has{suggestion(name, used)}: put it back"
    for name in used:
        if name and name not in expected:
            yield f"{file}: column {name!r} is unknown to {origin}: add a line for it, or name it in data.drop"
