"""Prepared images of this project: properties on which training relies."""

import csv
import hashlib
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from ..harness import contracts, prepared
from ..harness.core import config
from ..harness.preparation import splits
from ..harness.prepared import images as prepared_images
from . import ROOT

FOLDER = ROOT / "data/prepared"
pytestmark = pytest.mark.skipif(
    not (FOLDER / "manifest.json").exists(), reason="no data/prepared yet: `dvc repro prepare` or `dvc pull` makes it"
)


@pytest.fixture(scope="module")
def manifest() -> dict[str, Any]:
    """Content of manifest.json."""
    content: dict[str, Any] = prepared.manifest(FOLDER)
    return content


@pytest.fixture(scope="module")
def index() -> dict[str, list[dict[str, str]]]:
    """Name, label and digest of every row of every split."""
    rows_by_split = {}
    for split in prepared.SPLITS:
        with (FOLDER / split / "index.csv").open(newline="", encoding="utf-8") as rows:
            rows_by_split[split] = list(csv.DictReader(rows))
    return rows_by_split


def parts(images: Any) -> Iterator[Any]:
    """First row and images of each batch, which must fit in memory."""
    for start in range(0, len(images), 1024):
        yield start, images[start : start + 1024]


@pytest.mark.parametrize("split", prepared.SPLITS)
def test_arrays_are_what_the_manifest_says(
    split: str, manifest: dict[str, Any], index: dict[str, list[dict[str, str]]]
) -> None:
    images, labels = prepared_images.load(split, FOLDER), prepared.targets(split, FOLDER)
    assert images.dtype == np.uint8
    assert labels.dtype == np.int64
    assert images.shape == (len(labels), *manifest["shape"])
    assert np.bincount(labels, minlength=len(manifest["classes"])).tolist() == manifest["counts"][split]
    assert [row["label"] for row in index[split]] == [manifest["classes"][label] for label in labels]
    digest = hashlib.sha256()
    for start, part in parts(images):
        for image, label in zip(part, labels[start:], strict=False):
            digest.update(image.tobytes() + int(label).to_bytes(4))
    assert digest.hexdigest() == manifest["digests"][split]


@pytest.mark.parametrize("split", prepared.SPLITS)
def test_every_class_is_in_every_split(split: str, manifest: dict[str, Any]) -> None:
    assert len(manifest["classes"]) == len(set(manifest["classes"])) > 1
    assert [name for name, n in zip(manifest["classes"], manifest["counts"][split], strict=True) if n == 0] == []


@pytest.mark.parametrize("split", prepared.SPLITS)
def test_pixels_use_their_range(split: str) -> None:
    images = prepared_images.load(split, FOLDER)
    lowest, highest = np.array([[part.min(), part.max()] for _, part in parts(images)]).T
    # Pixel values from 0 to 1, converted to integers, would be nearly black.
    assert int(highest.max()) - int(lowest.min()) >= 64, "nearly no contrast: are the pixel values 0 to 255?"


def test_no_picture_is_in_two_splits(index: dict[str, list[dict[str, str]]]) -> None:
    digests = {split: {row["digest"] for row in rows} for split, rows in index.items()}
    names = {split: {row["name"] for row in rows} for split, rows in index.items()}
    for keys in (digests, names):
        assert len(set.union(*keys.values())) == sum(map(len, keys.values()))


def test_no_picture_has_two_labels(index: dict[str, list[dict[str, str]]]) -> None:
    labels: dict[str, set[str]] = {}
    for rows in index.values():
        for row in rows:
            labels.setdefault(row["digest"], set()).add(row["label"])
    assert [digest for digest, names in labels.items() if len(names) > 1] == []


def test_the_split_is_the_configured_one(
    index: dict[str, list[dict[str, str]]], manifest: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    raw = config.read()
    settings = raw["prepare"]
    assert manifest["shape"] == [*raw["data"]["image_size"], raw["data"]["channels"]]
    moved = {
        row["digest"]
        for split, rows in index.items()
        for row in rows
        if splits.assign(row["digest"], contracts.Splits(**settings)) != split
    }
    stratified = raw["data"].get("split", "random") == "stratified"
    assert len(moved) <= (2 * len(manifest["classes"]) if stratified else 0)


def test_the_report_counts_the_same(manifest: dict[str, Any]) -> None:
    report = json.loads((ROOT / "reports/data.json").read_text(encoding="utf-8"))
    assert report["examples"] == manifest["examples"]
    assert report["classes"] == {
        split: dict(zip(manifest["classes"], counts, strict=True)) for split, counts in manifest["counts"].items()
    }
