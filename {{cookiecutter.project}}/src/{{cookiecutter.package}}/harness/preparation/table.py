"""A table to prepare: its files, the roles of its columns, its schema."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from ..core import paths
from ..core.errors import UserError
from ..prepared.tables import GROUP, NAME
from .schema import Column, closest, load, stop_at
from .table_files import File, Part

if TYPE_CHECKING:
    pass

Problem = Literal["classification", "regression"]
Division = Literal["random", "group", "time"]
OnInvalid = Literal["stop", "drop", "impute"]
Character = Annotated[str, Field(min_length=1, max_length=1)]


@dataclass(frozen=True, kw_only=True)
class Table:
    """What a data source gives; its attributes are explained at `csv`."""

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

    def __post_init__(self) -> None:
        """Refuses columns with contradicting roles."""
        for division, column in (("group", self.group), ("time", self.time)):
            if self.split == division and column is None:
                raise UserError(f"data.split: {division} needs data.{division}: name the column")
        for key in ("drop", "id", "time", "group"):
            if self.target in ([*self.drop] if key == "drop" else [getattr(self, key)]):
                raise UserError(f"data.{key}: {self.target!r} is the target already: choose another column")
        if overlap := sorted({*self.drop} & {self.id, self.time, self.group, *self.categories}):
            raise UserError(f"data.drop: {overlap[0]!r} is named elsewhere in data as well: decide for one")

    @property
    def input(self) -> str:
        """The kind of the examples."""
        return "tables"

    @property
    def roles(self) -> set[str]:
        """Columns that are no features."""
        return {name for name in (self.target, self.id, self.time, self.group) if name is not None}

    def header(self, expected: Sequence[str] | None = None) -> list[str]:
        """Returns the names of the columns in use, after a look at the header of every file.

        Args:
            expected: Those of the schema; without, those of the first file.

        Raises:
            UserError: With every column that is missing, too much, without a name or there twice.
        """
        problems: list[str] = []
        configured: dict[str, Sequence[str | None]] = {
            "data.target": [self.target],
            "data.id": [self.id],
            "data.time": [self.time],
            "data.group": [self.group],
            "data.drop": self.drop,
            "data.categories": self.categories,
        }
        origin = str(self.schema) if expected is not None else self.files[0].name
        for file in self.files:
            names = file.header()
            for key, columns in configured.items():
                for column in columns:
                    if column is not None and column not in names:
                        problems.append(f"{key}: {file.name} has no column {column!r}{closest(column, names)}")
            for name, count in Counter(names).items():
                if count > 1:
                    problems.append(f"{file.name}: {count} columns are called {name!r}: rename or remove one")
            used = [name for name in names if name not in self.drop]
            for reserved in {"", NAME, GROUP} & {*used}:
                problems.append(
                    f"{file.name}: a column is called {reserved!r}: give it another name, or name it in data.drop"
                )
            if expected is None:
                expected = used
            for name in [name for name in expected if name not in used]:
                problems.append(
                    f"{file.name}: column {name!r} is missing, which {origin} has{closest(name, used)}: put it back"
                )
            for name in [name for name in used if name not in expected]:
                problems.append(
                    f"{file.name}: column {name!r} is unknown to {origin}: add a line for it, or name it in data.drop"
                )
        stop_at(list(dict.fromkeys(problems)))
        return list(expected or ())

    def columns(self) -> dict[str, Column]:
        """Returns the schema, after a look whether it fits the configuration and every file.

        Raises:
            UserError: With everything that does not fit.
        """
        columns = load(self.schema)
        self.header([name for name in columns if name not in self.drop])
        columns = {name: column for name, column in columns.items() if name not in self.drop}
        wanted = {name: ("number", "category") for name in columns} | dict.fromkeys(self.categories, ("category",))
        wanted |= {name: ("number", "time") for name in [self.time] if name}
        wanted |= {name: ("text",) for name in [self.id, self.group] if name}
        wanted[self.target] = ("number",) if self.problem == "regression" else ("category",)
        problems = [
            f"{self.schema}: column {name!r} is of type {columns[name].type}, with this configuration of data it must "
            f"be {' or '.join(types)}: edit it, or infer it anew with `python -m {paths.NAME} schema --force`"
            for name, types in wanted.items()
            if columns[name].type not in types
        ]
        problems += [
            f"{self.schema}: column {name!r} may not lack values, for what it is used for: set nulls: 0"
            for name in sorted(self.roles)
            if columns[name].nulls
        ]
        if self.problem == "classification" and len(columns[self.target].categories or ()) < 2:
            problems.append(
                f"{self.schema}: the target {self.target!r} has {len(columns[self.target].categories or ())} class(es) "
                "in `categories:`, at least 2 are needed"
            )
        if not set(columns) - self.roles:
            problems.append(f"{self.schema}: no column is left to predict {self.target!r} from")
        stop_at(problems)
        return columns

    def chunks(self, wanted: Mapping[str, str]) -> Iterator[tuple[File, Part]]:
        """Yields the rows of all files, in order.

        Args:
            wanted: Column -> type that it should have.
        """
        for file in self.files:
            for part in file.read(wanted):
                yield file, part._replace(values=part.values.select(list(wanted)))
