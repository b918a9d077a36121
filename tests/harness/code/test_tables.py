"""Tables: how rows divide, what is written, and that nothing of one split reaches another."""

import hashlib
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import PACKAGE, ROOT
from my_experiment.data import tables as data_tables
from my_experiment.harness import contracts
from my_experiment.harness.core import errors
from my_experiment.harness.evaluation import tables as evaluation_tables
from my_experiment.harness.preparation import schema
from my_experiment.harness.preparation import schema_inference
from my_experiment.harness.preparation import table_splits
from my_experiment.harness import prepared
from my_experiment.harness.prepared import tables as prepared_tables

SPLITS = contracts.Splits(0, 0.2, 0.2)
RAW = Path("data/raw")


def frame(rows: int = 400, seed: int = 0) -> pd.DataFrame:
    """Numbers with gaps, texts with gaps, groups, times and two classes."""
    random = np.random.default_rng(seed)
    size = random.normal(size=rows).round(4)
    colour = random.choice(np.array(["red", "grün", "blue sky", None]), rows)
    return pd.DataFrame(
        {
            "id": [f"{seed}-{row}" for row in range(rows)],
            "size": size,
            "weight in kg": np.where(random.random(rows) < 0.1, np.nan, random.uniform(40, 90, rows).round(1)),
            "colour ✨": colour,
            "patient": random.integers(0, 60, rows),
            "when": pd.date_range("2025-01-01", periods=rows, freq="D").strftime("%Y-%m-%d")[random.permutation(rows)],
            "y": np.where(size + random.normal(size=rows) > 0, "yes", "no"),
        }
    )



def source(path: str = "data/raw/table.csv", **changes: Any) -> Any:
    """The table as configured; its schema is inferred where there is none."""
    settings = {
        "path": path,
        "target": "y",
        "problem": "classification",
        "drop": [],
        "categories": [],
        "id": "id",
        "time": "when",
        "group": "patient",
        "split": "random",
        "schema": "schema/table.yaml",
        "on_invalid": "stop",
        **changes,
    }
    if path.endswith("parquet"):
        found = data_tables.parquet(**settings)
    else:
        found = data_tables.csv(**{"delimiter": ",", "encoding": "utf-8", **settings})
    if not found.schema.exists():
        schema_inference.write(schema_inference.infer(found), found.schema)
    return found



@pytest.fixture
def write(workspace: Path) -> Callable[..., dict[str, Any]]:
    """Prepares data/raw/table.csv, which holds the rows given; returns the report."""
    RAW.mkdir(parents=True)

    def write(rows: pd.DataFrame, splits: Any = SPLITS, **changes: Any) -> dict[str, Any]:
        rows.to_csv(RAW / "table.csv", index=False)
        report: dict[str, Any] = source(**changes).write(splits)
        return report

    return write



def division() -> dict[str, str]:
    """Name -> split of every row."""
    return {name: split for split in prepared.SPLITS for name in prepared_tables.names(split)}



def content() -> dict[Path, bytes]:
    """Every byte of the prepared data."""
    return {file: file.read_bytes() for file in prepared.PREPARED.rglob("*.*")}



def test_what_is_written_is_read(write: Callable[..., dict[str, Any]]) -> None:
    rows = frame()
    report = write(rows)
    manifest = prepared.manifest()
    assert manifest["columns"] == [
        {"name": "size", "type": "number"},
        {"name": "weight in kg", "type": "number"},
        {"name": "colour ✨", "type": "category"},
    ]
    assert (manifest["input"], manifest["target"], manifest["target_name"]) == ("tables", "classification", "y")
    assert manifest["classes"] == ["no", "yes"]
    assert report["examples"] == manifest["examples"]
    assert sum(manifest["examples"].values()) == report["rows"] == 400
    original = rows.set_index("id")
    for split in prepared.SPLITS:
        feeds = list(prepared_tables.feeds(split, 64))
        assert all(len(feed["size"]) <= 64 for feed in feeds)
        names = list(prepared_tables.names(split))
        expected = original.loc[names]
        for column in ("size", "weight in kg"):
            np.testing.assert_array_equal(np.concatenate([feed[column] for feed in feeds]), expected[column])
        colours = np.concatenate([feed["colour ✨"] for feed in feeds])
        assert colours.tolist() == expected["colour ✨"].fillna("").tolist()
        assert prepared_tables.groups(split).tolist() == expected["patient"].astype(str).tolist()
        assert set(prepared_tables.load(split).column_names) == {"size", "weight in kg", "colour ✨", "__name__"}
        targets = prepared.targets(split)
        assert targets.dtype == np.int64
        assert [manifest["classes"][target] for target in targets] == expected["y"].tolist()
        assert manifest["counts"][split] == np.bincount(targets, minlength=2).tolist()
        digest = hashlib.sha256((prepared.PREPARED / split / "rows.arrow").read_bytes())
        digest.update((prepared.PREPARED / split / "targets.npy").read_bytes())
        assert digest.hexdigest() == manifest["digests"][split]



def test_the_same_rows_give_the_same_bytes_from_csv_and_parquet(write: Callable[..., dict[str, Any]]) -> None:
    rows = frame()
    write(rows)
    first = content()
    write(rows)
    assert content() == first
    rows.to_parquet(RAW / "table.parquet")
    source("data/raw/table.parquet").write(SPLITS)
    assert content() == first



def test_many_files_are_one_table(write: Callable[..., dict[str, Any]]) -> None:
    rows = frame()
    write(rows)
    whole = {split: [feed["size"] for feed in prepared_tables.feeds(split, 10_000)] for split in prepared.SPLITS}
    (RAW / "part s").mkdir()
    rows[:150].to_csv(RAW / "part s/a 1.csv", index=False)
    rows[150:][rows.columns[::-1]].to_csv(RAW / "part s/b ✨.csv", index=False)  # columns in another order
    for path in ("data/raw/part s", "data/raw/part s/*.csv"):
        table = source(path)
        table.write(SPLITS)
        assert table.path == Path("data/raw/part s")
        for split in prepared.SPLITS:
            np.testing.assert_array_equal([feed["size"] for feed in prepared_tables.feeds(split, 10_000)], whole[split])
    source("data/raw/part s", id=None, drop=["id"]).write(SPLITS)
    assert {"a 1.csv:1", "a 1.csv:150", "b ✨.csv:1", "b ✨.csv:250"} <= division().keys()



def test_regression_keeps_the_number(write: Callable[..., dict[str, Any]]) -> None:
    rows = frame()
    write(rows, target="size", problem="regression")
    for split in prepared.SPLITS:
        targets = prepared.targets(split)
        assert targets.dtype == np.float64
        np.testing.assert_array_equal(targets, rows.set_index("id").loc[list(prepared_tables.names(split)), "size"])



@pytest.mark.parametrize("seed", range(3))
def test_the_fractions_are_met(write: Callable[..., dict[str, Any]], seed: int) -> None:
    report = write(frame(5000), splits=contracts.Splits(seed, 0.1, 0.3))
    for split, fraction in {"train": 0.6, "validation": 0.1, "test": 0.3}.items():
        assert abs(report["examples"][split] / 5000 - fraction) < 4 * (fraction * (1 - fraction) / 5000) ** 0.5



def test_more_rows_move_none(write: Callable[..., dict[str, Any]]) -> None:
    rows, more = frame(), frame(300, seed=1)
    write(rows)
    before = division()
    write(pd.concat([more[:100], rows.sample(frac=1, random_state=0), more[100:]]))
    after = division()
    assert len(after) == 700
    assert before.items() <= after.items()
    write(rows, splits=SPLITS._replace(seed=1))
    assert division() != before



def test_equal_rows_are_in_one_split_and_counted(write: Callable[..., dict[str, Any]]) -> None:
    rows = frame()
    report = write(pd.concat([rows, rows[:200].assign(id=rows["id"][:200] + " again")]))
    assert report["duplicates"] == 200
    found = division()
    assert all(found[name] == found[f"{name} again"] for name in rows["id"][:200])



def test_a_group_is_in_one_split(write: Callable[..., dict[str, Any]]) -> None:
    rows = frame()
    write(rows, split="group")
    found = rows.assign(split=rows["id"].map(division())).groupby("patient")["split"]
    assert found.nunique().max() == 1
    before = found.first()
    write(pd.concat([rows, frame(300, seed=1)]), split="group")
    after = division()
    assert all(after[name] == before[patient] for name, patient in zip(rows["id"], rows["patient"], strict=True))



@pytest.mark.parametrize("kind", ["day", "number", "zone"])
def test_time_goes_from_training_to_test(write: Callable[..., dict[str, Any]], kind: str) -> None:
    rows = frame()
    rows["when"] = np.random.default_rng(3).permutation(np.repeat(np.arange(-50, 50), 4))  # four rows at each time
    numbers = rows["when"].copy()
    if kind != "number":
        rows["when"] = (pd.Timestamp("2025-01-01") + pd.to_timedelta(rows["when"], "D")).dt.strftime("%Y-%m-%d")
    if kind == "zone":
        rows["when"] += "T12:00:00+02:00"
    report = write(rows, split="time")
    assert report["examples"] == {"train": 240, "validation": 80, "test": 80}
    when = dict(zip(rows["id"], numbers, strict=True))
    times = {split: [when[name] for name in prepared_tables.names(split)] for split in prepared.SPLITS}
    assert max(times["train"]) < min(times["validation"]) <= max(times["validation"]) < min(times["test"])



def test_equal_times_are_never_divided(write: Callable[..., dict[str, Any]]) -> None:
    rows = frame()
    rows["when"] = np.minimum(np.arange(400), 300)  # the last 100 rows at one time
    report = write(rows, split="time")
    assert report["examples"] == {"train": 240, "validation": 60, "test": 100}



@pytest.mark.parametrize("words", [[5, 3, 3, 2**63, 2**64 - 1, 0, 7], list(range(1000)), [4]])
def test_ranks_on_disk_equal_sorted_ones(tmp_path: Path, words: list[int]) -> None:
    spool = table_splits.Spool(tmp_path)
    spool.add(np.asarray(words, np.uint64))
    assert [int(spool.smallest(rank)) for rank in range(0, len(words), 7)] == sorted(words)[::7]



def test_repeats_on_disk_are_found(tmp_path: Path) -> None:
    words = np.random.default_rng(0).integers(0, 2_000_000, 2_100_000).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    spool = table_splits.Spool(tmp_path)
    for part in np.array_split(words, 7):
        spool.add(part)
    np.testing.assert_array_equal(
        np.sort(np.concatenate(list(spool.repeated()))), np.flatnonzero(pd.Series(words).duplicated())
    )



def test_a_planted_leak_is_noticed_and_none_is_there(write: Callable[..., dict[str, Any]]) -> None:
    """Other rows than the training split's may change: no bit of it, nor of what is fitted on it, does."""
    rows = frame()
    write(rows)
    Path(".dvc/tmp").mkdir(parents=True)
    found = division()
    outside = rows["id"].map(found) != "train"

    def fitted() -> tuple[bytes, str, bytes]:
        manifest = prepared.manifest()
        inputs = prepared_tables.inputs(
            manifest,
            {
                "_target_": f"{PACKAGE}.features.one_hot",
                "numbers": "standardise",
                "missing": "mean",
                "min_count": 2,
                "max_categories": 10,
                "reference": False,
                "precision": "float32",
            },
        )
        assert list(Path(".dvc/tmp").iterdir()) == []  # what is encoded has no name there: `kill -9` leaves nothing
        graph = inputs.preprocessing.SerializeToString()
        return inputs.array("train").tobytes(), manifest["digests"]["train"], graph

    before = fitted()
    changed = rows.copy()
    # Only the digits that decide the split of a changed row move, so look for rows that stay outside training.
    random = np.random.default_rng(1)
    for _ in range(20):
        changed.loc[outside, "weight in kg"] = random.uniform(40, 90, outside.sum()).round(1)
        write(changed)
        now = division()
        moved = [name for name in rows["id"][outside] if now[name] == "train"]
        outside &= ~rows["id"].isin(moved)
        changed.loc[rows["id"].isin(moved)] = rows.loc[rows["id"].isin(moved)]
    write(changed)
    assert (changed["weight in kg"] != rows["weight in kg"]).sum() > 20
    assert fitted() == before
    # The same check must fail where a training row changes: otherwise it would prove nothing.
    train = rows["id"].map(found) == "train"
    changed.loc[train, "weight in kg"] += 1.0
    write(changed)
    assert fitted() != before



def test_equal_rows_and_groups_in_two_splits_would_be_noticed(write: Callable[..., dict[str, Any]]) -> None:
    """The planted leak: split by row number, equal rows and groups lie in two splits; split by content, none."""
    rows = frame()
    rows = pd.concat([rows, rows.assign(id=rows["id"] + " again")], ignore_index=True)

    def shared(split: "pd.Series[str]", key: "pd.Series[Any]") -> int:
        return int((split.groupby(key).nunique() > 1).sum())

    planted = pd.Series(np.random.default_rng(0).choice(prepared.SPLITS, len(rows)))
    equal = rows["size"].astype(str) + rows["weight in kg"].astype(str)
    assert shared(planted, equal) > 100
    write(rows)
    assert shared(rows["id"].map(division()), equal) == 0
    assert shared(rows["id"].map(division()), rows["patient"]) > 0
    write(rows, split="group")
    assert shared(rows["id"].map(division()), rows["patient"]) == 0



@pytest.mark.parametrize(
    ("column", "told"),
    [
        (lambda rows: rows["y"], "has the target's value for each of its own"),
        (lambda rows: rows["y"].map({"no": "bad", "yes": "good"}), "has the target's value for each of its own"),
        (lambda rows: rows["y"].map({"no": 3.5, "yes": -1.0}), "separates the classes without an error"),
        (lambda rows: rows["size"], None),
    ],
)
def test_a_column_that_gives_away_the_class_is_told(
    write: Callable[..., dict[str, Any]], column: Callable[[pd.DataFrame], Any], told: str | None
) -> None:
    rows = frame()
    rows.insert(1, "extra", column(rows))
    warnings = [warning for warning in write(rows)["warnings"] if "'extra'" in warning]
    assert len(warnings) == (told is not None)
    assert all(told in warning and "data.drop" in warning for warning in warnings)



@pytest.mark.parametrize(
    ("column", "told"),
    [
        (lambda size: 2 * size + 1, "is as good as the target"),
        (lambda size: np.exp(3 * size), "is as good as the rank of the target"),
        (lambda size: np.where(size > 0, "big", "small"), None),
    ],
)
def test_a_column_that_gives_away_the_number_is_told(
    write: Callable[..., dict[str, Any]], column: Callable[[Any], Any], told: str | None
) -> None:
    rows = frame()
    rows.insert(1, "extra", column(rows["size"]))
    warnings = write(rows, target="size", problem="regression", drop=["y"])["warnings"]
    assert [told in warning for warning in warnings] == ([] if told is None else [True])



def test_identifiers_and_unequal_splits_are_told(write: Callable[..., dict[str, Any]]) -> None:
    rows = frame(3000)
    warnings = write(rows, id=None)["warnings"]
    assert [warning for warning in warnings if warning.startswith("column 'id' has 1,") and "data.drop" in warning]
    few = pd.DataFrame({"a": [0, 1] * 300, "b": ["x", "y", "z"] * 200, "y": ["no", "no", "yes"] * 200})
    with pytest.raises(errors.UserError, match=r"class '\w+' has no example in split"):
        write(few, id=None, time=None, group=None, schema="schema/few.yaml")



def test_constant_in_training_only_is_told(write: Callable[..., dict[str, Any]]) -> None:
    rows = frame()
    rows["when"] = np.arange(400)
    rows["new"] = np.where(rows["when"] < 300, "off", "on")
    assert [w for w in write(rows, split="time")["warnings"] if "'new' is constant in the training split" in w]

EMBEDDED = [("breast_cancer", 569, 30), ("diabetes", 442, 10)]


@pytest.mark.parametrize(
    ("name", "rows", "features"), [case for case in EMBEDDED if (ROOT / f"schema/{case[0]}.yaml").exists()]
)
def test_what_ships_with_scikit_learn_meets_its_schema(workspace: Path, name: str, rows: int, features: int) -> None:
    table = getattr(tables, name)(schema=str(ROOT / f"schema/{name}.yaml"), on_invalid="stop")
    report = table.write(SPLITS)
    assert (report["rows"], report["violations"], report["warnings"]) == (rows, 0, [])
    manifest = prepared.manifest()
    assert len(manifest["columns"]) == features
    assert schema_inference.infer(table) == schema.load(table.schema)
    assert table.path is None
    assert prepared_tables.names("train")[0].startswith(f"{name}:")



def test_the_worst_rows_are_shown(write: Callable[..., dict[str, Any]]) -> None:
    rows = frame()
    rows["colour ✨"] = rows["colour ✨"].replace("red", "a|b\n")
    write(rows)
    names = prepared_tables.names("test")
    lines = evaluation_tables.worst([3, 0], ["no | yes", "yes"], 17, Path())
    shown = pd.read_csv("worst.csv", keep_default_na=False)
    assert shown["row"].tolist() == [names[3], names[0]]
    assert shown["outcome"].tolist() == ["no | yes", "yes"]
    assert f"| {names[3]} | no \\| yes |" in lines
    assert "17" in lines[0]



def test_an_interruption_leaves_what_was_there(write: Callable[..., dict[str, Any]]) -> None:
    write(frame())
    before = content()
    with pytest.raises(KeyboardInterrupt):
        table_with_interruption().write(SPLITS)
    assert content() == before
    assert sorted(path.name for path in prepared.PREPARED.parent.iterdir()) == ["prepared", "raw"]



def table_with_interruption() -> Any:
    """A table whose reader is interrupted after its first rows."""
    table = source()
    (file,) = table.files

    def read(wanted: Any) -> Any:
        yield from file.read(wanted)
        raise KeyboardInterrupt

    return replace(table, files=[file._replace(read=read)])

# What a person can get wrong, and what is said: content of the file, changes of the configuration, the one line.
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
        r"column 'colour ✨': 'gr\\+xfcn' is no valid text",
    ),
    "latin-1 read as utf-8": (
        damaged(3, "colour ✨", "x").replace(" ✨".encode(), b"").replace("grün".encode(), b"gr\xfcn"),
        {"schema": "schema/plain.yaml"},
        "is no valid text",
    ),
    "utf-8 read as ascii": (GOOD.encode(), {"encoding": "ascii"}, r"is not ascii: correct data\.encoding"),
    "utf-16 read as utf-8": (GOOD.encode("utf-16"), {}, r"is not utf-8: correct data\.encoding"),
    "unknown encoding": (GOOD.encode(), {"encoding": "utf-99"}, r"data\.encoding: Python knows no 'utf-99'"),
    "a text among numbers": (damaged(7, "size", "tall"), {}, r"table\.csv: row 7: column 'size': 'tall' is no number"),
    "decimal comma": (damaged(7, "size", "1,5"), {}, "'1,5' is no number"),
    "thousands separator": (damaged(7, "weight in kg", "1,000"), {}, "'1,000' is no number"),
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
        r"'rad' is none of the 3 known categories \(did you mean 'red'\?\)",
    ),
    "unknown class": (damaged(7, "y", "maybe"), {}, "row 7: column 'y': 'maybe' is none of the 2 known"),
    "target missing": (damaged(7, "y", ""), {}, "row 7: column 'y': is empty"),
    "value missing": (damaged(7, "size", "NA"), {}, "row 7: column 'size': is empty"),
    "id missing": (damaged(7, "id", ""), {}, "row 7: column 'id': is empty"),
    "duplicate id": (damaged(7, "id", "0-2"), {}, "row 7: column 'id': '0-2' has occurred before"),
    "no time": (damaged(7, "when", "yesterday"), {}, "row 7: column 'when': 'yesterday' is no time"),
    "impossible date": (damaged(7, "when", "2025-02-30"), {}, "'2025-02-30' is no time"),
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
    "constant column": (table(size=0.5), {}, r"column 'size' holds one value only, 0\.5"),
    "one class only": (table(y="yes"), {}, "class 'no' has no example in split train"),
    "a class with one example": (
        damaged(7, "y", "maybe"),
        {"schema": "schema/other.yaml"},
        "class 'maybe' has no example in split",
    ),
    "one class in the schema": (table(y="yes"), {"schema": "schema/other.yaml"}, r"the target 'y' has 1 class\(es\)"),
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
        "column 'y' is of type category, with this configuration of data it must be number",
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
    "column without a name": (GOOD.replace("size", "", 1).encode(), {}, "a column is called ''"),
    "target mistyped": (GOOD.encode(), {"target": "Y"}, r"data\.target: data/raw/table\.csv has no column 'Y'"),
    "drop mistyped": (
        GOOD.encode(),
        {"drop": ["sizes"]},
        r"data\.drop: .* has no column 'sizes' \(did you mean 'size'\?\)",
    ),
    "target dropped": (GOOD.encode(), {"drop": ["y"]}, r"data\.drop: 'y' is the target already"),
    "no column left": (
        GOOD.encode(),
        {"drop": ["size", "weight in kg", "colour ✨"]},
        "no column is left to predict 'y' from",
    ),
    "split without its column": (GOOD.encode(), {"split": "time", "time": None}, r"data\.split: time needs data\.time"),
    "a category that is a number": (
        GOOD.encode(),
        {"categories": ["size"]},
        "column 'size' is of type number, .* must be category",
    ),
    "quote not closed": (GOOD.replace("0-5,", '"0-5,', 1).encode(), {}, r"row 6: has 1 cells, the header 7"),
    "no file": (b"", {"path": "data/raw/none.csv"}, r"data\.path: there is no 'data/raw/none\.csv'.*dvc add"),
    "no match": (b"", {"path": "data/raw/2026-*.csv"}, r"no file is called"),
    "empty folder": (b"", {"path": "schema"}, r"data\.path: the folder 'schema' holds no \*\.csv file"),
}


@pytest.fixture
def good(workspace: Path) -> dict[Path, bytes]:
    """The good table, prepared; what that has written."""
    RAW.mkdir(parents=True)
    (RAW / "table.csv").write_text(GOOD, encoding="utf-8")
    source().write(SPLITS)
    return content()



@pytest.mark.parametrize("case", BAD)
def test_bad_data_end_in_a_line_and_change_nothing(
    good: dict[Path, bytes], case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data, changes, told = BAD[case]
    (RAW / "table.csv").write_bytes(data)
    with pytest.raises(errors.UserError) as error:
        source(**changes).write(SPLITS)
    assert "\n" not in str(error.value)
    assert re.search(told, capsys.readouterr().err + str(error.value))
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
    "spaces around numbers": (GOOD.replace("0-5,", "0-5, ", 1).encode(), {}),
}


@pytest.mark.parametrize("case", FINE)
def test_other_spellings_of_the_same_table_give_the_same_bytes(good: dict[Path, bytes], case: str) -> None:
    data, changes = FINE[case]
    (RAW / "table.csv").write_bytes(data)
    source(**changes).write(SPLITS)
    assert content() == good



def test_a_quoted_line_end_belongs_to_its_cell(write: Callable[..., dict[str, Any]]) -> None:
    rows = frame()
    rows["colour ✨"] = rows["colour ✨"].replace("red", 'two\nlines, "quoted"')
    write(rows)
    assert rows["id"].isin(division()).all()
    assert 'two\nlines, "quoted"' in schema.load(Path("schema/table.yaml"))["colour ✨"].categories



def test_all_violations_are_told_at_once(good: dict[Path, bytes], capsys: pytest.CaptureFixture[str]) -> None:
    rows = pd.read_csv(io.StringIO(GOOD), dtype=str, keep_default_na=False)
    rows.loc[:49, "size"] = "tall"
    rows.loc[4, "colour ✨"] = "pink"
    rows.to_csv(RAW / "table.csv", index=False)
    with pytest.raises(errors.UserError, match=r"^51 violation\(s\) in 50 of 120 rows .*data\.on_invalid: drop or impute"):
        source().write(SPLITS)
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("prepare: ")]
    assert len(told) == 21
    assert told[4] == (
        "prepare: data/raw/table.csv: row 5: column 'colour ✨': 'pink' is none of the 3 known categories: "
        "mend the cell, or add it to schema/table.yaml if it is right"
    )
    assert told[-1].startswith("prepare: 31 more violations: reports/data.json")
    report = json.loads(Path("reports/data.json").read_text(encoding="utf-8"))
    assert report["violations_by_column"] == {"colour ✨": {"category": 1}, "size": {"type": 50}}
    assert len(report["violations_listed"]) == 51



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
    report = source(on_invalid=policy).write(SPLITS)
    assert report["violations"] == 6
    assert report["skipped"] == (5 if policy == "drop" else 3)
    assert report["imputed"] == (0 if policy == "drop" else 3)
    assert report["rows"] == 120
    found = division()
    assert sum(report["examples"].values()) == len(found) == 120 - report["skipped"]
    assert not {"0-3", "0-4", "0-6"} & found.keys()
    assert ({"0-1", "0-2"} <= found.keys()) == (policy == "impute")
    cells = {n: (s, c) for split in prepared.SPLITS for n, s, c in zip(
        prepared_tables.names(split), *(np.concatenate([f[k] for f in prepared_tables.feeds(split)]) for k in ("size", "colour ✨")),
        strict=True)}  # fmt: skip
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
        r"row 1: column 'size': '\[1\]' is no number",
    ),
    "times among numbers": (lambda rows: _parquet(rows.assign(size=pd.Timestamp("2025-01-01"))), "is no number"),
    "infinite": (lambda rows: _parquet(rows.assign(size=np.inf)), "too large or infinite"),
}


def _parquet(rows: pd.DataFrame) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(rows, preserve_index=False), file)
    return file.getvalue()



@pytest.mark.parametrize("case", PARQUET)
def test_bad_parquet_ends_in_a_line(good: dict[Path, bytes], case: str, capsys: pytest.CaptureFixture[str]) -> None:
    make, told = PARQUET[case]
    (RAW / "table.parquet").write_bytes(make(pd.read_csv(io.StringIO(GOOD))))
    with pytest.raises(errors.UserError) as error:
        source("data/raw/table.parquet").write(SPLITS)
    assert re.search(told, capsys.readouterr().err + str(error.value))
    assert content() == good



def test_links_that_lead_nowhere_end_in_a_line(good: dict[Path, bytes]) -> None:
    (RAW / "a.csv").symlink_to("b.csv")
    (RAW / "b.csv").symlink_to("a.csv")
    for path in ("data/raw", "data/raw/a.csv"):
        with pytest.raises(errors.UserError, match=r"data/raw/a\.csv: cannot be read: Too many levels of symbolic links"):
            source(path).write(SPLITS)
    (RAW / "a.csv").unlink()
    (RAW / "b.csv").unlink()
    (RAW / "a.csv").mkdir()
    with pytest.raises(errors.UserError, match=r"a\.csv: cannot be read: Is a directory"):
        source("data/raw").write(SPLITS)
    assert content() == good



