"""Explained answers of a classifier: log-odds, because effects on them add up."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..contracts import Manifest
from ..core.text import percent
from ..targets.classification import FLOOR, Labels, Probabilities, log_odds

SCALE = "An effect of +0.7 doubles the odds of the class, -0.7 halves them; +2.3 makes them ten times as high."
scores = log_odds


def explained(outputs: Probabilities) -> Labels:
    """The predicted class; of two classes always the second, int64 [N].

    Args:
        outputs: Probabilities, [N, K].
    """
    return np.ones(len(outputs), np.int64) if outputs.shape[1] == 2 else outputs.argmax(axis=1)


def unit(manifest: Manifest) -> str:
    """Unit of the answers, in words.

    Args:
        manifest: Manifest of the prepared data.
    """
    classes = manifest["classes"]
    return f"log-odds of {classes[1]}" if len(classes) == 2 else "log-odds of the predicted class"


def verbs(explained: int, described: Manifest) -> tuple[str, str]:
    """What a part does that raises the answer, and one that lowers it, in words.

    Args:
        explained: Index of the class.
        described: Manifest of the prepared data, or content of models/model.json.
    """
    name = described["classes"][explained]
    return f"speaks for {name}", f"speaks against {name}"


def answer(prediction: Mapping[str, Any]) -> str:
    """A prediction of the service, in words.

    Args:
        prediction: Element of `targets.classification.answers`.
    """
    label = prediction["label"]
    return f"{label} ({percent(prediction['probabilities'][label])})"


def errors(outputs: Probabilities, targets: Labels) -> NDArray[np.float64]:
    """-log p(true class), float64 [N].

    Args:
        outputs: Probabilities, [N, K].
        targets: Labels, int64 [N].
    """
    return -np.log(np.maximum(outputs[np.arange(len(targets)), targets].astype(np.float64), FLOOR))


def caption(output: Probabilities, target: int, manifest: Manifest) -> str:
    """An answer and the truth, in words.

    Args:
        output: Probabilities, [K].
        target: The true class.
        manifest: Manifest of the prepared data.
    """
    classes, answer = manifest["classes"], int(output.argmax())
    told = f"{classes[target]} taken for {classes[answer]}" if answer != target else f"{classes[answer]}, right"
    return f"{told} ({percent(float(output[answer]))})"
