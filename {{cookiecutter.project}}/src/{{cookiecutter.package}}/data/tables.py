"""Tables: where rows come from, how they lie on disk once prepared, and what a model is given of them.

A source is a function chosen by `_target_` in conf/data/; its keyword-only parameters are the configuration. Rows pass
in batches through Arrow, are checked against the schema (`data.schema`) and written at once: however many there are,
only a few megabytes of them are in memory.

data/prepared/<split>/rows.arrow    Arrow IPC file: a column for each feature, number -> double, category -> string,
                                    both nullable, and last `__name__`, the id of the row or <file>:<row>. Row 1 is
                                    the first below the header, here and in every message. With data.group also
                                    `__group__`, which no model sees
"""

import codecs
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from .. import config
from ..cli import UserError
from ..inputs.tables import InputError, check_header, find_header
from . import prepared, table_files
from .schema import Column, closest
from .schema import load as load_schema
from .table_files import File, Part
from .table_writing import GROUP, NAME, batches, stop_at, write

if TYPE_CHECKING:
    import pyarrow as pa

SECTION = "features"
ASKED = 4096  # rows predicted at a time

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
        columns = load_schema(self.schema)
        self.header([name for name in columns if name not in self.drop])
        columns = {name: column for name, column in columns.items() if name not in self.drop}
        wanted = {name: ("number", "category") for name in columns} | dict.fromkeys(self.categories, ("category",))
        wanted |= {name: ("number", "time") for name in [self.time] if name}
        wanted |= {name: ("text",) for name in [self.id, self.group] if name}
        wanted[self.target] = ("number",) if self.problem == "regression" else ("category",)
        problems = [
            f"{self.schema}: column {name!r} is of type {columns[name].type}, with this configuration of data it must "
            f"be {' or '.join(types)}: edit it, or infer it anew with `python -m {__package__}.schema --force`"
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

    def write(self, splits: prepared.Splits) -> dict[str, Any]:
        """Writes data/prepared; see `write`."""
        return write(self, splits)


def csv(
    *,
    path: str,
    delimiter: Character,
    encoding: str,
    target: str,
    problem: Problem,
    drop: list[str],
    categories: list[str],
    id: str | None,
    time: str | None,
    group: str | None,
    split: Division,
    schema: str,
    on_invalid: OnInvalid,
) -> Table:
    """Text files with a header, whose cells a delimiter separates and double quotes may enclose (RFC 4180).

    Args:
        path: A file, a folder of *.csv, or a pattern such as data/raw/2026-*.csv; relative to the project's root.
        delimiter: One character.
        encoding: As Python calls it.
        target: The column to predict.
        problem: Whether it holds classes or numbers.
        drop: Columns to leave out.
        categories: Columns whose numbers are names. Others are categories where they do not hold numbers.
        id: The column that names a row, None for <file>:<row>. Checked for duplicates; no feature.
        time: The column with each row's time; no feature.
        group: The column that says which rows belong together; no feature.
        split: `random` by the row's content, `group` keeps the rows of a group in one
            split, `time` gives the oldest rows to training and the newest to the test.
        schema: File that says what the columns may hold; `python -m <package>.data.schema` writes it.
        on_invalid: What a cell does that the schema forbids: `stop` the run (all are listed first), have its row
            dropped, or be taken for missing, to be imputed by the model's own encoding.

    Raises:
        UserError: Where there is no such file, or the configuration contradicts itself.
    """
    try:
        codecs.lookup(encoding)
    except LookupError:
        raise UserError(f"data.encoding: Python knows no {encoding!r}; usual ones: utf-8, latin-1, cp1252") from None

    def file(found: Path) -> File:
        return File(
            found.as_posix(),
            lambda: table_files.csv_header(found, delimiter, encoding),
            lambda wanted: table_files.csv_parts(found, delimiter, encoding, wanted),
        )

    root, files = table_files.find(path, "csv")
    return Table(
        label=path,
        files=[file(found) for found in files],
        path=root,
        target=target,
        problem=problem,
        drop=drop,
        categories=categories,
        id=id,
        time=time,
        group=group,
        split=split,
        schema=Path(schema),
        on_invalid=on_invalid,
    )


def parquet(
    *,
    path: str,
    target: str,
    problem: Problem,
    drop: list[str],
    categories: list[str],
    id: str | None,
    time: str | None,
    group: str | None,
    split: Division,
    schema: str,
    on_invalid: OnInvalid,
) -> Table:
    """Parquet files.

    Args:
        path: A file, a folder of *.parquet, or a pattern such as data/raw/2026-*.parquet.
        target: As for `csv`, likewise the others.
        problem: See `csv`.
        drop: See `csv`.
        categories: See `csv`.
        id: See `csv`.
        time: See `csv`.
        group: See `csv`.
        split: See `csv`.
        schema: See `csv`.
        on_invalid: See `csv`.

    Raises:
        UserError: Where there is no such file, or the configuration contradicts itself.
    """

    def file(found: Path) -> File:
        return File(
            found.as_posix(),
            lambda: table_files.parquet_header(found),
            lambda wanted: table_files.parquet_parts(found, wanted),
        )

    root, files = table_files.find(path, "parquet")
    return Table(
        label=path,
        files=[file(found) for found in files],
        path=root,
        target=target,
        problem=problem,
        drop=drop,
        categories=categories,
        id=id,
        time=time,
        group=group,
        split=split,
        schema=Path(schema),
        on_invalid=on_invalid,
    )


def breast_cancer(*, schema: str, on_invalid: OnInvalid) -> Table:
    """569 tumours that scikit-learn ships: 30 measures of cell nuclei each, benign or malignant.

    Source: W. Street, W. Wolberg, O. Mangasarian, Nuclear feature extraction for breast tumor diagnosis, 1993.

    Args:
        schema: See `csv`.
        on_invalid: See `csv`.
    """

    @cache
    def load() -> "pa.Table":
        import pyarrow as pa
        from sklearn.datasets import load_breast_cancer  # 3 s of imports that no other source needs

        bunch = load_breast_cancer()
        columns = dict(zip(map(str, bunch.feature_names), bunch.data.T.copy(), strict=True))
        return pa.table({**columns, "diagnosis": [str(name) for name in bunch.target_names[bunch.target]]})

    return Table(
        label="breast_cancer",
        files=[table_files.memory("breast_cancer", load)],
        target="diagnosis",
        problem="classification",
        schema=Path(schema),
        on_invalid=on_invalid,
    )


def diabetes(*, schema: str, on_invalid: OnInvalid) -> Table:
    """442 patients that scikit-learn ships: age, sex, body mass index, blood pressure, six blood serum measures.

    The target is a measure of the disease's progression a year later.
    Source: B. Efron, T. Hastie, I. Johnstone, R. Tibshirani, Least Angle Regression, 2004.

    Args:
        schema: See `csv`.
        on_invalid: See `csv`.
    """

    @cache
    def load() -> "pa.Table":
        import pyarrow as pa
        from sklearn.datasets import load_diabetes

        bunch = load_diabetes(scaled=False)
        columns: dict[str, Any] = dict(zip(bunch.feature_names, bunch.data.T.copy(), strict=True))
        columns["sex"] = [str(int(sex)) for sex in columns["sex"]]  # 1 or 2, the source does not say which is which
        return pa.table({**columns, "progression": bunch.target})

    return Table(
        label="diabetes",
        files=[table_files.memory("diabetes", load)],
        target="progression",
        problem="regression",
        categories=["sex"],
        schema=Path(schema),
        on_invalid=on_invalid,
    )


def load(split: str, folder: Path = prepared.PREPARED) -> "pa.Table":
    """Returns the rows of a split, memory-mapped.

    Args:
        split: `train`, `validation` or `test`.
        folder: Where the prepared data lie.
    """
    rows = _rows(split, folder)
    return rows.select([name for name in rows.column_names if name != GROUP])


def groups(split: str, folder: Path = prepared.PREPARED) -> NDArray[Any]:
    """Returns which group each row of a split is of, where data.group says so: str [N] (of objects).

    Args:
        split: `train`, `validation` or `test`.
        folder: Where the prepared data lie.
    """
    found: NDArray[Any] = _rows(split, folder)[GROUP].to_numpy()
    return found


def _rows(split: str, folder: Path) -> "pa.Table":
    import pyarrow as pa

    return pa.ipc.open_file(pa.memory_map(str(folder / split / "rows.arrow"))).read_all()


class Names(Sequence[str]):
    """The names of a split's rows, on disk."""

    def __init__(self, split: str, folder: Path) -> None:
        """Opens them."""
        self._names = load(split, folder)[NAME]

    def __len__(self) -> int:
        """Returns the number of rows."""
        return len(self._names)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        """Returns the name of a row."""
        found = self._names[row]
        return found.to_pylist() if isinstance(row, slice) else found.as_py()  # type: ignore[no-any-return]


def names(split: str, folder: Path = prepared.PREPARED) -> Names:
    """Returns what a person calls the rows of a split, in their order."""
    return Names(split, folder)


def feeds(split: str, batch_size: int = 4096, folder: Path = prepared.PREPARED) -> Iterator[dict[str, NDArray[Any]]]:
    """Yields what the exported model is asked with, in the order of the rows.

    Args:
        split: `train`, `validation` or `test`.
        batch_size: The most rows in memory at a time.
        folder: Where the prepared data lie.

    Yields:
        Column -> float64 [n], NaN where missing, or str [n] (of objects), "" where missing.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    for batch in batches(split, batch_size, folder):
        yield {
            name: values.to_numpy(zero_copy_only=False)
            if pa.types.is_floating(values.type)
            else pc.fill_null(values, "").to_numpy(zero_copy_only=False)
            for name, values in zip(batch.schema.names, batch.columns, strict=True)
            if name not in (NAME, GROUP)
        }


def inputs(manifest: prepared.Manifest, section: Mapping[str, Any]) -> prepared.Inputs:
    """Returns what a model is fitted on: every split, encoded once by the graph that becomes part of the model.

    Args:
        manifest: Of the prepared data.
        section: Section `features` of the configuration.
    """
    import onnxruntime

    encoding = config.instantiate(section, load("train").drop_columns([NAME]), manifest["columns"])
    session = onnxruntime.InferenceSession(encoding.graph.SerializeToString(), providers=["CPUExecutionProvider"])
    output = session.get_outputs()[0]
    place = Path(".dvc/tmp") if Path(".dvc/tmp").is_dir() else None  # not in /tmp, which may lie in memory
    # Files without a name, which go with the last reference to `array`: not even `kill -9` leaves one behind.
    files = {split: tempfile.TemporaryFile(dir=place) for split in prepared.SPLITS}  # noqa: SIM115
    dtype = np.dtype(np.float64 if "double" in output.type else np.float32)
    for split, file in files.items():
        for feed in feeds(split):
            file.write(np.ascontiguousarray(session.run([output.name], feed)[0], dtype).tobytes())
        file.flush()

    def array(split: str) -> NDArray[Any]:
        return np.memmap(files[split], dtype, "r", shape=(manifest["examples"][split], len(encoding.names)))

    return prepared.Inputs(output.name, array, encoding.layers, encoding.graph)


def describe(manifest: prepared.Manifest) -> dict[str, Any]:
    """Returns what the service and batch predictions must know of a table."""
    return {key: manifest[key] for key in ("columns", "id") if key in manifest}


def asked(path: Path, description: Mapping[str, Any]) -> prepared.Questions:
    """Returns the rows of a file, for a batch prediction.

    They are read as `prepare` reads them; what the schema forbids is no error here, as it is none for the service.

    Args:
        path: A CSV file as the service takes it, of any size, or a Parquet file.
        description: The content of models/model.json.

    Raises:
        UserError: Where the file cannot be read, or lacks a column of the model.
    """
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".parquet"):
        raise UserError(f"{path}: this model takes rows of a table: give a file that ends in .csv or .parquet")
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    wanted = {column["name"]: column["type"] for column in description["columns"]}
    total: int | None = None
    try:
        if suffix == ".csv":
            with path.open("rb") as file:
                beginning = file.read(table_files.BLOCK).decode("utf-8-sig", "replace")
            delimiter, header = find_header(beginning, [*wanted])
        else:
            header = table_files.parquet_header(path)
            check_header(header, [*wanted])
            total = table_files.parquet_rows(path)
    except InputError as error:
        raise UserError(f"{path}: {error}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    id: str | None = description.get("id")
    if id is not None and header.count(id) != 1:
        id = None
    columns = wanted | ({id: "text"} if id else {})

    def read(done: int) -> Iterator[prepared.Asked]:
        parts = (
            table_files.csv_parts(path, delimiter, "utf-8", columns)
            if suffix == ".csv"
            else table_files.parquet_parts(path, columns)
        )
        for part in parts:
            items = len(part.rows) + len(part.ragged)
            if done < items:
                yield from _asked(part, wanted, id, done)
            done = max(0, done - items)

    found = path.stat()
    keys = {"row": "int64"} | ({"id": "string"} if id else {})
    return prepared.Questions(keys, f"{found.st_size} {found.st_mtime_ns}", total, "rows", 16 * ASKED, read)


def _asked(part: Part, wanted: Mapping[str, str], id: str | None, done: int) -> Iterator[prepared.Asked]:
    """Yields the rows of a part without the first ones; those with too few or too many cells are in their place."""
    import pyarrow.compute as pc

    errors = {row: f"row {row} {cause}" for row, cause in part.ragged}
    feeds: dict[str, NDArray[Any]] = {}
    for name, kind in wanted.items():
        cells = part.values.column(name)
        values, bad = table_files.convert(cells, kind)
        for violation, mask in bad.items():
            for place in np.flatnonzero(mask).tolist():
                why = _told(violation, kind, cells[place].as_py())
                errors.setdefault(int(part.rows[place]), f"row {part.rows[place]}, column {name!r}: {why}")
        feeds[name] = table_files.numbers(values) if kind == "number" else np.asarray(pc.fill_null(values, ""), object)
    ids = table_files.convert(part.values.column(id), "text")[0].to_pylist() if id else []
    rows = np.concatenate([part.rows, np.array([row for row, _ in part.ragged], np.int64)])
    order = np.argsort(rows, kind="stable")
    for start in range(done, len(rows), ASKED):
        chosen = order[start : start + ASKED]
        numbers: list[int] = rows[chosen].tolist()
        told = [errors.get(number) for number in numbers]
        fine = chosen[np.array([error is None for error in told])]
        keys: dict[str, list[Any]] = {"row": numbers}
        if id:
            keys["id"] = [ids[place] if place < len(ids) else None for place in chosen]
        yield prepared.Asked(keys, told, {name: values[fine] for name, values in feeds.items()})


def _told(violation: str, kind: str, cell: Any) -> str:
    text = repr((cell.decode("utf-8", "backslashreplace") if isinstance(cell, bytes) else str(cell))[:50])
    if violation == "encoding":
        return f"{text} is not UTF-8"
    if violation == "size" and np.isfinite(float(cell)):
        return f"{text} is too large for the 32-bit numbers of the model"
    return f"{text} is {'not a finite number' if kind == 'number' else 'no text'}"


def form(section: Mapping[str, Any], manifest: prepared.Manifest) -> dict[str, Any]:
    """Returns what the service's page must know beside models/model.json, from the schema.

    Args:
        section: Section `data` of the configuration.
        manifest: Of the prepared data.

    Returns:
        properties: Column -> minimum, maximum, choices, where there are such, and nullable.
        range: Smallest and largest number that the target may be, None where it has none.
    """
    schema = load_schema(Path(section["schema"]))
    properties = {}
    for name in (column["name"] for column in manifest["columns"]):
        column = schema[name]
        bounds = {"minimum": column.min, "maximum": column.max, "choices": column.categories}
        given = {key: value for key, value in bounds.items() if value is not None}
        properties[name] = {**given, "nullable": column.nulls > 0}
    target = schema[manifest["target_name"]]
    return {"properties": properties, "range": None if None in (target.min, target.max) else [target.min, target.max]}


def examples(rows: Sequence[int]) -> list[dict[str, Any]]:
    """Returns rows of the test split as the service takes them.

    Args:
        rows: Which ones.

    Returns:
        instance: Column -> value, None where it is missing.
    """
    return [{"instance": row} for row in load("test").drop_columns([NAME]).take(list(rows)).to_pylist()]


def subject(manifest: prepared.Manifest) -> str:
    """Returns what the model is asked about, for its card."""
    kinds = Counter(column["type"] for column in manifest["columns"])
    return f"rows of {kinds['number']} numbers and {kinds['category']} categories"


def worst(rows: Sequence[int], titles: Sequence[str], total: int, folder: Path) -> list[str]:
    """Lists the rows of the test split with which the model does worst.

    Args:
        rows: Which ones, the worst first.
        titles: One for each.
        total: Number of mistakes there are.
        folder: Where worst.csv goes.

    Returns:
        Lines of the model card.
    """
    import csv as text

    if not rows:
        return ["No mistakes on the test split."]
    table = load("test").take(list(rows))
    columns = [name for name in table.column_names if name != NAME]
    with (folder / "worst.csv").open("w", newline="", encoding="utf-8") as file:
        writer = text.writer(file, lineterminator="\n")
        writer.writerow(["row", "outcome", *columns])
        for title, row in zip(titles, table.to_pylist(), strict=True):
            writer.writerow([row[NAME], title, *(row[name] for name in columns)])
    shown = [f"| {_cell(row[NAME])} | {_cell(title)} |" for title, row in zip(titles, table.to_pylist(), strict=True)]
    return [
        f"The worst {len(shown)} of {total}; their values are in [worst.csv]({folder.name}/worst.csv).",
        "",
        "| row | outcome |",
        "| --- | --- |",
        *shown,
    ]


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
