from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]
Probabilities = NDArray[np.float32] | NDArray[np.float64]
Manifest = Mapping[str, Any]
Tensor = Any  # of Keras
OUTPUT = "probabilities"
METRIC = "accuracy"
HIGHER_IS_BETTER = True


def head(manifest: Manifest, train_targets: Labels) -> Callable[[Tensor], Tensor]:
    """Returns the layers that turn the last hidden tensor into probabilities: p_k = exp(z_k) / sum_j exp(z_j).

    Args:
        manifest: Of the prepared data.
        train_targets: int64 [N].
    """

    def apply(x: Tensor) -> Tensor:
        import keras  # 10 s of imports that only `train` pays

        return keras.layers.Dense(len(manifest["classes"]), activation="softmax", name=OUTPUT)(x)

    return apply


def compile_arguments(manifest: Manifest, train_targets: Labels) -> dict[str, Any]:
    """Returns what Keras minimises and measures: -log p(true class), and the share of right answers.

    Args:
        manifest: Of the prepared data.
        train_targets: int64 [N].
    """
    import keras

    return {"loss": "sparse_categorical_crossentropy", "metrics": [keras.metrics.SparseCategoricalAccuracy(METRIC)]}


def calibrate(outputs: Probabilities, targets: Labels) -> dict[str, Any]:
    """Returns nothing: the probabilities are given as the model answers them, and measured by `ece`."""
    return {}


def answers(outputs: NDArray[np.float32], description: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns what the service says of each example: the most probable class, and the probability of each.

    Args:
        outputs: float32 [N, K].
        description: The content of models/model.json.
    """
    classes = description["classes"]
    return [
        {"label": classes[row.index(max(row))], "probabilities": dict(zip(classes, row, strict=True))}
        for row in outputs.tolist()
    ]


def counts(outputs: NDArray[np.float32], description: Mapping[str, Any]) -> dict[str, int]:
    """Returns how many examples got which label, for the service's metrics.

    Args:
        outputs: float32 [N, K].
        description: The content of models/model.json.
    """
    labels, found = np.unique(outputs.argmax(axis=1), return_counts=True)
    return {description["classes"][label]: int(count) for label, count in zip(labels, found, strict=True)}


def answer_schema(description: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the JSON schema of one of `answers`."""
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
