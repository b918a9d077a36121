"""What is counted of a classifier's answers."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..contracts import Description
from ..targets.classification import decide, prediction_sets

UNSURE = "not sure"


def answers(outputs: NDArray[np.float32], description: Description) -> NDArray[Any]:
    """The answered classes, object [N] of str; UNSURE if the label is left open.

    Args:
        outputs: Probabilities, float32 [N, K].
        description: Content of models/model.json, with `decision` if there is one.
    """
    named: NDArray[Any] = np.array(description["classes"], object)[decide(outputs, description)]
    if description.get("decision", {}).get("abstain"):
        named[prediction_sets(outputs, description).sum(1) > 1] = UNSURE
    return named


def choices(description: Description) -> list[str] | None:
    """The classes, and UNSURE if labels may be left open.

    Args:
        description: Content of models/model.json, with `decision` if there is one.
    """
    return [*description["classes"], *([UNSURE] if description.get("decision", {}).get("abstain") else [])]


def confidence(outputs: NDArray[np.float32], description: Description) -> NDArray[np.float64]:
    """Probability of the decided class, float64 [N].

    Args:
        outputs: Probabilities, float32 [N, K].
        description: Content of models/model.json, with `decision` if there is one.
    """
    return outputs[np.arange(len(outputs)), decide(outputs, description)].astype(np.float64)


def right(outputs: NDArray[np.float32], targets: NDArray[Any], description: Description) -> NDArray[np.bool_] | None:
    """Whether the decided class is the true one, also if the label is left open, bool [N].

    Args:
        outputs: Probabilities, float32 [N, K].
        targets: Class indices, int64 [N].
        description: Content of models/model.json, with `decision` if there is one.
    """
    correct: NDArray[np.bool_] = decide(outputs, description) == targets
    return correct
