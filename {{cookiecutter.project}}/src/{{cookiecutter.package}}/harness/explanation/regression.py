"""Explained answers of a regression: the number itself."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..contracts import Manifest
from ..core.text import number
from ..targets.regression import Numbers

SCALE = "An effect has the unit of the answer: +10 raises it by 10."


def scores(outputs: NDArray[np.floating[Any]], explained: NDArray[np.int64] | int) -> Numbers:
    """The numbers, float64 [N].

    Args:
        outputs: Predictions, float32 [N, 1].
        explained: 0, the index of the only output.
    """
    return outputs[:, 0].astype(np.float64)


def explained(outputs: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """The only output, int64 [N].

    Args:
        outputs: Predictions, float32 [N, 1].
    """
    return np.zeros(len(outputs), np.int64)


def unit(manifest: Manifest) -> str:
    """Unit of the answers: the target's name.

    Args:
        manifest: Manifest of the prepared data.
    """
    return str(manifest["target_name"])


def verbs(explained: int, described: Manifest) -> tuple[str, str]:
    """What a part does that raises the answer, and one that lowers it, in words.

    Args:
        explained: 0, the index of the only output.
        described: Manifest of the prepared data, or content of models/model.json.
    """
    name = described["target_name"]
    return f"raises {name}", f"lowers {name}"


def answer(prediction: Mapping[str, Any]) -> str:
    """A prediction of the service, in words.

    Args:
        prediction: Element of `targets.regression.answers`.
    """
    return number(prediction["value"])


def errors(outputs: NDArray[np.floating[Any]], targets: Numbers) -> Numbers:
    """Absolute error of each answer, float64 [N].

    Args:
        outputs: Predictions, float32 [N, 1].
        targets: Targets, float64 [N].
    """
    return np.abs(outputs[:, 0].astype(np.float64) - targets)


def caption(output: NDArray[np.floating[Any]], target: float, manifest: Manifest) -> str:
    """An answer and the truth, in words.

    Args:
        output: Prediction, float32 [1].
        target: The true number.
        manifest: Manifest of the prepared data.
    """
    return f"actual {number(float(target))}, predicted {number(float(output[0]))}"
