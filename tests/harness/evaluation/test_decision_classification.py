"""The decision of a classifier: threshold, costs, prediction sets, and what is answered with them."""

import json
from typing import Any

import numpy as np
import pytest
from my_experiment.harness.core.errors import UserError
from my_experiment.harness.evaluation import classification, classification_decision
from my_experiment.harness.evaluation.metrics import Estimate, unweighted
from my_experiment.harness.evaluation.settings import Decision, Evaluate
from my_experiment.harness.evaluation.workspace import Predictions
from my_experiment.harness.targets import classification as target
from numpy.typing import NDArray
from sklearn import metrics as reference

CLASSES = ["benign", "malignant"]


def predictions(seed: int, examples: int, classes: list[str]) -> Predictions:
    """Labels, and probabilities that say something about them."""
    generator = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(len(classes)), generator.integers(0, len(classes), examples - len(classes))])
    scores = generator.normal(size=(examples, len(classes))) + 1.5 * np.eye(len(classes))[labels]
    outputs = (np.exp(scores) / np.exp(scores).sum(1, keepdims=True)).astype(np.float32)
    return Predictions(outputs, labels, labels, {"classes": classes}, {"classes": classes, "sha256": "f" * 64})


def decided(validation: Predictions, **settings: Any) -> dict[str, Any]:
    """A description with the decision that the validation split gives."""
    return {**validation.description, "decision": classification.decide(validation, Decision(**settings))}


@pytest.mark.parametrize("goal", [0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("name", CLASSES)
def test_the_threshold_is_the_highest_that_finds_enough(goal: float, name: str) -> None:
    validation = predictions(0, 400, CLASSES)
    description = decided(validation, sensitivity={name: goal})
    positive = CLASSES.index(name)
    actual, scores = validation.targets == positive, validation.outputs[:, positive].astype(float)
    found = target.decide(validation.outputs, description) == positive
    assert found[actual].mean() >= goal
    higher = np.sort(scores[found])[0]  # the next higher threshold would lose the last one
    assert (scores[actual] > higher).mean() < goal
    assert description["decision"]["class"] == name
    assert len(str(description["decision"]["threshold"])) <= 10


@pytest.mark.parametrize("costs", [(10.0, 1.0), (1.0, 10.0), (1.0, 1.0), (3.5, 0.1)])
def test_no_threshold_costs_less(costs: tuple[float, float]) -> None:
    validation = predictions(1, 300, CLASSES)
    description = decided(validation, costs=dict(zip(CLASSES, costs, strict=True)))

    def cost(said: NDArray[np.int64]) -> float:
        return float(np.where(said == validation.targets, 0, np.array(costs)[validation.targets]).mean())

    ours = cost(target.decide(validation.outputs, description))
    scores = validation.outputs[:, 1]
    all_costs = [cost((scores >= threshold).astype(int)) for threshold in np.append(np.unique(scores), 2)]
    assert ours == pytest.approx(min(all_costs), abs=1e-12)
    measured = unweighted(classification.metrics(validation.outputs, validation.targets, description), 300)
    assert measured["cost"] == pytest.approx(ours, abs=1e-12)


COSTS: list[dict[Any, Any]] = [{4: 10}, {0: {1: 20, 3: 0.1}, 4: 0.5}, {name: 3 for name in range(5)}]


@pytest.mark.parametrize("named", COSTS)
def test_no_answer_is_expected_to_cost_less(named: dict[Any, Any]) -> None:
    """Of five classes, whose names YAML reads as numbers; the expected costs are computed one by one."""
    names = [str(index) for index in range(5)]
    validation, test = predictions(6, 300, names), predictions(7, 400, names)
    description = json.loads(json.dumps(decided(validation, costs=named)))

    def cost(true: int, answer: int) -> float:
        one = named.get(true, 1)
        return 0 if true == answer else float(one.get(answer, 1) if isinstance(one, dict) else one)

    said = target.decide(test.outputs, description)
    for row, answer in zip(test.outputs.astype(float), said.tolist(), strict=True):
        expected = [sum(row[true] * cost(true, each) for true in range(5)) for each in range(5)]
        assert expected[answer] <= min(expected) + 1e-12
    usual = target.decide(test.outputs, {"classes": names})
    assert (usual == test.outputs.argmax(1)).all() and (said == usual).all() == (named == COSTS[-1])
    assert [item["label"] for item in target.answers(test.outputs, description)] == [names[each] for each in said]
    estimates = unweighted(classification.metrics(test.outputs, test.targets, description), 400)
    ours, theirs = (
        np.mean([cost(*each) for each in zip(test.targets.tolist(), answers.tolist(), strict=True)])
        for answers in (said, usual)
    )
    assert estimates["cost"] == pytest.approx(ours, abs=1e-12) and ours <= theirs
    test = test._replace(description=description)
    settings = Evaluate(seed=0, resamples=100, confidence=0.9, examples=1, shipped=0, decision=Decision(costs=named))
    [_, text] = classification_decision.section(test, {"cost": Estimate(float(ours))}, settings)
    assert f"the mean cost is {ours:.3g}" in text and f"it would be {theirs:.3g}" in text


def test_tied_scores_are_decided_alike_and_rounding_changes_no_answer() -> None:
    scores = np.array([0.2, 0.2, 0.3, 0.3, 0.3, 0.9], np.float32)
    outputs = np.stack([1 - scores, scores], 1)
    validation = Predictions(outputs, np.array([0, 1, 1, 0, 1, 1]), np.zeros(1), {"classes": CLASSES}, {})
    description: dict[str, Any] = {"classes": CLASSES, "sha256": "f"}
    validation = validation._replace(description=description)
    chosen = decided(validation, sensitivity={"malignant": 0.6})
    assert target.decide(outputs, chosen).tolist() == [0, 0, 1, 1, 1, 1]
    for noise in (-1e-6, 1e-6):  # a service computes with other kernels than the pipeline
        assert target.decide(outputs + np.float32(noise), chosen).tolist() == [0, 0, 1, 1, 1, 1]
    neighbors = np.array([np.nextafter(np.float32(0.3), np.float32(0)), 0.3], np.float32)
    assert classification_decision._below(float(neighbors[1]), neighbors.astype(float)) <= float(neighbors[1])


@pytest.mark.parametrize("classes", [2, 7])
def test_the_metrics_equal_those_of_scikit_learn(classes: int) -> None:
    names = [f"c{index}" for index in range(classes)]
    validation, test = predictions(2, 300, names), predictions(3, 500, names)
    goal = {"sensitivity": {"c1": 0.9}} if classes == 2 else {}
    description = decided(validation, **goal, coverage=0.9, abstain=True)
    measured = unweighted(classification.metrics(test.outputs, test.targets, description), 500)
    said, sets = target.decide(test.outputs, description), target.prediction_sets(test.outputs, description)
    sure = sets.sum(1) == 1
    expected = {
        "coverage": sets[np.arange(500), test.targets].mean(),
        "set_size": sets.sum(1).mean(),
        "answered": sure.mean(),
        "answered_accuracy": (said == test.targets)[sure].mean(),
    }
    if classes == 2:
        expected |= {
            "sensitivity": reference.recall_score(test.targets, said),
            "specificity": reference.recall_score(test.targets, said, pos_label=0),
            "precision": reference.precision_score(test.targets, said),
            "selection_rate": said.mean(),
        }
    assert {name: measured[name] for name in expected} == pytest.approx(expected, abs=1e-12)
    assert measured["coverage"] >= 0.87
    assert set(measured) == set(classification.METRICS) | set(expected)


def test_sets_cover_as_promised_on_average() -> None:
    """Over many splits, the mean coverage is at least the level, and not above it by more than a rank."""
    names = ["a", "b", "c"]
    covered = []
    for seed in range(40):
        validation, test = predictions(100 + seed, 100, names), predictions(500 + seed, 1000, names)
        sets = target.prediction_sets(test.outputs, decided(validation, coverage=0.8))
        covered.append(sets[np.arange(1000), test.targets].mean())
        assert sets[np.arange(1000), test.outputs.argmax(1)].all()
    assert 0.79 < np.mean(covered) < 0.83


def test_too_few_examples_for_a_level_put_every_class_in_the_set() -> None:
    validation = predictions(4, 8, CLASSES)
    assert decided(validation, coverage=0.95)["decision"]["set_threshold"] == 0
    assert target.prediction_sets(validation.outputs, decided(validation, coverage=0.95)).all()


@pytest.mark.parametrize(
    ("classes", "settings", "message"),
    [
        (CLASSES, {"sensitivity": {"malign": 0.9}},
         "evaluate.decision.sensitivity: there is no class 'malign'; did you mean 'malignant'?"),
        (CLASSES, {"costs": {"malignant": 1.0, "x": 2.0}}, "evaluate.decision.costs: there is no class 'x'"),
        (["a", "b", "c"], {"sensitivity": {"a": 0.9}},
         "evaluate.decision.sensitivity: a threshold needs two classes, these are 3: set costs or coverage"),
        (["a", "b", "c"], {"costs": {"a": {"d": 2.0}}}, "evaluate.decision.costs.a: there is no class 'd'"),
        (["a", "b", "c"], {"costs": {"a": {"a": 2.0}}},
         "evaluate.decision.costs.a: a is the right answer, which costs nothing: remove it"),
    ],
)  # fmt: skip
def test_a_decision_that_does_not_fit_is_an_error_in_one_line(classes: list[str], settings: Any, message: str) -> None:
    with pytest.raises(UserError) as refused:
        decided(predictions(0, 30, classes), **settings)
    assert str(refused.value).startswith(message)


def test_a_validation_split_without_the_class_is_an_error_in_one_line() -> None:
    validation = predictions(0, 30, CLASSES)
    validation = validation._replace(targets=np.zeros(30, np.int64))
    with pytest.raises(UserError, match=r"the validation split lacks a class: raise prepare\.validation"):
        decided(validation, sensitivity={"malignant": 0.9})


OUTPUTS = np.array([[0.9, 0.1], [0.65, 0.35], [0.2, 0.8]], np.float32)


def described(**decision: Any) -> dict[str, Any]:
    """A description with this decision."""
    return {"classes": CLASSES, "decision": decision}


def test_answers_by_a_threshold() -> None:
    description = described(**{"class": "malignant", "threshold": 0.3})
    found = target.answers(OUTPUTS, description)
    assert [item["label"] for item in found] == ["benign", "malignant", "malignant"]
    assert [[*item] for item in found] == [["label", "probabilities"]] * 3
    assert found[1]["probabilities"] == {"benign": pytest.approx(0.65), "malignant": pytest.approx(0.35)}
    assert target.counts(OUTPUTS, description) == {"benign": 1, "malignant": 2}
    assert target.answer_schema(description) == target.answer_schema({"classes": CLASSES})


def test_answers_with_sets_and_not_sure() -> None:
    sets = {"coverage": 0.9, "set_threshold": 0.3, "abstain": False}
    found = target.answers(OUTPUTS, described(**sets))
    assert [item["set"] for item in found] == [["benign"], ["benign", "malignant"], ["malignant"]]
    assert [item["label"] for item in found] == ["benign", "benign", "malignant"]
    unsure = described(**sets | {"abstain": True})
    found = target.answers(OUTPUTS, unsure)
    assert [item["label"] for item in found] == ["benign", None, "malignant"]
    assert target.counts(OUTPUTS, unsure) == {"benign": 1, "": 1, "malignant": 1}
    schema = target.answer_schema(unsure)
    assert [*found[0]] == schema["required"] == [*schema["properties"]] == ["label", "set", "probabilities"]
    assert schema["properties"]["label"]["nullable"] and None in schema["properties"]["label"]["enum"]


def test_the_card_does_not_say_that_a_class_is_always_predicted_if_it_is_not() -> None:
    assert "always predicts" in classification._limits(described())
    assert "always" not in (limits := classification._limits(described(abstain=True))) and "not sure" in limits


def test_a_set_contains_the_class_that_the_threshold_decides() -> None:
    both = described(**{"class": "malignant", "threshold": 0.3}, coverage=0.9, set_threshold=0.5, abstain=True)
    found = target.answers(OUTPUTS, both)
    assert [(item["label"], item["set"]) for item in found] == [
        ("benign", ["benign"]),
        (None, ["benign", "malignant"]),
        ("malignant", ["malignant"]),
    ]
