"""The reference of a classifier of tables: built, read, and rows of production counted in it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from my_experiment.harness import drift
from my_experiment.harness.core.errors import UserError
from my_experiment.harness.drift import classification, reference
from my_experiment.harness.drift.evidence import estimated_quality, evidence, limit, psi
from my_experiment.harness.drift.recent import Recent
from my_experiment.harness.drift.reference import Reference

DESCRIPTION: dict[str, Any] = {
    "input": "tables",
    "target": "classification",
    "sha256": "ab" * 32,
    "classes": ["no", "yes"],
    "columns": [
        {"name": "age", "type": "number"},
        {"name": "city", "type": "category"},
        {"name": "since", "type": "date"},
    ],
}
COLUMNS = {"age": "number", "city": "category"}
ABSTAINS = {"coverage": 0.9, "set_threshold": 0.3, "abstain": True, "model": "ab" * 32}


def feeds(rng: np.random.Generator, rows: int, shift: float = 0) -> dict[str, Any]:
    ages = rng.normal(40 + shift, 10, rows)
    cities = np.array(["Bern", "Basel", ""], object)[rng.choice(3, rows, p=[0.6, 0.3, 0.1])]
    return {"age": ages, "city": cities, "since": rng.uniform(0, 1000, rows)}


def outputs(rng: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated probabilities, and targets drawn from them."""
    yes = rng.beta(0.5, 0.5, rows)
    return np.stack([1 - yes, yes], 1).astype(np.float32), (rng.random(rows) < yes).astype(np.int64)


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    batches = [feeds(rng, 400) for _ in range(5)]
    return reference.build(DESCRIPTION, batches, outputs(rng, 1000), COLUMNS)


def test_it_holds_the_rows_of_every_variable(content: dict[str, Any]) -> None:
    kinds = [(each["kind"], each["column"]) for each in content["variables"]]
    others = [(kind, kind) for kind in ("answer", "confidence", "outcome")]
    assert kinds == [("input", "age"), ("input", "city"), *others]
    assert [sum(each["rows"]) for each in content["variables"]] == [2000, 2000, 1000, 1000, 1000]
    age, city, answer, confidence, outcome = content["variables"]
    assert len(age["bins"]) == 13 and city["bins"] == ["Bern", "Basel", "never seen", "missing"]
    assert (answer["bins"], outcome["bins"]) == (["no", "yes"], ["right", "wrong"])
    assert sum(confidence["right"]) == outcome["rows"][0]
    assert content["model"] == DESCRIPTION["sha256"] and content["repeats"] == 0


def test_production_is_compared_through_the_same_bins(content: dict[str, Any]) -> None:
    known, rng = Reference(content, DESCRIPTION), np.random.default_rng(1)
    counts = known.count(feeds(rng, 1000, shift=10), outputs(rng, 1000)[0])
    found = {
        each.column: (
            float(evidence(each.rows, counts[each.kind, each.column])),
            float(psi(each.rows, counts[each.kind, each.column])),
        )
        for each in known.variables
        if each.kind != "outcome"
    }
    assert found["age"] > (limit(4), 0.1)
    assert all(found[name][0] < 0 for name in ("city", "answer", "confidence"))


def test_estimated_quality_of_harder_and_easier_rows_is_the_true_one(content: dict[str, Any]) -> None:
    known, rng = Reference(content, DESCRIPTION), np.random.default_rng(2)
    (confidence,) = (each for each in known.variables if each.kind == "confidence")
    assert confidence.right is not None
    probabilities, targets = outputs(rng, 20_000)
    sure = probabilities.max(1)
    for chosen in (sure < 0.8, sure > 0.8):
        counts = known.count(feeds(rng, int(chosen.sum())), probabilities[chosen])["confidence", "confidence"]
        right = classification.right(probabilities[chosen], targets[chosen], DESCRIPTION)
        assert right is not None
        assert estimated_quality(confidence.rows, confidence.right, counts) == pytest.approx(right.mean(), abs=0.05)


def test_identical_rows_count_once_unless_training_has_many(content: dict[str, Any]) -> None:
    rng = np.random.default_rng(3)
    asked, answered = (
        {name: np.repeat(values, 50) for name, values in feeds(rng, 1).items()},
        np.tile(np.array([[0.2, 0.8]], np.float32), (50, 1)),
    )
    known, recent = Reference(content, DESCRIPTION), Recent()
    assert known.count(asked, answered, recent)["input", "age"].sum() == 1
    assert known.count(asked, answered, recent)["answer", "answer"].sum() == 0
    assert known.count(asked, answered)["input", "age"].sum() == 50
    few = {"city": "category"}
    repeated = Reference(reference.build(DESCRIPTION, [feeds(rng, 500)], outputs(rng, 10), few), DESCRIPTION)
    assert repeated.repeated and repeated.count(asked, answered, recent)["input", "city"].sum() == 50


def test_an_answer_left_open_has_a_bin_and_its_class_an_outcome() -> None:
    rng, described = np.random.default_rng(4), {**DESCRIPTION, "decision": ABSTAINS}
    probabilities, targets = outputs(rng, 500)
    content = reference.build(described, [feeds(rng, 500)], (probabilities, targets), COLUMNS)
    (answer,) = (each for each in content["variables"] if each["kind"] == "answer")
    assert answer["bins"] == ["no", "yes", "not sure"] and min(answer["rows"]) > 20
    right = classification.right(np.array([[0.45, 0.55]] * 2, np.float32), np.array([0, 1]), described)
    assert right is not None and right.tolist() == [False, True]


@pytest.mark.parametrize(
    ("train", "test", "kinds"), [(99, 99, set()), (99, 100, {"answer", "confidence", "outcome"}), (100, 99, {"input"})]
)
def test_too_few_rows_are_no_reference(train: int, test: int, kinds: set[str]) -> None:
    rng = np.random.default_rng(5)
    content = reference.build(DESCRIPTION, [feeds(rng, train)], outputs(rng, test), COLUMNS)
    assert {each["kind"] for each in content["variables"]} == kinds


def test_dates_are_counted_only_if_named_and_unknown_columns_are_refused() -> None:
    columns = drift.subject(DESCRIPTION).columns
    assert columns(DESCRIPTION, []) == COLUMNS
    assert columns(DESCRIPTION, ["since", "age"]) == {"since": "date", "age": "number"}
    with pytest.raises(UserError, match=r"^evaluate.monitored: the model has no column 'agee'; did you mean 'age'\?$"):
        columns(DESCRIPTION, ["agee"])


def test_a_file_is_read_or_refused_in_one_line(tmp_path: Path, content: dict[str, Any]) -> None:
    file = tmp_path / reference.FILE
    assert reference.read(tmp_path, DESCRIPTION) is None  # a model from before
    file.write_text(json.dumps(content))
    known = reference.read(tmp_path, DESCRIPTION)
    assert known is not None and len(known.variables) == 5
    file.write_text(json.dumps({**content, "variables": []}))
    assert reference.read(tmp_path, DESCRIPTION) is None
    wrong = [{**content, "model": "cd" * 32}, {"model": DESCRIPTION["sha256"]}, [], {**content, "variables": [{}]}]
    large = (
        json.dumps(content).replace('"rows": [', '"rows": [1e999, ', 1),
        json.dumps(content).replace("[", f"[{10**30},"),
    )
    for text in ("{", "[" * 100_000, *large, *map(json.dumps, wrong)):
        file.write_text(text)
        with pytest.raises(UserError, match=r"reference.json cannot be used \(.*\): run `dvc repro` or") as told:
            reference.read(tmp_path, DESCRIPTION)
        assert "\n" not in str(told.value)
