"""Tables: how rows divide, what is written, and that nothing of one split reaches another."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from my_experiment.data import tables as data_tables
from my_experiment.harness import preparation, prepared
from my_experiment.harness.contracts import Splits
from my_experiment.harness.core import errors, paths
from my_experiment.harness.preparation import schema, schema_inference, table_files
from my_experiment.harness.preparation import tables as preparation_tables
from my_experiment.harness.preparation.table import Filter
from my_experiment.harness.prepared import tables as prepared_tables
from pyarrow import compute
from support import PACKAGE, ROOT, elsewhere
from tables_made import RAW, SPLITS, content, division, frame, prepare, source, unchecked

pytestmark = pytest.mark.usefixtures("workspace")


def test_what_is_written_is_read() -> None:
    rows = frame()
    report = prepare(rows)
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


def test_the_same_rows_give_the_same_bytes_from_csv_and_parquet() -> None:
    rows = frame()
    prepare(rows)
    first = content()
    prepare(rows)
    assert content() == first
    rows.to_parquet(RAW / "table.parquet")
    preparation.write(source("data/raw/table.parquet"), SPLITS)
    assert content() == first
    rows[rows["size"] > -100].set_index(rows.index * 2).to_parquet(RAW / "table.parquet")  # pandas writes the index
    preparation.write(source("data/raw/table.parquet"), SPLITS)
    assert content() == first


@pytest.mark.parametrize("used", [False, True])
def test_the_index_of_a_data_frame_is_no_feature(used: bool, capsys: pytest.CaptureFixture[str]) -> None:
    rows = frame()
    RAW.mkdir(parents=True)
    rows.set_index("patient").to_parquet(RAW / "table.parquet")
    columns = schema_inference.infer(unchecked("data/raw/table.parquet", group="patient" if used else None))
    told = "schema: column 'patient' is the index of a pandas DataFrame, so no feature; if it should be one, write"
    assert ("patient" in columns, told in capsys.readouterr().err) == (used, not used)


def test_many_files_are_one_table() -> None:
    rows = frame()
    prepare(rows)
    whole = {split: [feed["size"] for feed in prepared_tables.feeds(split, 10_000)] for split in prepared.SPLITS}
    (RAW / "part s").mkdir()
    rows[:150].to_csv(RAW / "part s/a 1.csv", index=False)
    rows[150:][rows.columns[::-1]].to_csv(RAW / "part s/b ✨.csv", index=False)  # columns in another order
    for path in ("data/raw/part s", "data/raw/part s/*.csv"):
        table = source(path)
        preparation.write(table, SPLITS)
        assert table.path == Path("data/raw/part s")
        for split in prepared.SPLITS:
            np.testing.assert_array_equal([feed["size"] for feed in prepared_tables.feeds(split, 10_000)], whole[split])
    preparation.write(source("data/raw/part s", id=None, drop=["id"]), SPLITS)
    assert {"a 1.csv:1", "a 1.csv:150", "b ✨.csv:1", "b ✨.csv:250"} <= division().keys()


@pytest.mark.parametrize(
    ("split", "on_invalid"),
    [("random", "impute"), ("stratified", "drop"), ("group", "drop"), ("time", "impute"), ("random", "stop")],
)
def test_another_executor_gives_the_same_bytes(monkeypatch: pytest.MonkeyPatch, split: str, on_invalid: str) -> None:
    """Cells of every kind are bad, ids occur twice, a class is rare: what is listed, counted and moved is the same."""
    monkeypatch.setattr(table_files, "BLOCK", 32_768)  # bytes: several parts
    rows = frame(3000)
    if split == "stratified":
        rows.loc[:2, "y"] = "maybe"
    prepare(rows, split="stratified")
    for column, cell, share in (("size", "tall", 0.2), ("colour ✨", "pink", 0.2), ("id", "0-7", 0.01)):
        bad = np.random.default_rng(len(column)).random(len(rows)) < share
        rows[column] = rows[column].astype(object).mask(bad & (rows.index > 2), cell)
    found = []
    for there in (False, True):
        if there:
            monkeypatch.setattr(preparation_tables, "executor", lambda: elsewhere)
        try:
            report = prepare(rows, split=split, on_invalid=on_invalid)
        except errors.UserError as error:
            report = {**json.loads(paths.DATA_REPORT.read_text(encoding="utf-8")), "error": str(error)}
        found.append((report, content()))
    assert found[0] == found[1]
    assert found[0][0]["violations"] > len(found[0][0]["violations_listed"]) == 1000
    assert ("error" in found[0][0]) == (on_invalid == "stop")


def test_regression_keeps_the_number() -> None:
    rows = frame()
    prepare(rows, target="size", problem="regression")
    for split in prepared.SPLITS:
        targets = prepared.targets(split)
        assert targets.dtype == np.float64
        np.testing.assert_array_equal(targets, rows.set_index("id").loc[list(prepared_tables.names(split)), "size"])


@pytest.mark.parametrize("seed", range(3))
def test_the_fractions_are_met(seed: int) -> None:
    report = prepare(frame(5000), splits=Splits(seed, 0.1, 0.3))
    for split, fraction in {"train": 0.6, "validation": 0.1, "test": 0.3}.items():
        assert abs(report["examples"][split] / 5000 - fraction) < 4 * (fraction * (1 - fraction) / 5000) ** 0.5


def test_more_rows_move_none() -> None:
    rows, others = frame(), frame(300, seed=1)
    prepare(rows)
    before = division()
    prepare(pd.concat([others[:100], rows.sample(frac=1, random_state=0), others[100:]]))
    after = division()
    assert len(after) == 700
    assert before.items() <= after.items()
    prepare(rows, splits=SPLITS._replace(seed=1))
    assert division() != before


def test_equal_rows_are_in_one_split_and_counted() -> None:
    rows = frame()
    report = prepare(pd.concat([rows, rows[:200].assign(id=rows["id"][:200] + " again")]))
    assert report["duplicates"] == 200
    split_of = division()
    assert all(split_of[name] == split_of[f"{name} again"] for name in rows["id"][:200])


def rare(positives: int, rows: int = 3000) -> pd.DataFrame:
    """Rows of which few are `yes`, without missing texts."""
    few = frame(rows)
    few["y"] = np.where(np.arange(rows) % (rows // positives) == 7, "yes", "no")
    return few


def test_three_positives_of_3000_are_in_every_split() -> None:
    rows = rare(3)
    with pytest.raises(errors.UserError, match=r"class 'yes' has no example in split \w+: set data\.split: stratified"):
        prepare(rows)
    report = prepare(rows, split="stratified")
    assert [report["classes"][split]["yes"] for split in prepared.SPLITS] == [1, 1, 1]
    before = division()
    prepare(pd.concat([rows, frame(2000, seed=1).assign(y="no")]), split="stratified")
    after = division()
    assert before.items() <= after.items()
    prepare(pd.concat([rows, frame(300, seed=1).assign(y="yes")]), split="stratified")  # is rare no more
    after = division()
    moved = {name for name, split in before.items() if after[name] != split}
    assert moved <= set(rows["id"][rows["y"] == "yes"])
    assert len(moved) <= 2


def test_a_stratified_split_is_the_random_one_if_no_class_is_rare() -> None:
    prepare(frame())
    before = content()
    prepare(frame(), split="stratified")
    assert content() == before


def test_a_stratified_split_keeps_equal_rows_together() -> None:
    rows = rare(3, 300)
    rows = pd.concat([rows, rows.assign(id=rows["id"] + " again")])
    report = prepare(rows, split="stratified")
    assert [report["classes"][split]["yes"] for split in prepared.SPLITS] == [2, 2, 2]
    split_of = division()
    assert all(split_of[name] == split_of[f"{name} again"] for name in rows["id"][:300])


@pytest.mark.parametrize("positives", [1, 2])
def test_a_class_that_is_too_small_is_refused(positives: int) -> None:
    with pytest.raises(errors.UserError, match="a class needs 3 different examples, one for each split: add some"):
        prepare(rare(positives, 300), split="stratified")


def test_numbers_are_not_stratified() -> None:
    prepare(frame())
    with pytest.raises(errors.UserError, match=r"data\.split: stratified needs classes"):
        unchecked(split="stratified", target="size", problem="regression")


def test_a_group_is_in_one_split() -> None:
    rows = frame()
    prepare(rows, split="group")
    by_patient = rows.assign(split=rows["id"].map(division())).groupby("patient")["split"]
    assert by_patient.nunique().max() == 1
    before = by_patient.first()
    prepare(pd.concat([rows, frame(300, seed=1)]), split="group")
    after = division()
    assert all(after[name] == before[patient] for name, patient in zip(rows["id"], rows["patient"], strict=True))


@pytest.mark.parametrize("kind", ["day", "number", "zone"])
def test_time_goes_from_training_to_test(kind: str) -> None:
    rows = frame()
    rows["when"] = np.random.default_rng(3).permutation(np.repeat(np.arange(-50, 50), 4))  # four rows at each time
    numbers = rows["when"].copy()
    if kind != "number":
        rows["when"] = (pd.Timestamp("2025-01-01") + pd.to_timedelta(rows["when"], "D")).dt.strftime("%Y-%m-%d")
    if kind == "zone":
        rows["when"] += "T12:00:00+02:00"
    report = prepare(rows, split="time")
    assert report["examples"] == {"train": 240, "validation": 80, "test": 80}
    when = dict(zip(rows["id"], numbers, strict=True))
    times = {split: [when[name] for name in prepared_tables.names(split)] for split in prepared.SPLITS}
    assert max(times["train"]) < min(times["validation"]) <= max(times["validation"]) < min(times["test"])


def test_equal_times_are_never_divided() -> None:
    rows = frame()
    rows["when"] = np.minimum(np.arange(400), 300)  # the last 100 rows at one time
    report = prepare(rows, split="time")
    assert report["examples"] == {"train": 240, "validation": 60, "test": 100}


def test_a_planted_leak_is_noticed_and_none_is_there() -> None:
    """Other rows than the training split's may change: no bit of it, nor of what is fitted on it, does."""
    rows = frame()
    prepare(rows)
    Path(".dvc/tmp").mkdir(parents=True)
    split_of = division()
    outside = rows["id"].map(split_of) != "train"

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
        assert inputs.preprocessing is not None
        return (
            inputs.array("train").tobytes(),
            manifest["digests"]["train"],
            inputs.preprocessing.SerializeToString(),
        )

    before = fitted()
    changed = rows.copy()
    # Only the digits that decide the split of a changed row move, so look for rows that stay outside training.
    random = np.random.default_rng(1)
    for _ in range(20):
        changed.loc[outside, "weight in kg"] = random.uniform(40, 90, outside.sum()).round(1)
        prepare(changed)
        now = division()
        moved = [name for name in rows["id"][outside] if now[name] == "train"]
        outside &= ~rows["id"].isin(moved)
        changed.loc[rows["id"].isin(moved)] = rows.loc[rows["id"].isin(moved)]
    prepare(changed)
    assert (changed["weight in kg"] != rows["weight in kg"]).sum() > 20
    assert fitted() == before
    # The same check must fail where a training row changes: otherwise it would prove nothing.
    train = rows["id"].map(split_of) == "train"
    changed.loc[train, "weight in kg"] += 1.0
    prepare(changed)
    assert fitted() != before


def test_equal_rows_and_groups_in_two_splits_would_be_noticed() -> None:
    """The planted leak: split by row number, equal rows and groups lie in two splits; split by content, none."""
    rows = frame()
    rows = pd.concat([rows, rows.assign(id=rows["id"] + " again")], ignore_index=True)

    def shared(split: "pd.Series[str]", key: "pd.Series[Any]") -> int:
        return int((split.groupby(key).nunique() > 1).sum())

    planted = pd.Series(np.random.default_rng(0).choice(prepared.SPLITS, len(rows)))
    equal = rows["size"].astype(str) + rows["weight in kg"].astype(str)
    assert shared(planted, equal) > 100
    prepare(rows)
    assert shared(rows["id"].map(division()), equal) == 0
    assert shared(rows["id"].map(division()), rows["patient"]) > 0
    prepare(rows, split="group")
    assert shared(rows["id"].map(division()), rows["patient"]) == 0


EMBEDDED = [("breast_cancer", 569, 30), ("diabetes", 442, 10)]


@pytest.mark.parametrize(
    ("name", "rows", "features"), [case for case in EMBEDDED if (ROOT / f"schema/{case[0]}.yaml").exists()]
)
def test_what_ships_with_scikit_learn_meets_its_schema(workspace: Path, name: str, rows: int, features: int) -> None:
    table = getattr(data_tables, name)(schema=str(ROOT / f"schema/{name}.yaml"), on_invalid="stop")
    report = preparation.write(table, SPLITS)
    assert (report["rows"], report["violations"], report["warnings"]) == (rows, 0, [])
    manifest = prepared.manifest()
    assert len(manifest["columns"]) == features
    assert schema_inference.infer(table) == schema.load(table.schema)
    assert table.path is None
    assert prepared_tables.names("train")[0].startswith(f"{name}:")


def test_an_interruption_leaves_what_was_there() -> None:
    prepare(frame())
    before = content()
    with pytest.raises(KeyboardInterrupt):
        preparation.write(table_with_interruption(), SPLITS)
    assert content() == before
    assert sorted(path.name for path in prepared.PREPARED.parent.iterdir()) == ["prepared", "raw"]


def table_with_interruption() -> Any:
    """A table whose reader is interrupted after its first rows."""
    table = source()
    (file,) = table.files

    def read(wanted: Any, notation: Any) -> Any:
        yield from file.read(wanted, notation)
        raise KeyboardInterrupt

    return replace(table, files=[file._replace(read=read)])


def german(rows: pa.RecordBatch) -> Any:
    """Keeps rows by a column that is no feature."""
    return compute.equal(rows["country"], "DE")


@pytest.mark.parametrize("bad", [None, "tall"], ids=["parsed straight to its types", "read as text"])
@pytest.mark.parametrize("split", ["random", "group", "time"])
def test_a_filter_is_one_place(split: str, bad: str | None) -> None:
    """Filtered rows are prepared as if the others had never been in the file: schema, ids, times, splits."""
    rows = frame(600).astype({"size": object})
    rows["country"] = np.where(np.arange(600) % 3 > 0, "DE", "FR")
    rows.loc[rows["country"] == "FR", "when"] = "2030-01-01"  # would move the times at which the splits begin
    rows.loc[rows["country"] == "FR", "id"] = "0-1"  # would be duplicates
    rows.loc[3, "size"] = bad or rows.loc[3, "size"]
    kept = rows[rows["country"] == "DE"].drop(columns="country")
    report = prepare(kept, split=split, on_invalid="drop")
    assert report["violations"] == 0
    expected, columns = content(), Path("schema/table.yaml").read_bytes()
    rows.to_csv(RAW / "table.csv", index=False)
    table = replace(
        unchecked(split=split, drop=["country"], on_invalid="drop", schema="schema/filtered.yaml"),
        keep=Filter({"country": "category"}, german),
    )
    schema_inference.write(schema_inference.infer(table), table.schema)
    assert table.schema.read_bytes() == columns
    assert preparation.write(table, SPLITS) == report
    assert content() == expected


def test_a_filter_may_read_a_feature_as_another_type() -> None:
    rows = frame()
    prepare(rows[rows["size"] > 0], drop=["y"], target="weight in kg", problem="regression", on_invalid="drop")
    expected = content()
    rows.to_csv(RAW / "table.csv", index=False)
    for type, keep in (
        ("number", lambda rows: compute.greater(rows["size"], 0)),
        ("text", lambda rows: compute.invert(compute.starts_with(rows["size"], "-"))),
    ):
        table = source(drop=["y"], target="weight in kg", problem="regression", on_invalid="drop")
        preparation.write(replace(table, keep=Filter({"size": type}, keep)), SPLITS)
        assert content() == expected


def test_a_filter_that_fits_no_row_or_no_column_is_an_error() -> None:
    prepare(frame())
    for columns, keep, message in (
        ({"size": "number"}, lambda rows: compute.greater(rows["size"], 1e6), "has no row that the filter keeps"),
        ({"sizes": "number"}, german, r"the filter of the source: .* has no column 'sizes' \(did you mean 'size'\?\)"),
    ):
        table = replace(source(), keep=Filter(columns, keep))
        with pytest.raises(errors.UserError, match=message):
            preparation.write(table, SPLITS)
        with pytest.raises(errors.UserError, match=message):
            schema_inference.infer(table)
