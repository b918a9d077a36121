"""Classification: head, loss and predictions of a classifier."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..contracts import Description, Head, Manifest, Tensor

Labels = NDArray[np.int64]
Probabilities = NDArray[np.float32] | NDArray[np.float64]
OUTPUT = "probabilities"
METRIC = "accuracy"
HIGHER_IS_BETTER = True


def head(manifest: Manifest, train_targets: Labels) -> Head:
    """Softmax head: p_k = exp(z_k) / sum_j exp(z_j).

    Args:
        manifest: Manifest of the prepared data.
        train_targets: Labels of the training split, int64 [N].
    """

    def apply(x: Tensor) -> Tensor:
        import keras  # takes 10 s, which only `train` needs

        return keras.layers.Dense(len(manifest["classes"]), activation="softmax", name=OUTPUT)(x)

    return apply


def compile_arguments(manifest: Manifest, train_targets: Labels) -> dict[str, Any]:
    """Loss and metric for `keras.Model.compile`: cross-entropy -log p(true class), and accuracy.

    Args:
        manifest: Manifest of the prepared data.
        train_targets: Labels of the training split, int64 [N].
    """
    import keras

    return {"loss": "sparse_categorical_crossentropy", "metrics": [keras.metrics.SparseCategoricalAccuracy(METRIC)]}


def calibrate(outputs: Probabilities, targets: Labels) -> dict[str, Any]:
    """No facts: probabilities are not recalibrated; the metric `ece` measures their calibration."""
    return {}


def answers(outputs: NDArray[np.float32], description: Description) -> list[dict[str, Any]]:
    """For each example, the most probable class and all probabilities.

    Args:
        outputs: Probabilities, float32 [N, K].
        description: Content of models/model.json.
    """
    classes = description["classes"]
    return [
        {"label": classes[row.index(max(row))], "probabilities": dict(zip(classes, row, strict=True))}
        for row in outputs.tolist()
    ]


def counts(outputs: NDArray[np.float32], description: Description) -> dict[str, int]:
    """Predicted class -> number of examples, for the service's metrics endpoint.

    Args:
        outputs: Probabilities, float32 [N, K].
        description: Content of models/model.json.
    """
    labels, examples = np.unique(outputs.argmax(axis=1), return_counts=True)
    return {description["classes"][label]: int(count) for label, count in zip(labels, examples, strict=True)}


def answer_schema(description: Description) -> dict[str, Any]:
    """JSON schema of an element of `answers`."""
    classes = description["classes"]
    probability = {"type": "number", "minimum": 0, "maximum": 1}
    return {
        "type": "object",
        "properties": {
            "label": {"type": "string", "enum": classes},
            "probabilities": {
                "type": "object",
                "properties": dict.fromkeys(classes, probability),
                "required": classes,
                "additionalProperties": False,
            },
        },
        "required": ["label", "probabilities"],
        "additionalProperties": False,
    }
