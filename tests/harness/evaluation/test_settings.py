"""Section `evaluate`: what is refused, each in one line that names the key."""

import pytest
from my_experiment.harness.core import config
from my_experiment.harness.core.errors import UserError
from my_experiment.harness.evaluation.settings import Evaluate

SECTION = {"seed": 0, "resamples": 100, "confidence": 0.9, "examples": 1, "shipped": 0}


@pytest.mark.parametrize(
    "decision",
    [
        None,
        {"sensitivity": {"a": 0.95}},
        {"costs": {"a": 10, "b": 1}},
        {"coverage": 0.9, "abstain": True},
        {"sensitivity": {1: 0.95}, "coverage": 0.9},  # YAML reads a class 1 as a number
    ],
)
def test_decisions(decision: object) -> None:
    config.check({"evaluate": {**SECTION, "decision": decision}}, {"evaluate": Evaluate})


@pytest.mark.parametrize(
    ("decision", "message"),
    [
        ({}, "evaluate.decision: nothing is decided here: set sensitivity, costs or coverage, or null"),
        (
            {"abstain": True, "sensitivity": {"a": 0.9}},
            "evaluate.decision: abstain needs prediction sets: set coverage",
        ),
        ({"sensitivity": {"a": 0.9}, "costs": {"a": 1, "b": 2}}, "evaluate.decision: sensitivity and costs are two"),
        ({"sensitivity": {"a": 1.5}}, "evaluate.decision.sensitivity.a: input should be less than 1"),
        ({"sensitivity": {"a": 0.9, "b": 0.9}}, "evaluate.decision.sensitivity: dictionary should have at most 1 item"),
        ({"costs": {}}, "evaluate.decision: nothing is decided here"),
        ({"costs": {"a": 1, "b": -2}}, "evaluate.decision.costs.b: input should be greater than 0"),
        ({"costs": {"a": {"b": 0}}}, "evaluate.decision.costs.a.b: input should be greater than 0"),
        ({"costs": {"a": float("inf")}}, "evaluate.decision.costs.a: input should be a finite number, got inf"),
        ({"coverage": 0.9, "abstian": True}, "evaluate.decision.abstian: unknown key; did you mean 'abstain'?"),
    ],
)
def test_what_cannot_be_decided_is_named(decision: object, message: str) -> None:
    with pytest.raises(UserError) as refused:
        config.check({"evaluate": {**SECTION, "decision": decision}}, {"evaluate": Evaluate})
    (line,) = str(refused.value).splitlines()[1:]
    assert line.strip().startswith(message)
