from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Manifest = Mapping[str, Any]
Tensor = Any  # of Keras
OUTPUT = "prediction"
METRIC = "mae"
HIGHER_IS_BETTER = False
LEVELS = (0.5, 0.8, 0.9, 0.95, 0.99)  # of the intervals whose width models/model.json keeps
LEVEL = 0.9  # of those that the service gives; one of LEVELS


def head(manifest: Manifest, train_targets: Numbers) -> Callable[[Tensor], Tensor]:
    """Returns the layers that turn the last hidden tensor into the prediction, mean + deviation * z, in its units.

    Gradient descent thus learns z, whose mean is 0 and deviation 1, whatever the units are.

    Args:
        manifest: Of the prepared data.
        train_targets: float64 [N].
    """
    mean, deviation = _scale(train_targets)

    def apply(x: Tensor) -> Tensor:
        import keras  # 10 s of imports that only `train` pays

        return keras.layers.Rescaling(deviation, mean, name=OUTPUT)(keras.layers.Dense(1, name="standardised")(x))

    return apply


def compile_arguments(manifest: Manifest, train_targets: Numbers) -> dict[str, Any]:
    """Returns what Keras minimises and measures.

    The loss is the squared error in units of the training targets' standard deviation, 1 for always answering the mean;
    the metric is the mean absolute error in the target's own units.

    Args:
        manifest: Of the prepared data.
        train_targets: float64 [N].
    """
    import keras

    _, deviation = _scale(train_targets)

    def squared_error(actual: Tensor, predicted: Tensor) -> Tensor:
        return keras.ops.mean(keras.ops.square((actual - predicted) / deviation), axis=-1)

    return {"loss": squared_error, "metrics": [keras.metrics.MeanAbsoluteError(METRIC)]}


def _scale(train_targets: Numbers) -> tuple[float, float]:
    from ..core.errors import (
        UserError,  # here, not above: the service lacks what it needs
    )

    largest = float(np.abs(train_targets).max())
    if largest > 1e37:
        raise UserError(
            f"the target reaches {largest:.3g} in the training split, too much for 32-bit arithmetic: divide it by a "
            "power of ten"
        )
    mean, deviation = float(train_targets.mean()), float(train_targets.std())
    return mean, deviation or 1.0  # all of them are equal: there is nothing to learn but the mean


def calibrate(outputs: NDArray[np.floating[Any]], targets: Numbers) -> dict[str, Any]:
    """Returns half the width of the prediction interval for each of `LEVELS`.

    It is the ceil((n + 1) level)-th smallest of the n absolute errors on the validation split, which the model was not
    fitted on (Lei et al., algorithm 2). Where that is more than n, there are too few examples for the level: None.

    Args:
        outputs: Predictions of the validation split, float [n, 1].
        targets: Its targets, float64 [n].

    Returns:
        The number of examples, and level -> half the width in the target's units.
    """
    errors = np.sort(np.abs(outputs[:, 0].astype(np.float64) - targets))
    # Minus a little: 0.95 * 60 is 57, and not the next number above that floats make of it.
    ranks = [int(np.ceil((len(errors) + 1) * level - 1e-9)) for level in LEVELS]
    widths = [float(errors[rank - 1]) if rank <= len(errors) else None for rank in ranks]
    return {"examples": len(errors), "half_widths": dict(zip(map(str, LEVELS), widths, strict=True))}


def answers(outputs: NDArray[np.float32], description: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns what the service says of each example: the number, and both ends of its interval at `LEVEL`.

    Args:
        outputs: float32 [N, 1].
        description: The content of models/model.json.

    Returns:
        value, low, high; both ends are None where the validation split was too small for an interval.
    """
    half = description["calibration"]["half_widths"][str(LEVEL)]
    return [
        {"value": value, "low": None if half is None else value - half, "high": None if half is None else value + half}
        for value in outputs[:, 0].tolist()
    ]


def counts(outputs: NDArray[np.float32], description: Mapping[str, Any]) -> dict[str, int]:
    """Returns how many examples were answered, for the service's metrics: numbers have no label.

    Args:
        outputs: float32 [N, 1].
        description: The content of models/model.json.
    """
    return {"": len(outputs)}


def answer_schema(description: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the JSON schema of one of `answers`."""
    end = {"type": "number", "nullable": True}  # as OpenAPI 3.0, which BentoML writes, says null
    return {
        "type": "object",
        "properties": {"value": {"type": "number"}, "low": end, "high": end},
        "required": ["value", "low", "high"],
        "additionalProperties": False,
    }
