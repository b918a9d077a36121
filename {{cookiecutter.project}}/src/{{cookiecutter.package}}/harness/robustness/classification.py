"""Scores of a classifier whose inputs are changed; see `contracts.Kind`."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..contracts import Description, Manifest
from ..targets.classification import FLOOR, Labels

METRIC, HARM = "accuracy", -1
Outputs = NDArray[np.float32]  # probabilities, [n, K]


def score(outputs: Outputs, targets: Labels) -> NDArray[np.float64]:
    """1 for each correctly classified example, else 0, [n]."""
    return np.asarray(outputs.argmax(1) == targets, np.float64)


def loss(outputs: Outputs, targets: Labels) -> NDArray[np.float64]:
    """Log-odds of the most probable wrong class against the true class, [n].

    Unlike probabilities, they still differ if the true class has a probability of 1 in float32.
    """
    logs = np.log(np.maximum(outputs.astype(np.float64), FLOOR))
    true = np.take_along_axis(logs, targets[:, None], 1)[:, 0]
    np.put_along_axis(logs, targets[:, None], -np.inf, 1)
    return np.asarray(logs.max(1) - true)


def settled(outputs: Outputs, targets: Labels) -> NDArray[np.bool_]:
    """Mask of the misclassified examples, [n]."""
    return np.asarray(outputs.argmax(1) != targets)


def answer(output: Outputs, manifest: Manifest) -> str:
    """The most probable class of one example."""
    return str(manifest["classes"][int(output.argmax())])


def directions(description: Description, columns: Sequence[str], targets: Labels) -> list[NDArray[np.float64]]:
    """b_k - b_true for each class k: log-odds of the class against the true class grow along it, [n, F].

    Args:
        description: Content of models/model.json, with coefficients.
        columns: Names of the F columns that change.
        targets: Labels, int64 [n].
    """
    classes = description["classes"]
    estimates = {(row["class"], row["name"]): row["estimate"] for row in description["coefficients"]}
    weights = np.array([[estimates.get((name, column), 0.0) for column in columns] for name in classes])
    return [weights[k] - weights[targets] for k in range(len(classes))]
