"""Scores of a regression whose inputs are changed; see `contracts.Kind`."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..contracts import Description, Manifest
from ..core.text import number
from ..targets.regression import Numbers

METRIC, HARM = "MAE", 1
Outputs = NDArray[np.float32]  # predictions, [n, 1]


def score(outputs: Outputs, targets: Numbers) -> Numbers:
    """Absolute error of each example, [n]."""
    return np.abs(outputs[:, 0] - targets)


loss = score


def settled(outputs: Outputs, targets: Numbers) -> NDArray[np.bool_]:
    """No example: an error can always be larger, [n]."""
    return np.zeros(len(outputs), bool)


def answer(output: Outputs, manifest: Manifest) -> str:
    """The prediction for one example."""
    return number(float(output[0]))


def directions(description: Description, columns: Sequence[str], targets: Numbers) -> list[Numbers]:
    """The coefficients and their negatives, along which the prediction grows and falls, [n, F].

    Args:
        description: Content of models/model.json, with coefficients.
        columns: Names of the F columns that change.
        targets: Numbers, float64 [n].
    """
    estimates = {row["name"]: row["estimate"] for row in description["coefficients"]}
    up = np.array([estimates.get(column, 0.0) for column in columns])
    return [np.tile(slope, (len(targets), 1)) for slope in (up, -up)]
