"""What is counted of a regression's answers."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..contracts import Description
from ..targets.regression import half_width


def answers(outputs: NDArray[np.float32], description: Description) -> NDArray[Any]:
    """The answered numbers, float64 [N].

    Args:
        outputs: Predictions, float32 [N, 1].
        description: Content of models/model.json.
    """
    return outputs[:, 0].astype(np.float64)


def choices(description: Description) -> list[str] | None:
    """None: the answers are numbers.

    Args:
        description: Content of models/model.json.
    """
    return None


def confidence(outputs: NDArray[np.float32], description: Description) -> NDArray[np.float64]:
    """The answered numbers, float64 [N]: the model says nothing else of how good they are.

    Args:
        outputs: Predictions, float32 [N, 1].
        description: Content of models/model.json.
    """
    return outputs[:, 0].astype(np.float64)


def right(outputs: NDArray[np.float32], targets: NDArray[Any], description: Description) -> NDArray[np.bool_] | None:
    """Whether the truth is inside of the interval of the answer, bool [N]; None if there are no intervals.

    Args:
        outputs: Predictions, float32 [N, 1].
        targets: Numbers, float64 [N].
        description: Content of models/model.json.
    """
    half = half_width(description)
    if half is None:
        return None
    inside: NDArray[np.bool_] = np.abs(outputs[:, 0].astype(np.float64) - targets) <= half
    return inside
