"""Table sources: one function each, chosen by `_target_` in conf/data/.

To filter rows, pass `keep` to the returned `Table`. The filter applies before schema, checks and splits. Columns that
only the filter needs may be named in data.drop.

    from pyarrow import compute
    from ..harness.preparation.table import Filter

    Table(..., keep=Filter({"country": "category"}, lambda rows: compute.equal(rows["country"], "DE")))
"""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from ..harness.preparation import table_files
from ..harness.preparation.table import (
    Character,
    Decimal,
    Division,
    OnInvalid,
    Problem,
    Table,
    Thousands,
)

if TYPE_CHECKING:
    import pyarrow as pa


class TableSettings(TypedDict):
    """Settings of a table in files.

    Attributes:
        target: The column to predict.
        problem: Whether the target holds classes or numbers.
        drop: Columns to leave out.
        categories: Numeric columns that are categories. Columns that hold text are categories in any case.
        id: Column with a unique identifier of each row, checked for duplicates and not a feature; None for
            <file>:<row>.
        time: Column with the time of each row; not a feature.
        group: Column with the group of each row; not a feature.
        split: `random` splits by a hash of the row's content, `stratified` as well, but no split lacks a class; `group`
            keeps each group in one split, `time` trains on the oldest rows and tests on the newest.
        nulls: Words for a missing value, besides the empty text; in requests for predictions as well.
        decimal: Mark before the decimals of a number in a text, as in all CSV files; in requests as well.
        thousands: Mark between groups of three digits of a number in a text; None for none.
        on_invalid: Policy for cells that violate the schema: `stop` ends the run after listing all of them, `drop`
            leaves the row out, `impute` makes the cell missing, so that the encoding of the model imputes it.
    """

    target: str
    problem: Problem
    drop: list[str]
    categories: list[str]
    id: str | None
    time: str | None
    group: str | None
    split: Division
    nulls: list[str]
    decimal: Decimal
    thousands: Thousands
    on_invalid: OnInvalid


def csv(*, path: str, delimiter: Character, encoding: str, schema: str, **settings: Unpack[TableSettings]) -> Table:
    """CSV files with a header (RFC 4180).

    Args:
        path: A file, a folder of *.csv, or a pattern such as data/raw/2026-*.csv; relative to the project's root.
        delimiter: The character between two cells.
        encoding: Name of the encoding in Python.
        schema: File of the schema; `python -m <package> schema` writes it.
        **settings: See `TableSettings`.

    Raises:
        UserError: If there is no such file, or settings contradict each other.
    """
    root, files = table_files.csv_files(path, delimiter, encoding)
    return Table(
        label=path,
        files=files,
        path=root,
        schema=Path(schema),
        encoding=encoding,
        delimiter=delimiter,
        **settings,
    )


def parquet(*, path: str, schema: str, **settings: Unpack[TableSettings]) -> Table:
    """Parquet files.

    Args:
        path: A file, a folder of *.parquet, or a pattern such as data/raw/2026-*.parquet.
        schema: See `csv`.
        **settings: See `TableSettings`.

    Raises:
        UserError: If there is no such file, or settings contradict each other.
    """
    root, files = table_files.parquet_files(path)
    return Table(label=path, files=files, path=root, schema=Path(schema), **settings)


def breast_cancer(*, schema: str, on_invalid: OnInvalid) -> Table:
    """scikit-learn's 569 breast tumors: 30 measures of cell nuclei, benign or malignant.

    Source: W. Street, W. Wolberg, O. Mangasarian, Nuclear feature extraction for breast tumor diagnosis, 1993.

    Args:
        schema: See `csv`.
        on_invalid: See `TableSettings`.
    """

    @cache
    def load() -> "pa.Table":
        import pyarrow as pa
        from sklearn.datasets import load_breast_cancer  # takes 3 s, which only this source needs

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
    """scikit-learn's 442 diabetes patients.

    Features are age, sex, body mass index, blood pressure and six blood serum measures; the target is a measure of the
    disease's progression after a year.
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
        columns["sex"] = [str(int(sex)) for sex in columns["sex"]]  # 1 or 2; the source does not explain the codes
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
