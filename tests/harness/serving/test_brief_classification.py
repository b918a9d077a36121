"""Brief answers: the class alone, in answers and in their description."""

from typing import Any

import numpy as np
import pytest
from my_experiment.harness.serving import brief
from my_experiment.harness.targets import classification

OUTPUTS = np.array([[0.9, 0.1], [0.45, 0.55]], np.float32)
MODEL: dict[str, Any] = {"classes": ["no", "yes"]}
SETS = {"set_threshold": 0.3, "coverage": 0.9, "abstain": True}


@pytest.mark.parametrize(("decision", "labels"), [({}, ["no", "yes"]), (SETS, ["no", None])], ids=["plain", "not sure"])
def test_a_class_is_told_and_not_how_sure_it_is(decision: dict[str, Any], labels: list[str | None]) -> None:
    description = MODEL | ({"decision": decision} if decision else {})
    whole = {"id": "1", "model_version": "2", "predictions": classification.answers(OUTPUTS, description)}
    told = brief.answer(whole)
    assert told == {"id": "1", "model_version": "2", "predictions": [{"label": label} for label in labels]}
    assert [*told][-1] == "predictions"  # as it is encoded
    assert "probabilities" in whole["predictions"][0]  # which the log keeps
    schema = brief.schema(classification.answer_schema(description))
    assert [*schema["properties"]] == schema["required"] == ["label"] and not schema["additionalProperties"]
