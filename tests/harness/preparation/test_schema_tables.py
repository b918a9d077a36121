"""The schema of a table: what is inferred, and that pandera judges by it."""

import datetime
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from my_experiment.data import tables as data_tables
from my_experiment.harness import preparation
from my_experiment.harness.contracts import Splits
from my_experiment.harness.core import errors
from my_experiment.harness.inputs.table_notation import NULLS
from my_experiment.harness.preparation import schema, schema_checks, schema_inference
from support import PACKAGE

RAW = Path("data/raw/table.csv")


@pytest.fixture
def source(workspace: Path) -> Any:
    """A table of every kind of column."""
    RAW.parent.mkdir(parents=True)
    random = np.random.default_rng(0)
    pd.DataFrame(
        {
            "row": range(500),
            "length": np.linspace(10, 20, 500),
            "celsius": np.linspace(-10, 20, 500),
            "code": random.integers(1, 4, 500),
            "flag": random.random(500) < 0.5,
            "site": pd.Series(random.choice(["no", "1", "näh", "a b"], 500)).where(np.arange(500) % 10 > 0),
            "since": [None, *pd.date_range("2020-01-01", periods=499).strftime("%Y-%m-%d")],
            "note": [f"text {number}" for number in random.permutation(500)],
            "version": "v1",
            "noted": pd.date_range("2025-01-01", periods=500, freq="h").astype(str),
            "y": random.integers(0, 2, 500),
        }
    ).to_csv(RAW, index=False)
    return table()


def table(**changes: Any) -> Any:
    """The table as configured."""
    settings: dict[str, Any] = {
        "path": str(RAW),
        "delimiter": ",",
        "encoding": "utf-8",
        "target": "y",
        "problem": "classification",
        "drop": [],
        "categories": ["code"],
        "id": "row",
        "time": "noted",
        "group": None,
        "split": "random",
        "nulls": [*NULLS],
        "decimal": ".",
        "thousands": None,
        "schema": "schema/table.yaml",
        "on_invalid": "stop",
    }
    settings |= changes
    if settings["path"].endswith("parquet"):
        return data_tables.parquet(**{key: settings[key] for key in settings if key not in ("delimiter", "encoding")})
    return data_tables.csv(**settings)


def test_every_kind_of_column_is_recognised(source: Any) -> None:
    columns = schema_inference.infer(source)
    assert {name: column.model_dump(exclude_defaults=True) for name, column in columns.items() if name != "note"} == {
        "row": {"type": "text", "unique": True},
        "length": {"type": "number", "min": 5.0, "max": 25.0},
        "celsius": {"type": "number", "min": -25.0, "max": 35.0},
        "code": {"type": "category", "categories": ["1", "2", "3"]},
        "flag": {"type": "category", "categories": ["false", "true"]},
        "site": {"type": "category", "categories": ["1", "a b", "no", "näh"], "nulls": 0.2},
        "since": {"type": "date", "nulls": 0.01},
        "version": {"type": "category", "categories": ["v1"], "constant": True},
        "noted": {"type": "time"},
        "y": {"type": "category", "categories": ["0", "1"]},
    }
    assert len(columns["note"].categories or ()) == 500


def test_words_for_missing_values_are_told(source: Any, capsys: pytest.CaptureFixture[str]) -> None:
    table_of = pd.read_csv(RAW, dtype=str, keep_default_na=False)
    table_of.loc[:1, ["site", "length"]] = "null"
    table_of.loc[2, "site"] = "None"
    table_of.to_csv(RAW, index=False)
    site = schema_inference.infer(source)["site"]
    assert site.categories == ["1", "None", "a b", "no", "näh"]
    assert capsys.readouterr().err == (
        "schema: column 'site': missing, as data.nulls says: 'null' (2 cells); remove there what is a value\n"
    )
    assert "null" in (schema_inference.infer(table(nulls=[]))["site"].categories or ())


@pytest.mark.parametrize("cell", [[1], {"a": 1}, datetime.timedelta(seconds=5)])
def test_a_column_of_no_values_is_refused(workspace: Path, cell: Any) -> None:
    RAW.parent.mkdir(parents=True)
    pq.write_table(pa.table({"a": [cell, cell], "y": ["no", "yes"]}), RAW.with_suffix(".parquet"))
    settings: dict[str, Any] = {"path": str(RAW.with_suffix(".parquet")), "id": None, "time": None, "categories": []}
    with pytest.raises(errors.UserError, match=r"column 'a' holds .*, which is no value: .*name it in data\.drop"):
        schema_inference.infer(table(**settings))


def test_two_spellings_of_one_level_are_refused(source: Any) -> None:
    columns = schema_inference.infer(source)
    columns["code"] = columns["code"].model_copy(update={"categories": ["1", "1.0", "2", "3"]})
    schema_inference.write(columns, source.schema)
    with pytest.raises(errors.UserError, match=r"column 'code': '1', '1\.0' are the same value: keep one"):
        source.columns()


def test_many_texts_are_not_listed(
    source: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(schema_inference, "MAX_CATEGORIES", 499)
    assert schema_inference.infer(source)["note"].categories is None
    assert "column 'note' has more than 499 different texts" in capsys.readouterr().err


def test_what_is_written_is_read(source: Any) -> None:
    columns = schema_inference.infer(source)
    schema_inference.write(columns, source.schema)
    assert schema.load(source.schema) == columns
    assert list(schema.load(source.schema)) == list(columns)
    assert "\n  length: {type: number, min: 5.0, max: 25.0}\n" in source.schema.read_text(encoding="utf-8")


def test_pandera_judges_every_cell() -> None:
    columns = {
        "a": schema.Column(type="number", min=0, max=9),
        "b": schema.Column(type="number", nulls=0.5),
        "c": schema.Column(type="category", categories=["x", "y"]),
        "d": schema.Column(type="time"),
    }
    chunk = pa.RecordBatch.from_pandas(
        pd.DataFrame(
            {
                "a": [1.0, -1, np.nan, 10, 9],
                "b": [np.nan, 1e9, 0, 0, 0],
                "c": ["x", None, "z", "y", "z"],
                "d": pd.to_datetime(["2025-01-01", None, "1970-01-01", "2025-01-01", "2025-01-01"]).astype(
                    "datetime64[us]"
                ),
            }
        ),
        preserve_index=False,
    )
    cells = {(column, kind): rows.tolist() for column, kind, rows in schema_checks.violations(chunk, columns)}
    assert cells == {
        ("a", "range"): [1, 3],
        ("a", "null"): [2],
        ("c", "null"): [1],
        ("c", "category"): [2, 4],
        ("d", "null"): [1],
    }
    assert schema_checks.violations(chunk.slice(0, 1), columns) == []


def test_every_way_to_be_wrong_is_pandera_s_as_well() -> None:
    """The quick check that decides whether pandera runs must not overlook a violation."""
    random = np.random.default_rng(0)
    columns = {
        "a": schema.Column(type="number", min=-1, max=1),
        "b": schema.Column(type="category", categories=["x", "y"]),
        "c": schema.Column(type="number", max=0.5, nulls=1),
    }
    for _ in range(50):
        rows = pd.DataFrame(
            {
                "a": np.where(random.random(5) < 0.1, np.nan, random.normal(size=5) / 2),
                "b": random.choice(np.array(["x", "y", "x", "y", "z", None]), 5),
                "c": np.where(random.random(5) < 0.1, np.nan, random.normal(size=5) / 4),
            }
        ).astype({"b": "str"})
        sound = True
        try:
            schema_checks.build(columns).validate(rows, lazy=True)
        except Exception:
            sound = False
        assert (
            schema_checks.violations(pa.RecordBatch.from_pandas(rows, preserve_index=False), columns) == []
        ) == sound


def command(*arguments: str, **changes: Any) -> Result:
    """Runs `python -m <package> schema` on the configured table."""
    config = Path("conf/config.yaml").read_text(encoding="utf-8")
    if "- data: csv" not in config:
        lines = ["  - data: csv" if line.startswith("  - data:") else line for line in config.splitlines()]
        Path("conf/config.yaml").write_text("\n".join(lines), encoding="utf-8")
    conf = Path("conf/data/csv.yaml").read_text(encoding="utf-8")
    for key, value in {"target": "y", "id": "row", "time": "noted", **changes}.items():
        conf = "\n".join(f"{key}: {value}" if line.startswith(f"{key}:") else line for line in conf.splitlines())
    Path("conf/data/csv.yaml").write_text(conf, encoding="utf-8")
    return CliRunner().invoke(schema_inference.command, arguments)


def test_the_command_writes_once(source: Any) -> None:
    assert (
        "schema/table.yaml: 11 columns. Review it, correct it and commit it; after changing keys of data"
        in command().stderr
    )
    edited = source.schema.read_text(encoding="utf-8").replace("max: 25.0", "max: 99.0")
    source.schema.write_text(edited, encoding="utf-8")
    assert re.search(r"^schema/table\.yaml exists: .*--force", str(command().exception))
    assert source.schema.read_text(encoding="utf-8") == edited
    assert command("--force").exit_code == 0
    assert source.schema.read_text(encoding="utf-8") != edited


def test_without_a_target_nothing_is_inferred(source: Any) -> None:
    refused = command(target="???").exception
    assert isinstance(refused, errors.UserError)
    assert "data.target: no value is set (???)" in str(refused)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": "note", "problem": "regression"}, "data.target: column 'note' does not hold numbers"),
        ({"time": "note"}, "data.time: column 'note' holds neither numbers nor times"),
        ({"group": "grp"}, "data.group: .* has no column 'grp'"),
    ],
)
def test_what_cannot_be_inferred_is_reported(source: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(errors.UserError, match=message):
        schema_inference.infer(table(**changes))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "`columns:` with a line for each column is expected"),
        ("columns: [a]", "`columns:` with a line for each column"),
        ("columns:\n  1: {type: number}", "quote names that are numbers"),
        (
            "columns: {a: {type: int}}",
            r"a\.type: input should be 'number', .* 'date', 'text' or 'time', got 'int'",
        ),
        ("columns: {a: {type: number, maximum: 3}}", r"a\.maximum: unknown key"),
        ("columns: {a: {type: number, nulls: 2}}", r"a\.nulls: .*less than or equal to 1"),
        ("columns: {a: {type: category, categories: [no, yes]}}", r"a\.categories\.0: .*string"),
        ("columns: {a: {type: number", "cannot be read as YAML"),
    ],
)
def test_a_bad_schema_is_reported(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "schema.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(errors.UserError, match=message):
        schema.load(file)


def test_a_missing_schema_says_how_to_write_it(source: Any) -> None:
    with pytest.raises(errors.UserError, match=rf"there is no schema/table\.yaml: .*python -m {PACKAGE} schema"):
        preparation.write(source, Splits(0, 0.2, 0.2))
