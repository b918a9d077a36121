"""The reference of a regression: deciles of the answers, and whether intervals hold the truth."""

from typing import Any

import numpy as np
from my_experiment.harness.drift import reference, regression
from my_experiment.harness.drift.reference import Reference

DESCRIPTION: dict[str, Any] = {
    "input": "tables",
    "target": "regression",
    "sha256": "ab" * 32,
    "columns": [{"name": "x", "type": "number"}],
    "calibration": {"half_widths": {"0.9": 1.0}},
}


def build(description: dict[str, Any]) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    answers = rng.uniform(0, 100, 1000)
    targets = answers + rng.normal(0, 0.2 + answers / 100)  # large answers are less certain
    output = answers[:, None].astype(np.float32)
    return reference.build(description, [{"x": rng.normal(size=500)}], (output, targets), {"x": "number"})


def test_answers_are_in_deciles_and_right_is_inside_of_the_interval() -> None:
    _, answer, confidence, outcome = build(DESCRIPTION)["variables"]
    assert len(answer["bins"]) == 13 and len(confidence["bins"]) == 10
    shares = np.array(confidence["right"]) / confidence["rows"]
    assert shares[0] > 0.95 > 0.75 > shares[-1]
    assert sum(confidence["right"]) == outcome["rows"][0]
    known = Reference(build(DESCRIPTION), DESCRIPTION)
    told = regression.right(np.array([[5], [5]], np.float32), np.array([5.9, 6.1]), DESCRIPTION)
    assert told is not None and told.tolist() == [True, False]
    counts = known.count({"x": np.zeros(2)}, np.array([[-1], [50]], np.float32))
    assert counts["answer", "answer"][0] == 1 and counts["confidence", "confidence"][0] == 1


def test_without_intervals_answers_are_counted_alone() -> None:
    described = {**DESCRIPTION, "calibration": {"half_widths": {"0.9": None}}}
    assert [each["kind"] for each in build(described)["variables"]] == ["input", "answer"]
    assert regression.right(np.array([[5]], np.float32), np.array([5.0]), described) is None
