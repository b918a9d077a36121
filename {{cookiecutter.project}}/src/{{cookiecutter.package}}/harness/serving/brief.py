"""Brief answers: the class or the number, and nothing about how sure it is (SERVICE_ANSWER=label)."""

from __future__ import annotations

from typing import Any

TOLD = ("label", "value")  # of a prediction
NO_ARRAY = "answers are JSON: SERVICE_ANSWER=label leaves out the probabilities that an array would hold"


def answer(content: dict[str, Any]) -> dict[str, Any]:
    """An answer with brief predictions.

    Args:
        content: The answer; `predictions` is its last key.
    """
    predictions = [{key: each[key] for key in TOLD if key in each} for each in content["predictions"]]
    return {**content, "predictions": predictions}


def schema(prediction: dict[str, Any]) -> dict[str, Any]:
    """JSON schema of a brief prediction.

    Args:
        prediction: Schema of a whole one.
    """
    told = {key: prediction["properties"][key] for key in TOLD if key in prediction["properties"]}
    return {**prediction, "properties": told, "required": [*told]}
