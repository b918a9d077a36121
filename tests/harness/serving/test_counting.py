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


def total(name: str, version: str, kind: str) -> float:
    samples = (sample for metric in REGISTRY.collect() for sample in metric.samples if sample.name == name)
    labels = {"model_version": version, "kind": kind}
    return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())


def test_all_bins_are_shown_before_a_row_is_counted(known: Reference) -> None:
    Counting(known, "first")
    (answer,) = (each for each in known.variables if each.kind == "answer")
    labels = [
        sample.labels["bin"]
        for metric in REGISTRY.collect()
        for sample in metric.samples
        if sample.name == ROWS and sample.labels["model_version"] == "first" and sample.labels["kind"] == "answer"
    ]
    assert sorted(labels) == sorted(answer.labels) and total(ROWS, "first", "answer") == 0


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
    rng, version = np.random.default_rng(1), f"of {len(requests)} times {requests[0]}"
    counter = Counting(known, version)
    counter.take([answered(rng, rows) for rows in requests], 0)
    assert total(ROWS, version, "answer") == 0
    for _ in range(counting.TOGETHER - 1):
        counter.take([], 0)
    assert least <= total(ROWS, version, "answer") <= most
    assert total(ROWS, version, "confidence") == total(ROWS, version, "answer")
    columns = len([each for each in known.variables if each.kind == "input"])
    assert total(ROWS, version, "input") == columns * total(ROWS, version, "answer")


def test_identical_rows_count_once_over_the_batches(known: Reference) -> None:
    rng, counter = np.random.default_rng(2), Counting(known, "loop")
    same = answered(rng, 1)
    for _ in range(5):
        counter.take([same] * 20, 0)
    counter.take([], 7)
    counter.close()
    assert total(ROWS, "loop", "answer") == 1


def outcomes(version: str) -> dict[str, dict[str, float]]:
    """Name of a metric -> outcome -> number of answers."""
    found: dict[str, dict[str, float]] = {}
    for sample in (sample for metric in REGISTRY.collect() for sample in metric.samples):
        if sample.labels.get("model_version") == version and sample.labels.get("kind", "outcome") == "outcome":
            outcome = sample.labels.get("outcome") or sample.labels.get("bin", "")
            found.setdefault(sample.name, {})[outcome] = sample.value
    return {name: found[name] for name in (ROWS, FEEDBACK)}


def test_feedback_is_counted_in_the_bins_of_outcomes(known: Reference) -> None:
    sha256 = "feedback".ljust(64, "0")
    info, rng = ModelInfo.model_validate(DESCRIPTION | {"sha256": sha256}), np.random.default_rng(4)
    receiver = Receiver(info, 256, None)
    nothing = dict.fromkeys(("right", "wrong", "unmatched", "repeated"), 0.0)
    assert outcomes(info.version) == {ROWS: {"right": 0, "wrong": 0}, FEEDBACK: nothing}
    observer = Observer([Counting(known, info.version)])
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
    counted = {"right": 2, "wrong": 1}
    assert outcomes(info.version) == {ROWS: counted, FEEDBACK: counted | {"unmatched": 1, "repeated": 1}}
    assert total(ROWS, info.version, "answer") == 3


def test_it_takes_few_milliseconds_of_a_second(known: Reference) -> None:
    rng, counter = np.random.default_rng(3), Counting(known, "time")
    batches = [[answered(rng, 1) for _ in range(1000)] for _ in range(5)]
    start = time.process_time()
    for batch in batches:
        counter.take(batch, 0)
    assert time.process_time() - start < 0.05
    assert total(ROWS, "time", "answer") > 0
