"""Sources of tables: each is one function, chosen by `_target_` in conf/data/.

A filter of rows is one argument of the returned `Table`. Every pass over the rows reads through it: schema, checks, ids
and the times of a time split. Its columns may be named in data.drop.

    from pyarrow import compute
    from ..harness.preparation.table import Filter

    Table(..., keep=Filter({"country": "category"}, lambda rows: compute.equal(rows["country"], "DE")))
"""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from ..harness.preparation import table_files
from ..harness.preparation.table import Character, Division, OnInvalid, Problem, Table

if TYPE_CHECKING:
    import pyarrow as pa


class TableSettings(TypedDict):
    """Settings of a table in files.

    Attributes:
        target: The column to predict.
        problem: Whether the target holds classes or numbers.
        drop: Columns to leave out.
        categories: Columns whose numbers are names. A column that holds no numbers is a category in any case.
        id: Column that names each row, None for <file>:<row>. Checked for duplicates; no feature.
        time: Column with the time of each row; no feature.
        group: Column that says which rows belong together; no feature.
        split: `random` divides by the row's content, `group` keeps each group in one split, `time` gives the oldest
            rows to training and the newest to the test.
        on_invalid: What happens to a cell that the schema forbids: `stop` ends the run once all are listed, `drop`
            leaves the row out, `impute` makes the cell missing, for the model's own encoding to impute.
    """

    target: str
    problem: Problem
    drop: list[str]
    categories: list[str]
    id: str | None
    time: str | None
    group: str | None
    split: Division
    on_invalid: OnInvalid


def csv(*, path: str, delimiter: Character, encoding: str, schema: str, **settings: Unpack[TableSettings]) -> Table:
    """Text files with a header, cells between delimiters, optionally in double quotes (RFC 4180).

    Args:
        path: A file, a folder of *.csv, or a pattern such as data/raw/2026-*.csv; relative to the project's root.
        delimiter: The character between two cells.
        encoding: Name of the encoding in Python.
        schema: File that says what the columns may hold; `python -m <package> schema` writes it.
        **settings: See `TableSettings`.

    Raises:
        UserError: If there is no such file, or the configuration contradicts itself.
    """
    root, files = table_files.csv_files(path, delimiter, encoding)
    return Table(label=path, files=files, path=root, schema=Path(schema), **settings)


def parquet(*, path: str, schema: str, **settings: Unpack[TableSettings]) -> Table:
    """Parquet files.

    Args:
        path: A file, a folder of *.parquet, or a pattern such as data/raw/2026-*.parquet.
        schema: See `csv`.
        **settings: See `TableSettings`.

    Raises:
        UserError: If there is no such file, or the configuration contradicts itself.
    """
    root, files = table_files.parquet_files(path)
    return Table(label=path, files=files, path=root, schema=Path(schema), **settings)


def breast_cancer(*, schema: str, on_invalid: OnInvalid) -> Table:
    """569 tumors that scikit-learn ships: 30 measures of cell nuclei each, benign or malignant.

    Source: W. Street, W. Wolberg, O. Mangasarian, Nuclear feature extraction for breast tumor diagnosis, 1993.

    Args:
        schema: See `csv`.
        on_invalid: See `TableSettings`.
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
        on_invalid: See `TableSettings`.
    """

    @cache
    def load() -> "pa.Table":
        import pyarrow as pa
        from sklearn.datasets import load_diabetes

        bunch = load_diabetes(scaled=False)
        columns: dict[str, Any] = dict(zip(bunch.feature_names, bunch.data.T.copy(), strict=True))
        columns["sex"] = [str(int(sex)) for sex in columns["sex"]]  # 1 or 2; the source does not say which is which
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
