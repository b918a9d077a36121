"""Prepared table of this project: properties on which training relies."""

import hashlib
import json
from collections.abc import Iterator
from itertools import islice, pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from numpy.typing import NDArray

from ..harness import contracts, prepared
from ..harness.core import config
from ..harness.preparation import schema, table_splits
from ..harness.preparation.table_cells import convert
from ..harness.prepared import tables as prepared_tables
from . import ROOT

FOLDER = ROOT / "data/prepared"
COMPARED = 1_000_000  # rows of the source whose group or time is compared
pytestmark = pytest.mark.skipif(
    not (FOLDER / "manifest.json").exists(), reason="no data/prepared yet: `dvc repro prepare` or `dvc pull` makes it"
)


@pytest.fixture(scope="module")
def manifest() -> dict[str, Any]:
    """Content of manifest.json."""
    content: dict[str, Any] = prepared.manifest(FOLDER)
    return content


@pytest.fixture
def params(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The configuration, with the project as working directory."""
    monkeypatch.chdir(ROOT)
    content: dict[str, Any] = config.read()
    return content


def parts(split: str, manifest: dict[str, Any]) -> Iterator[tuple[Any, NDArray[Any]]]:
    """Batches of feature columns and targets, small enough for memory."""
    targets, start = prepared.targets(split, FOLDER), 0
    for batch in prepared_tables.batches(split, 65_536, FOLDER):
        yield batch.select([column["name"] for column in manifest["columns"]]), targets[start : start + len(batch)]
        start += len(batch)


@pytest.mark.parametrize("split", prepared.SPLITS)
def test_arrays_are_what_the_manifest_says(split: str, manifest: dict[str, Any]) -> None:
    targets, names = prepared.targets(split, FOLDER), prepared_tables.names(split, FOLDER)
    assert targets.dtype == (np.int64 if manifest["target"] == "classification" else np.float64)
    assert len(targets) == len(names) == manifest["examples"][split] > 0
    assert manifest["target_name"] not in [column["name"] for column in manifest["columns"]]
    types = {"number": pa.float64(), "date": pa.float64(), "category": pa.string()}
    for rows, _ in parts(split, manifest):
        assert rows.schema.types == [types[column["type"]] for column in manifest["columns"]]
    digest = hashlib.sha256()
    for name in ("rows.arrow", "targets.npy"):
        with (FOLDER / split / name).open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    assert digest.hexdigest() == manifest["digests"][split]


@pytest.mark.parametrize("split", prepared.SPLITS)
def test_every_target_can_be_learned(split: str, manifest: dict[str, Any]) -> None:
    targets = prepared.targets(split, FOLDER)
    if manifest["target"] == "classification":
        classes = manifest["classes"]
        assert len(classes) == len(set(classes)) > 1
        assert np.bincount(targets, minlength=len(classes)).tolist() == manifest["counts"][split]
        assert [name for name, count in zip(classes, manifest["counts"][split], strict=True) if not count] == []
    else:
        assert np.isfinite(targets).all()
        assert split != "train" or targets.min() < targets.max()


@pytest.mark.parametrize("split", prepared.SPLITS)
def test_the_prepared_rows_satisfy_the_schema(split: str, manifest: dict[str, Any], params: dict[str, Any]) -> None:
    data = params["data"]
    columns = schema.load(ROOT / data["schema"])
    nullable = {name for name, column in columns.items() if column.nulls > 0 or data["on_invalid"] == "impute"}
    for rows, targets in parts(split, manifest):
        for name, values in zip(rows.schema.names, rows.columns, strict=True):
            column = columns[name]
            assert not values.null_count or name in nullable, name
            if column.type == "number" and len(values) > values.null_count:
                extremes = pc.min_max(values).as_py()
                assert np.isfinite([extremes["min"], extremes["max"]]).all(), name
                assert column.min is None or column.min <= extremes["min"], name
                assert column.max is None or extremes["max"] <= column.max, name
            elif column.categories is not None:
                assert {*values.unique().drop_null().to_pylist()} <= {*column.categories}, name
        target = columns[manifest["target_name"]]
        if manifest["target"] == "regression":
            assert target.min is None or target.min <= targets.min()
            assert target.max is None or targets.max() <= target.max
    if manifest["target"] == "classification":
        assert manifest["classes"] == columns[manifest["target_name"]].categories


def roles(params: dict[str, Any], column: str) -> dict[str, Any]:
    """Row name -> value of a source column that is not a feature."""
    data, source = params["data"], config.instantiate(params["data"])
    columns = schema.load(ROOT / data["schema"])
    wanted = {name: columns[name].type for name in (column, data["id"]) if name is not None}

    def rows() -> Iterator[tuple[str, Any]]:
        for part in source.chunks(wanted):
            names = (
                [f"{part.file.rpartition('/')[2]}:{row}" for row in part.rows.tolist()]
                if data["id"] is None
                else convert(part.values[data["id"]], "text", source.notation(), data["id"])[0].to_pylist()
            )
            yield from zip(
                names,
                convert(part.values[column], wanted[column], source.notation(), column)[0].to_pylist(),
                strict=True,
            )

    return dict(islice(rows(), COMPARED))


def contents(split: str, manifest: dict[str, Any]) -> NDArray[np.uint64]:
    """Hash of every row, target included, uint64 [N]."""
    hashes = []
    for rows, targets in parts(split, manifest):
        values = pa.array([manifest["classes"][target] for target in targets] if "classes" in manifest else targets)
        hashes.append(table_splits.hash_rows(rows.append_column(manifest["target_name"], values)))
    return np.concatenate(hashes)


def test_the_split_is_the_configured_one(manifest: dict[str, Any], params: dict[str, Any]) -> None:
    """Splits share no row or group, or follow each other in time."""
    division = params["data"].get("split", "random")
    if division in ("random", "stratified"):
        rows = [contents(split, manifest) for split in prepared.SPLITS]
        assert len(np.unique(np.concatenate(rows))) == sum(len(np.unique(hashes)) for hashes in rows)
        moved = sum(
            len(np.unique(hashes[table_splits.assign(hashes, contracts.Splits(**params["prepare"])) != number]))
            for number, hashes in enumerate(rows)
        )
        assert moved <= (2 * len(manifest["classes"]) if division == "stratified" else 0)
        return
    known = roles(params, params["data"][division])
    names = [prepared_tables.names(split, FOLDER) for split in prepared.SPLITS]
    values = [{known[name] for name in split if name in known} for split in names]
    assert any(values)
    if division == "group":
        assert len(set.union(*values)) == sum(map(len, values))
    else:
        present = [times for times in values if times]
        assert all(max(earlier) < min(later) for earlier, later in pairwise(present))


def test_the_report_counts_the_same(manifest: dict[str, Any]) -> None:
    report = json.loads((ROOT / "reports/data.json").read_text(encoding="utf-8"))
    assert report["examples"] == manifest["examples"]
    assert report["rows"] == report["skipped"] + sum(manifest["examples"].values())
    if manifest["target"] == "classification":
        assert report["classes"] == {
            split: dict(zip(manifest["classes"], counts, strict=True)) for split, counts in manifest["counts"].items()
        }
