"""Sources of tables: each is one function, chosen by `_target_` in conf/data/."""

import codecs
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..harness.core.errors import UserError
from ..harness.preparation import table_files
from ..harness.preparation.table import Character, Division, OnInvalid, Problem, Table
from ..harness.preparation.table_files import File

if TYPE_CHECKING:
    import pyarrow as pa


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
        from sklearn.datasets import (
            load_breast_cancer,  # 3 s of imports that no other source needs
        )

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
