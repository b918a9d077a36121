"""Brief answers: the number alone, in answers and in their description."""

import numpy as np
from my_experiment.harness.serving import brief
from my_experiment.harness.targets import regression


def test_a_number_is_told_and_not_how_sure_it_is() -> None:
    description = {"calibration": {"half_widths": {str(level): 2.0 for level in regression.LEVELS}}}
    whole = {"id": "1", "predictions": regression.answers(np.array([[3.0]], np.float32), description)}
    assert whole["predictions"] == [{"value": 3.0, "low": 1.0, "high": 5.0}]
    assert brief.answer(whole) == {"id": "1", "predictions": [{"value": 3.0}]}
    schema = brief.schema(regression.answer_schema(description))
    assert [*schema["properties"]] == schema["required"] == ["value"]
