"""Tables with errors: each is one line that names file, row and column, and the prepared data stay as they were."""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from my_experiment.harness import preparation, prepared
from my_experiment.harness.core import errors
from my_experiment.harness.preparation import schema
from my_experiment.harness.prepared import tables as prepared_tables
from tables_made import RAW, SPLITS, content, division, frame, prepare, source

pytestmark = pytest.mark.usefixtures("workspace")


# Errors that a person can cause: content of the file, changes of the configuration, the message.
GOOD = frame(120).to_csv(index=False)
HEADER, *LINES = GOOD.splitlines()


def _csv(rows: pd.DataFrame) -> bytes:
    return str(rows.to_csv(index=False)).encode()


def damaged(row: int, column: str, cell: str) -> bytes:
    """The good table with another cell; rows count from 1."""
    rows = pd.read_csv(io.StringIO(GOOD), dtype=str, keep_default_na=False)
    rows.loc[row - 1, column] = cell
    return _csv(rows)


def table(**columns: Any) -> bytes:
    """The good table with other columns."""
    return _csv(pd.read_csv(io.StringIO(GOOD)).assign(**columns))


BAD: dict[str, tuple[bytes, dict[str, Any], str]] = {
    "empty file": (b"", {}, r"table\.csv: the file is empty"),
    "blank lines only": (b"\n\n\n", {}, "the file is empty"),
    "header only": (HEADER.encode() + b"\n", {}, "has no rows below its header"),
    "header without line end": (HEADER.encode(), {}, "has no rows below its header"),
    "wrong delimiter": (GOOD.replace(",", ";").encode(), {}, r"is data\.delimiter ',' right\? It looks like ';'"),
    "delimiter configured wrongly": (GOOD.encode(), {"delimiter": "\t"}, "It looks like ','"),
    "mixed encodings": (
        GOOD.encode().replace("grün".encode(), "grün".encode("latin-1"), 1),
        {},
        r"column 'colour ✨': 'gr\\+xfcn' is not valid text",
    ),
    "latin-1 read as utf-8": (
        damaged(3, "colour ✨", "x").replace(" ✨".encode(), b"").replace("grün".encode(), b"gr\xfcn"),
        {"schema": "schema/plain.yaml"},
        "is not valid text",
    ),
    "utf-8 read as ascii": (
        GOOD.encode(),
        {"encoding": "ascii"},
        r"is not ascii: set data\.encoding \(it may be utf-8\)",
    ),
    "utf-16 read as utf-8": (GOOD.encode("utf-16"), {}, r"is not utf-8: set data\.encoding \(it may be utf-16\)"),
    "unknown encoding": (GOOD.encode(), {"encoding": "utf-99"}, r"data\.encoding: Python does not know 'utf-99'"),
    "a text among numbers": (
        damaged(7, "size", "tall"),
        {},
        r"table\.csv: row 7: column 'size': 'tall' is not a number",
    ),
    "decimal comma": (damaged(7, "size", "1,5"), {}, "'1,5' is not a number"),
    "thousands separator": (damaged(7, "weight in kg", "1,000"), {}, "'1,000' is not a number"),
    "NUL byte": (damaged(7, "size", "1\0"), {}, "row 7: column 'size'"),
    "infinite": (damaged(7, "size", "inf"), {}, "inf is too large or infinite"),
    "1e999": (damaged(7, "size", "1e999"), {}, "too large or infinite"),
    "1e308": (damaged(7, "size", "1e308"), {}, r"1e\+308 is too large or infinite"),
    "out of range": (
        damaged(7, "weight in kg", "-999"),
        {},
        r"row 7: column 'weight in kg': -999\.0 is outside 15\.\.115: ",
    ),
    "unknown category": (
        damaged(7, "colour ✨", "rad"),
        {},
        r"'rad' is not among the 3 known categories \(did you mean 'red'\?\)",
    ),
    "unknown class": (damaged(7, "y", "maybe"), {}, "row 7: column 'y': 'maybe' is not among the 2 known"),
    "target missing": (damaged(7, "y", ""), {}, r"row 7: column 'y': is empty: .* data\.on_invalid: drop\n"),
    "target that means missing": (
        damaged(7, "y", "NA"),
        {},
        r"row 7: column 'y': 'NA' is a word for a missing value: if it is a value, remove it from data\.nulls; .*drop",
    ),
    "category that means missing": (
        damaged(7, "colour ✨", "red"),
        {"nulls": ["red"]},
        r"column 'colour ✨': 'red' is a category, and in data\.nulls a word for a missing value: remove it",
    ),
    "value missing": (damaged(7, "size", "NA"), {}, "row 7: column 'size': is empty"),
    "id missing": (damaged(7, "id", ""), {}, "row 7: column 'id': is empty"),
    "duplicate id": (damaged(7, "id", "0-2"), {}, "row 7: column 'id': '0-2' has occurred before"),
    "no time": (damaged(7, "when", "yesterday"), {}, "row 7: column 'when': 'yesterday' is not a time"),
    "impossible date": (damaged(7, "when", "2025-02-30"), {}, "'2025-02-30' is not a time"),
    "too many cells": (
        "\n".join([HEADER, *LINES[:6], LINES[6] + ",x", *LINES[7:]]).encode(),
        {},
        "row 7: has 8 cells, the header 7",
    ),
    "too few cells": (
        "\n".join([HEADER, *LINES[:6], "0-6,1", *LINES[7:]]).encode(),
        {},
        "row 7: has 2 cells, the header 7",
    ),
    "nulls everywhere": (table(**{"weight in kg": ""}), {}, r"column 'weight in kg': 100\.00% of the rows lack it"),
    "constant column": (table(size=0.5), {}, r"column 'size' has a single value, 0\.5"),
    "one class only": (table(y="yes"), {}, "class 'no' has no example in split train"),
    "a class with one example": (
        damaged(7, "y", "maybe"),
        {"schema": "schema/other.yaml"},
        "class 'maybe' has no example in split",
    ),
    "one class in the schema": (table(y="yes"), {"schema": "schema/other.yaml"}, "the single class 'yes': choose"),
    "fewer rows than splits": ("\n".join([HEADER, *LINES[:2]]).encode(), {}, "has no example in split"),
    "one group": (table(patient=1), {"split": "group"}, "has no example in split"),
    "one time": (table(when="2025-01-01"), {"split": "time"}, "has no example in split"),
    "constant number to predict": (
        table(size=0.5),
        {"target": "size", "problem": "regression", "schema": "schema/other.yaml"},
        "the target 'size' is 0.5 in all rows",
    ),
    "texts to predict as numbers": (
        GOOD.encode(),
        {"problem": "regression"},
        "column 'y' is of type category, but must be number",
    ),
    "missing column": (
        pd.read_csv(io.StringIO(GOOD)).drop(columns="size").to_csv(index=False).encode(),
        {},
        "column 'size' is missing",
    ),
    "renamed column": (
        GOOD.replace("size", "Size", 1).encode(),
        {},
        r"'size' is missing, which schema/table.yaml has \(did you mean 'Size'\?\)",
    ),
    "extra column": (table(extra=1), {}, "column 'extra' is unknown to schema/table.yaml"),
    "column twice": (GOOD.replace("weight in kg", "size", 1).encode(), {}, "2 columns are called 'size'"),
    "column without a name": (
        GOOD.replace("size", "", 1).encode(),
        {},
        r"a column has no name, but values: .* data.drop",
    ),
    "index of a DataFrame": (
        _csv(pd.read_csv(io.StringIO(GOOD)).reset_index(names="")),
        {},
        r"a column has no name, but values \(the index of a pandas DataFrame\? .*data\.drop",
    ),
    "columns without names": (
        GOOD.replace("\n", ",,7\n").replace(",,7", ",,", 1).encode(),
        {},
        r"a column has no name, but values: give it one, or leave it out with data\.drop: \[\"\"\]$",
    ),
    "target mistyped": (GOOD.encode(), {"target": "Y"}, r"data\.target: data/raw/table\.csv has no column 'Y'"),
    "drop mistyped": (
        GOOD.encode(),
        {"drop": ["sizes"]},
        r"data\.drop: .* has no column 'sizes' \(did you mean 'size'\?\)",
    ),
    "target dropped": (GOOD.encode(), {"drop": ["y"]}, r"data\.drop: 'y' is already the target"),
    "no column left": (
        GOOD.encode(),
        {"drop": ["size", "weight in kg", "colour ✨"]},
        "no feature is left to predict 'y'",
    ),
    "split without its column": (GOOD.encode(), {"split": "time", "time": None}, r"data\.split: time needs data\.time"),
    "a category that is a number": (
        GOOD.encode(),
        {"categories": ["size"]},
        "column 'size' is of type number, .* must be category",
    ),
    "quote not closed": (GOOD.replace("0-5,", '"0-5,', 1).encode(), {}, r"row 6: has 1 cells, the header 7"),
    "no file": (b"", {"path": "data/raw/none.csv"}, r"data\.path: there is no 'data/raw/none\.csv'.*dvc add"),
    "no match": (b"", {"path": "data/raw/2026-*.csv"}, r"no file matches"),
    "empty folder": (b"", {"path": "schema"}, r"data\.path: the folder 'schema' has no \*\.csv file"),
}


@pytest.fixture
def good(workspace: Path) -> dict[Path, bytes]:
    """The good table, prepared; what that has written."""
    RAW.mkdir(parents=True)
    (RAW / "table.csv").write_text(GOOD, encoding="utf-8")
    preparation.write(source(), SPLITS)
    return content()


@pytest.mark.parametrize("case", BAD)
def test_bad_data_end_in_a_line_and_change_nothing(
    good: dict[Path, bytes], case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data, changes, message = BAD[case]
    (RAW / "table.csv").write_bytes(data)
    with pytest.raises(errors.UserError) as error:
        preparation.write(source(**changes), SPLITS)
    assert "\n" not in str(error.value)
    assert re.search(message, capsys.readouterr().err + str(error.value))
    assert content() == good
    assert sorted(path.name for path in prepared.PREPARED.parent.iterdir()) == ["prepared", "raw"]


FINE: dict[str, tuple[bytes, dict[str, Any]]] = {
    "byte order mark": (b"\xef\xbb\xbf" + GOOD.encode(), {}),
    "Windows line ends": (GOOD.replace("\n", "\r\n").encode(), {}),
    "no line end at the end": (GOOD.rstrip().encode(), {}),
    "blank lines": (GOOD.replace("\n", "\n\n").encode(), {}),
    "semicolons": (GOOD.replace(",", ";").encode(), {"delimiter": ";"}),
    "utf-16": (GOOD.encode("utf-16"), {"encoding": "utf-16"}),
    "quoted": (pd.read_csv(io.StringIO(GOOD)).to_csv(index=False, quoting=1).encode(), {}),
    "delimiters at the ends of lines": (GOOD.replace("\n", ",,\n").encode(), {}),
    "unnamed columns dropped": (GOOD.replace("\n", ",5,7\n").replace(",5,7", ",,", 1).encode(), {"drop": [""]}),
    "unnamed index dropped": (_csv(pd.read_csv(io.StringIO(GOOD)).reset_index(names="")), {"drop": [""]}),
    "spaces around numbers": (GOOD.replace("0-5,", "0-5, ", 1).encode(), {}),
}


@pytest.mark.parametrize("case", FINE)
def test_other_spellings_of_the_same_table_give_the_same_bytes(good: dict[Path, bytes], case: str) -> None:
    data, changes = FINE[case]
    (RAW / "table.csv").write_bytes(data)
    preparation.write(source(**changes), SPLITS)
    found = content()
    manifest = prepared.PREPARED / "manifest.json"
    described = json.loads(found[manifest])
    if described["notation"].pop("encoding", None):  # it is recorded, for files of requests
        assert found.pop(manifest) and described == json.loads(good.pop(manifest))
    assert found == good


def test_a_quoted_line_end_belongs_to_its_cell() -> None:
    rows = frame()
    rows["colour ✨"] = rows["colour ✨"].replace("red", 'two\nlines, "quoted"')
    prepare(rows)
    assert rows["id"].isin(division()).all()
    assert 'two\nlines, "quoted"' in (schema.load(Path("schema/table.yaml"))["colour ✨"].categories or ())


def test_all_violations_are_reported_at_once(good: dict[Path, bytes], capsys: pytest.CaptureFixture[str]) -> None:
    rows = pd.read_csv(io.StringIO(GOOD), dtype=str, keep_default_na=False)
    rows.loc[:49, "size"] = "tall"
    rows.loc[4, "colour ✨"] = "pink"
    rows.to_csv(RAW / "table.csv", index=False)
    with pytest.raises(
        errors.UserError, match=r"^51 violation\(s\) in 50 of 120 rows .*data\.on_invalid: drop or impute"
    ):
        preparation.write(source(), SPLITS)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("prepare: ")]
    assert lines[0].startswith(
        "prepare: data/raw/table.csv: rows 1, 2, 3, 4, 5 and 45 more: column 'size': 'tall' is not a"
    )
    assert lines[1] == (
        "prepare: data/raw/table.csv: row 5: column 'colour ✨': 'pink' is not among the 3 known categories: "
        "fix the cell, or add it to schema/table.yaml if it is valid"
    )
    assert len(lines) == 2
    report = json.loads(Path("reports/data.json").read_text(encoding="utf-8"))
    assert report["violations_by_column"] == {"colour ✨": {"category": 1}, "size": {"type": 50}}
    assert len(report["violations_listed"]) == 51


def test_equal_violations_are_one_line(good: dict[Path, bytes], capsys: pytest.CaptureFixture[str]) -> None:
    rows = pd.read_csv(io.StringIO(GOOD), dtype=str, keep_default_na=False)
    rows.loc[:49, "y"] = ""
    rows.to_csv(RAW / "table.csv", index=False)
    with pytest.raises(errors.UserError, match=r"^50 violation\(s\) in 50 of 120 rows"):
        preparation.write(source(), SPLITS)
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("prepare: "))
    assert line == (
        "prepare: data/raw/table.csv: rows 1, 2, 3, 4, 5 and 45 more: column 'y': is empty: fill in a value, or leave "
        "out such rows with data.on_invalid: drop"
    )


@pytest.mark.parametrize("policy", ["drop", "impute"])
def test_the_policy_drops_rows_or_imputes_cells(good: dict[Path, bytes], policy: str) -> None:
    rows = pd.read_csv(io.StringIO(GOOD), dtype=str, keep_default_na=False)
    rows.loc[1, "size"] = "tall"
    rows.loc[2, ["size", "colour ✨"]] = ["1e308", "pink"]
    rows.loc[3, "y"] = ""
    rows.loc[4, "id"] = "0-0"
    text = rows.to_csv(index=False).splitlines()
    text[7] += ",surplus"
    (RAW / "table.csv").write_text("\n".join(text), encoding="utf-8")
    report = preparation.write(source(on_invalid=policy), SPLITS)
    assert report["violations"] == 6
    assert report["skipped"] == (5 if policy == "drop" else 3)
    assert report["imputed"] == (0 if policy == "drop" else 3)
    assert report["rows"] == 120
    rows_left = division()
    assert sum(report["examples"].values()) == len(rows_left) == 120 - report["skipped"]
    assert not {"0-3", "0-4", "0-6"} & rows_left.keys()
    assert ({"0-1", "0-2"} <= rows_left.keys()) == (policy == "impute")
    cells: dict[str, tuple[float, str]] = {}
    for split in prepared.SPLITS:
        for feed in prepared_tables.feeds(split):  # a single one: there are few rows
            cells |= zip(prepared_tables.names(split), zip(feed["size"], feed["colour ✨"], strict=True), strict=True)
    assert not np.isnan([size for name, (size, _) in cells.items() if name not in ("0-1", "0-2")]).any()
    if policy == "impute":
        assert np.isnan(cells["0-1"][0])
        assert np.isnan(cells["0-2"][0])
        assert cells["0-2"][1] == ""


PARQUET: dict[str, tuple[Callable[[pd.DataFrame], bytes], str]] = {
    "cut off": (lambda rows: _parquet(rows)[:-100], "cannot be read"),
    "damaged": (lambda rows: b"PAR1" + b"\0" * 500 + b"PAR1", "cannot be read"),
    "text": (lambda rows: GOOD.encode(), "cannot be read: Parquet magic bytes"),
    "empty": (lambda rows: b"", "cannot be read"),
    "no rows": (lambda rows: _parquet(rows[:0]), "has no rows"),
    "lists": (
        lambda rows: _parquet(rows.assign(size=[[1]] * len(rows))),
        r"rows 1, .*: column 'size': '\[1\]' is not a number",
    ),
    "times among numbers": (lambda rows: _parquet(rows.assign(size=pd.Timestamp("2025-01-01"))), "is not a number"),
    "infinite": (lambda rows: _parquet(rows.assign(size=np.inf)), "too large or infinite"),
}


def _parquet(rows: pd.DataFrame) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(rows, preserve_index=False), file)
    return file.getvalue()


@pytest.mark.parametrize("case", PARQUET)
def test_bad_parquet_ends_in_a_line(good: dict[Path, bytes], case: str, capsys: pytest.CaptureFixture[str]) -> None:
    make, message = PARQUET[case]
    (RAW / "table.parquet").write_bytes(make(pd.read_csv(io.StringIO(GOOD))))
    with pytest.raises(errors.UserError) as error:
        preparation.write(source("data/raw/table.parquet"), SPLITS)
    assert re.search(message, capsys.readouterr().err + str(error.value))
    assert content() == good


def test_links_that_lead_nowhere_end_in_a_line(good: dict[Path, bytes]) -> None:
    (RAW / "a.csv").symlink_to("b.csv")
    (RAW / "b.csv").symlink_to("a.csv")
    for path in ("data/raw", "data/raw/a.csv"):
        with pytest.raises(
            errors.UserError, match=r"data/raw/a\.csv: cannot be read: Too many levels of symbolic links"
        ):
            preparation.write(source(path), SPLITS)
    (RAW / "a.csv").unlink()
    (RAW / "b.csv").unlink()
    (RAW / "a.csv").mkdir()
    with pytest.raises(errors.UserError, match=r"a\.csv: cannot be read: Is a directory"):
        preparation.write(source("data/raw"), SPLITS)
    assert content() == good
