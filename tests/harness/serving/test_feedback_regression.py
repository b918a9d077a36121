"""Feedback on numbers: inside or outside of the 90 % interval."""

import json
from typing import Any

import numpy as np
import pytest
from my_experiment.harness.capture.answered import Answered, new_id
from my_experiment.harness.serving.feedback import Receiver
from my_experiment.harness.serving.model import ModelInfo
from my_experiment.harness.serving.refusal import Refusal
from my_experiment.harness.serving.rows import Rows


def outcome(actual: Any, half: float | None = 1.0) -> str:
    described = {"calibration": {"half_widths": {"0.9": half}}, "target_name": "price"}
    info = ModelInfo.model_validate({"input": "any", "target": "regression", "sha256": "0123456789abcdef"} | described)
    receiver = Receiver(info, 256, None, Rows(info.version, None))
    answered = Answered(0.0, new_id(), "application/json", b"", {}, np.array([[2.5]], np.float32), b"")
    receiver.append(answered)
    body = json.dumps({"feedback": [{"id": answered.id, "actual": actual}]}).encode()
    (told,) = receiver.take(body, {})
    return str(told)


def test_a_number_in_the_interval_is_right() -> None:
    assert [outcome(number) for number in (1.5, 2, 3.5, 1.49, 3.51, -3e38)] == ["right"] * 3 + ["wrong"] * 3
    assert outcome(2.5, None) == "unmatched"


@pytest.mark.parametrize("actual", [float("nan"), float("inf"), 1e300, "2.5", None, True, [1]])
def test_what_is_no_number_is_refused(actual: Any) -> None:
    with pytest.raises(Refusal, match=r"feedback\[0\].actual: '.*' is not a finite number"):
        outcome(actual)
