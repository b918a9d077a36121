"""Counting: a sample of the rows of answers, in the bins of the reference, as metrics."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from my_experiment.harness import drift
from my_experiment.harness.capture.answered import Answered, new_id
from my_experiment.harness.drift import reference
from my_experiment.harness.drift.reference import Reference
from my_experiment.harness.serving import counting
from my_experiment.harness.serving.counting import Counting
from my_experiment.harness.serving.feedback import Receiver
from my_experiment.harness.serving.metrics import FEEDBACK, REFERENCE_ROWS, ROWS
from my_experiment.harness.serving.model import ModelInfo
from my_experiment.harness.serving.observer import Observer
from my_experiment.harness.serving.rows import Rows
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from support import HARNESS

INPUT = "images" if (HARNESS / "inputs/images.py").exists() else "tables"
TARGET = "classification" if (HARNESS / "targets/classification.py").exists() else "regression"
DESCRIPTION: dict[str, Any] = {
    "input": INPUT,
    "target": TARGET,
    "sha256": "ab" * 32,
    "classes": ["a", "b"],
    "columns": [{"name": "x", "type": "number"}],
    "calibration": {"half_widths": {"0.9": 1.0}},
}


def answered(rng: np.random.Generator, rows: int) -> Answered:
    feeds = {"image": rng.uniform(0, 255, (rows, 4, 4, 1))} if INPUT == "images" else {"x": rng.normal(size=rows)}
    share = rng.random((rows, 1))
    output = (np.hstack([share, 1 - share]) if TARGET == "classification" else share).astype(np.float32)
    return Answered(time.time(), new_id(), "application/json", b"{}", feeds, output, b"{}")


@pytest.fixture(scope="module")
def known() -> Reference:
    rng = np.random.default_rng(0)
    all_, columns = answered(rng, 500), drift.subject(DESCRIPTION).columns(DESCRIPTION, [])
    true = np.zeros(500)
    return Reference(reference.build(DESCRIPTION, [all_.feeds], (all_.output, true), columns), DESCRIPTION)


def counts(rows: Rows, kind: str) -> dict[tuple[str, str], float]:
    """Column and bin -> number of rows, of a kind of variables."""
    (family,) = text_string_to_metric_families(rows.text())
    assert f"{family.name}_total" == ROWS and family.type == "counter"
    samples = [sample for sample in family.samples if sample.labels["kind"] == kind]
    return {(sample.labels["column"], sample.labels["bin"]): sample.value for sample in samples}


def total(rows: Rows, kind: str) -> float:
    return sum(counts(rows, kind).values())


def test_all_bins_are_shown_before_a_row_is_counted(known: Reference) -> None:
    rows = Rows("first", known)
    (answer,) = (each for each in known.variables if each.kind == "answer")
    assert counts(rows, "answer") == {("answer", label): 0 for label in answer.labels}
    assert counts(Rows("old", None), "outcome") == {("outcome", "right"): 0, ("outcome", "wrong"): 0}


def test_the_rows_of_all_workers_are_added_up(
    known: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    others = Rows("another version", known)
    others.add_outcomes(100, 100)
    for worker in (1, 2, 3):  # the first of them has ended, and its file is left
        monkeypatch.setattr("os.getpid", lambda worker=worker: worker)
        rows = Rows("shared", known)
        rows.add_outcomes(worker, 0)
        rows.add_outcomes(worker, 1)
    assert counts(rows, "outcome") == {("outcome", "right"): 12, ("outcome", "wrong"): 3}
    assert total(rows, "answer") == 0


def test_the_reference_and_the_origin_are_lines_of_their_own(
    known: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "ROOTS", (tmp_path, tmp_path))
    info = ModelInfo.model_validate(DESCRIPTION)

    def samples(reference: Reference | None) -> dict[str, list[Sample]]:
        text = counting.facts(info, reference)
        return {family.name: family.samples for family in text_string_to_metric_families(text)}

    assert [sample.labels["git_commit"] for sample in samples(None)["model_info"]] == [""]
    (tmp_path / "bento.yaml").write_text("labels: {git_commit: abc, training_key: def, other: x}")
    found = samples(known)
    (origin,) = found["model_info"]
    assert origin.value == 1 and origin.labels == {
        **{"git_commit": "abc", "training_key": "def", "mlflow_run": ""},
        "model_version": info.version,
    }
    for kind in ("answer", "outcome"):
        assert sum(sample.value for sample in found[REFERENCE_ROWS] if sample.labels["kind"] == kind) == 500
    right = {sample.labels["bin"]: sample.value for sample in found["model_reference_right_rows"]}
    (confidence,) = (each for each in known.variables if each.kind == "confidence")
    assert confidence.right is not None and [*right.values()] == confidence.right.tolist()
    assert [*right] == [*confidence.labels]


@pytest.mark.parametrize(
    ("requests", "least", "most"), [([1] * 30, 30, 30), ([256], 16, 16), ([1000] * 3, 48, 48), ([1] * 1500, 55, 64)]
)
def test_a_sample_of_the_rows_is_counted(known: Reference, requests: list[int], least: int, most: int) -> None:
    rng, counted = np.random.default_rng(1), Rows("sample", known)
    counter = Counting(known, counted)
    counter.take([answered(rng, rows) for rows in requests], 0)
    assert total(counted, "answer") == 0
    for _ in range(counting.TOGETHER - 1):
        counter.take([], 0)
    assert least <= total(counted, "answer") <= most
    assert total(counted, "confidence") == total(counted, "answer")
    columns = len([each for each in known.variables if each.kind == "input"])
    assert total(counted, "input") == columns * total(counted, "answer")


def test_a_busy_second_makes_the_next_one_keep_fewer_answers(known: Reference) -> None:
    rng = np.random.default_rng(5)
    counter = Counting(known, Rows("busy", known))
    answers = [answered(rng, rows) for rows in (1, 300) * 50]
    kept = [each for each in answers if counter.wants(each)]
    assert kept == answers  # nobody knows yet how many there are
    counter.take(kept, 0)
    for _ in range(2):
        kept = [each for each in answers if counter.wants(each)]
        assert len(kept) in (7, 8) and {each.rows for each in kept} == {1, 300}  # every thirteenth of 100
        counter.take(kept, 0)
    counter.take([], 0)
    assert all(counter.wants(each) for each in answers)


def test_identical_rows_count_once_over_the_batches(known: Reference) -> None:
    rng, counted = np.random.default_rng(2), Rows("loop", known)
    counter = Counting(known, counted)
    same = answered(rng, 1)
    for _ in range(5):
        counter.take([same] * 20, 0)
    counter.take([], 7)
    counter.close()
    assert total(counted, "answer") == 1


def outcomes(version: str) -> dict[str, float]:
    """Outcome -> number of answers."""
    samples = [sample for metric in REGISTRY.collect() for sample in metric.samples if sample.name == FEEDBACK]
    return {each.labels["outcome"]: each.value for each in samples if each.labels["model_version"] == version}


def test_feedback_is_counted_in_the_bins_of_outcomes(known: Reference) -> None:
    sha256 = "feedback".ljust(64, "0")
    info, rng = ModelInfo.model_validate(DESCRIPTION | {"sha256": sha256}), np.random.default_rng(4)
    counted = Rows(info.version, known)
    receiver = Receiver(info, 256, None, counted)
    assert outcomes(info.version) == dict.fromkeys(("right", "wrong", "unmatched", "repeated"), 0.0)
    observer = Observer([Counting(known, counted)])
    asked = answered(rng, 3)
    right: list[Any] = asked.output[:, 0].tolist()
    wrong: list[Any] = [10.0] * 3
    if TARGET == "classification":
        right, wrong = ([DESCRIPTION["classes"][place] for place in (o * asked.output).argmax(1)] for o in (1, -1))
    observer.append(asked)
    receiver.append(asked)
    items = [{"id": asked.id, "index": index, "actual": right[index]} for index in (0, 1, 1)]
    items += [{"id": asked.id, "index": 2, "actual": wrong[2]}, {"id": new_id(), "actual": right[0]}]
    told = receiver.take(json.dumps({"feedback": items}).encode(), {})
    observer.close()
    assert told == ["right", "right", "repeated", "wrong", "unmatched"]
    assert outcomes(info.version) == {"right": 2, "wrong": 1, "unmatched": 1, "repeated": 1}
    assert counts(counted, "outcome") == {("outcome", "right"): 2, ("outcome", "wrong"): 1}
    assert total(counted, "answer") == 3


def test_it_takes_few_milliseconds_of_a_second(known: Reference) -> None:
    rng, counted = np.random.default_rng(3), Rows("time", known)
    counter = Counting(known, counted)
    batches = [[answered(rng, 1) for _ in range(1000)] for _ in range(5)]
    start = time.process_time()
    for batch in batches:
        counter.take(batch, 0)
    assert time.process_time() - start < 0.05
    assert total(counted, "answer") > 0
