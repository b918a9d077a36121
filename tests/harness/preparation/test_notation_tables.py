"""Numbers and dates in other notations: every way into the model reads the same, or refuses in one line."""

import json
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from my_experiment.harness import preparation, prepared
from my_experiment.harness.core.errors import UserError
from my_experiment.harness.inputs import tables as inputs_tables
from my_experiment.harness.prepared import tables as prepared_tables
from tables_made import RAW, SPLITS, content, frame, prepare, source, unchecked

pytestmark = pytest.mark.usefixtures("workspace")

GERMAN: dict[str, Any] = {"decimal": ",", "thousands": "."}
FRENCH: dict[str, Any] = {"decimal": ",", "thousands": " "}
SWISS: dict[str, Any] = {"decimal": ".", "thousands": "'"}
US: dict[str, Any] = {"decimal": ".", "thousands": ","}
PLAIN: dict[str, Any] = {"decimal": ".", "thousands": None}
COMMA: dict[str, Any] = {"decimal": ",", "thousands": None}
# Notation, text -> number; None if it is none.
NUMBERS: list[tuple[dict[str, Any], str, float | None]] = [
    (GERMAN, "12.345,67", 12345.67), (GERMAN, "-1.234.567", -1234567), (GERMAN, "22,51", 22.51), (GERMAN, ",5", 0.5),
    (GERMAN, "1234,5", 1234.5), (GERMAN, "1,5e3", 1500), (GERMAN, " 7 ", 7), (GERMAN, "12.5", None),
    (GERMAN, "1.23.456", None), (GERMAN, "1.2345", None), (GERMAN, "0.123", None), (GERMAN, "1,2,3", None),
    (COMMA, "22,51", 22.51), (COMMA, "22.51", None), (COMMA, "12.345,67", None), (COMMA, "-0,5", -0.5),
    (FRENCH, "1 234,5", 1234.5), (FRENCH, "1\u00a0234\u202f567", 1234567), (SWISS, "1'234.5", 1234.5),
    (SWISS, "1\u2019234", 1234), (US, "12,345", 12345), (US, "1,234.5", 1234.5), (US, "12,34", None),
    (PLAIN, "12,345", None), (PLAIN, "1.5", 1.5), (PLAIN, "1'234", None),
]  # fmt: skip


def described(type: str, notation: dict[str, Any]) -> dict[str, Any]:
    """A description of a model of the column `x`."""
    return {"columns": [{"name": "x", "type": type}], "notation": {"nulls": ["NA"], **notation}}


def by_file(cell: str, description: dict[str, Any]) -> float:
    """The cell in a CSV file of a request."""
    data = pd.DataFrame({"x": [cell]}).to_csv(index=False).encode()
    return float(inputs_tables.from_file(data, description)["x"][0])


def by_json(cell: Any, description: dict[str, Any]) -> float:
    """The cell in a JSON request."""
    request: Any = inputs_tables.request_model(description, 1).model_validate_json(
        json.dumps({"instances": [{"x": cell}]})
    )
    return float(inputs_tables.from_json(request.instances, description)["x"][0])


def by_prepare(cells: list[str], type: str, notation: dict[str, Any], kind: str = "csv") -> list[float | None]:
    """The cells in a table that is prepared, the others being good rows."""
    rows = frame(200)
    good = "2026-01-31" if type == "date" else "7"
    rows["x"] = [*cells, *[good] * (200 - len(cells))]
    RAW.mkdir(parents=True)
    rows.to_csv(RAW / "table.csv", index=False) if kind == "csv" else rows.to_parquet(RAW / "table.parquet")
    Path("schema").mkdir()
    kinds = dict.fromkeys(("size", "weight in kg", "colour ✨"), "{type: category, nulls: 1}")
    kinds |= {"id": "{type: text}", "patient": "{type: text}", "when": "{type: time}"}
    kinds |= {"y": "{type: category, categories: ['yes', 'no']}", "x": f"{{type: {type}, nulls: 1}}"}
    Path("schema/table.yaml").write_text(
        "columns:\n" + "\n".join(f"  {json.dumps(n)}: {k}" for n, k in kinds.items()), "utf-8"
    )
    path = f"data/raw/table.{kind}"
    preparation.write(unchecked(path, **notation, on_invalid="impute"), SPLITS)
    found: dict[str, float] = {}
    for split in prepared.SPLITS:
        (feed,) = prepared_tables.feeds(split)
        found |= zip(prepared_tables.names(split), feed["x"], strict=True)
    return [None if np.isnan(found[name]) else found[name] for name in rows["id"][: len(cells)]]


def check_requests(text: str, description: dict[str, Any], value: float | None, refusal: str) -> None:
    """A text is the same value in a file and in JSON, or refused by both if there is none."""
    if value is None:
        with pytest.raises(inputs_tables.InputError, match=rf"^row 1, column 'x': .* {refusal}"):
            by_file(text, description)
        with pytest.raises(inputs_tables.InputError, match=refusal):
            by_json(text, description)
    else:
        assert by_file(text, description) == by_json(text, description) == value


@pytest.mark.parametrize(("notation", "text", "number"), NUMBERS)
def test_requests_read_numbers_as_configured(notation: dict[str, Any], text: str, number: float | None) -> None:
    description = described("number", notation)
    check_requests(text, description, number, "is not a finite number$")
    assert by_json(22.51, description) == 22.51  # a JSON number is a number


@pytest.mark.parametrize("notation", [GERMAN, COMMA, FRENCH, SWISS, US], ids=["de", "comma", "fr", "ch", "us"])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_prepare_reads_the_same_numbers(notation: dict[str, Any], kind: str) -> None:
    cases = [(text, number) for other, text, number in NUMBERS if other == notation]
    assert by_prepare([text for text, _ in cases], "number", notation, kind) == [number for _, number in cases]


def test_a_table_in_another_notation_gives_the_same_bytes() -> None:
    rows = frame().assign(price=np.random.default_rng(1).uniform(1, 50_000, 400).round(2))
    prepare(rows)
    expected = content()
    marks = str.maketrans({",": ".", ".": ","})
    for column in ("size", "weight in kg", "price"):
        rows[column] = [None if np.isnan(x) else f"{x:,}".translate(marks) for x in rows[column]]
    rows.to_csv(RAW / "table.csv", index=False, sep=";")
    Path("schema/table.yaml").unlink()
    preparation.write(source(delimiter=";", **GERMAN), SPLITS)
    found = content()
    manifest = prepared.PREPARED / "manifest.json"
    notation = json.loads(found.pop(manifest))["notation"]
    assert {key: notation[key] for key in GERMAN} == GERMAN
    del expected[manifest]
    assert found == expected


def test_one_mark_has_one_meaning() -> None:
    prepare(frame())
    with pytest.raises(UserError, match=r"data\.thousands: '\.' is already data\.decimal"):
        unchecked(thousands=".")


# Text -> days since 1970; None if it is no date.
DATES: list[tuple[str, float | None]] = [
    ("2026-01-31", 20484.0), ("1969-12-31", -1.0), ("2026-01-31T12:00:00", 20484.5), ("2026-01-31 06:00", 20484.25),
    ("2026-01-31T12:00:00Z", 20484.5), ("2026-01-31T14:00:00+02:00", 20484.5), (" 2026-01-31 ", 20484.0),
    ("2026-01-31T00:00:00.000", 20484.0), ("2026-02-30", None), ("31.01.2026", None), ("20260131", None),
    ("yesterday", None), ("2026-01-31T25:00:00", None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "days"), DATES)
def test_requests_read_dates(text: str, days: float | None) -> None:
    check_requests(text, described("date", PLAIN), days, "is not a date such as 2026-01-31")


@pytest.mark.parametrize("cell", [20484, 1769817600000, 2026.5, True])
def test_a_number_is_no_date(cell: Any) -> None:
    with pytest.raises(inputs_tables.InputError, match="is not a date such as 2026-01-31"):
        by_json(cell, described("date", PLAIN))


def test_a_missing_date_is_missing() -> None:
    assert np.isnan([by_json(cell, described("date", PLAIN)) for cell in (None, "", "NA")]).all()


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_prepare_reads_the_same_dates(kind: str) -> None:
    assert by_prepare([text for text, _ in DATES], "date", PLAIN, kind) == [days for _, days in DATES]


def test_dates_of_parquet_are_dates_and_requests_show_them_as_text() -> None:
    rows = frame().drop(columns="when")
    days = pd.date_range("2026-01-01 06:00", periods=400, freq="12h")
    table = pa.Table.from_pandas(rows, preserve_index=False)
    table = table.append_column("stamp", pa.array(days.to_pydatetime(), pa.timestamp("ns")))
    table = table.append_column("zoned", pa.array(days.to_pydatetime(), pa.timestamp("ms", "Europe/Berlin")))
    table = table.append_column("day", pa.array([day.date() for day in days], pa.date32()))
    RAW.mkdir(parents=True)
    pq.write_table(table, RAW / "table.parquet")
    preparation.write(source("data/raw/table.parquet", time=None), SPLITS)
    columns = {column["name"]: column["type"] for column in prepared.manifest()["columns"]}
    assert {columns[name] for name in ("stamp", "zoned", "day")} == {"date"}
    first = int(prepared_tables.names("train")[0].split("-")[1])
    (row,) = prepared_tables.requests("train", [0])
    assert row["stamp"] == row["zoned"] == days[first].isoformat()
    assert row["day"] == days[first].date().isoformat()
    assert json.dumps(row)
    feed = next(iter(prepared_tables.feeds("train")))
    epoch = datetime(1970, 1, 1)
    assert feed["stamp"][0] == feed["zoned"][0] == (days[first] - epoch) / pd.Timedelta(days=1)
    assert feed["day"][0] == (days[first].date() - date(1970, 1, 1)).days


def test_blanks_around_a_level_mean_nothing() -> None:
    rows = frame()
    prepare(rows)
    expected = content()
    rows["colour ✨"] = [None if colour is None else f" {colour}\t" for colour in rows["colour ✨"]]
    rows["y"] = " " + rows["y"]
    report = prepare(rows)
    assert report["violations"] == 0
    assert content() == expected
    description = described("category", PLAIN)
    data = '{"instances": [{"x": " income "}]}'
    request: Any = inputs_tables.request_model(description, 1).model_validate_json(data)
    assert inputs_tables.from_json(request.instances, description)["x"].tolist() == ["income"]
    assert inputs_tables.from_file(b"x,y\n income,1\n", description)["x"].tolist() == ["income"]
