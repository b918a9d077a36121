"""Regression: head, loss, predictions and prediction intervals."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..contracts import Description, Goal, Head, Manifest, Question, Tensor
from ..core.errors import UserError

Numbers = NDArray[np.float64]
OUTPUT = "prediction"
METRIC = "mae"
HIGHER_IS_BETTER = False
LEVELS = (0.5, 0.8, 0.9, 0.95, 0.99)  # of the intervals in models/model.json
LEVEL = 0.9  # of the intervals in responses of the service; one of LEVELS
LARGEST = float(np.finfo(np.float32).max)  # of a target
TYPICAL = 0.5  # of the interval that half of the errors exceed; one of LEVELS


def head(manifest: Manifest, train_targets: Numbers) -> Head:
    """Linear head: mean + deviation * z, in the target's units.

    The network learns z, the standardized target.

    Args:
        manifest: Manifest of the prepared data.
        train_targets: Targets of the training split, float64 [N].
    """
    mean, deviation = _scale(train_targets)

    def apply(x: Tensor) -> Tensor:
        import keras  # takes 10 s, which only `train` needs

        return keras.layers.Rescaling(deviation, mean, name=OUTPUT)(keras.layers.Dense(1, name="standardised")(x))

    return apply


def compile_arguments(manifest: Manifest, train_targets: Numbers) -> dict[str, Any]:
    """Loss and metric for `keras.Model.compile`: scaled squared error, and mean absolute error.

    The squared error is divided by the variance of the training targets: always predicting their mean gives 1. The
    mean absolute error is in the target's units.

    Args:
        manifest: Manifest of the prepared data.
        train_targets: Targets of the training split, float64 [N].
    """
    import keras

    _, deviation = _scale(train_targets)

    def squared_error(actual: Tensor, predicted: Tensor) -> Tensor:
        return keras.ops.mean(keras.ops.square((actual - predicted) / deviation), axis=-1)

    return {"loss": squared_error, "metrics": [keras.metrics.MeanAbsoluteError(METRIC)]}


def _scale(train_targets: Numbers) -> tuple[float, float]:
    largest = float(np.abs(train_targets).max())
    if largest > 1e37:
        raise UserError(
            f"the target reaches {largest:.3g} in the training split, too large for 32-bit arithmetic: divide it by a "
            "power of ten"
        )
    mean, deviation = float(train_targets.mean()), float(train_targets.std())
    return mean, deviation or 1.0  # equal targets have deviation 0; any scale will do


def calibrate(outputs: NDArray[np.floating[Any]], targets: Numbers) -> dict[str, Any]:
    """Half-widths of the prediction intervals for `LEVELS`, by split-conformal calibration.

    The half-width is the ceil((n + 1) level)-th smallest of the n absolute errors on the validation split, on which the
    model was not fitted (J. Lei et al., Distribution-Free Predictive Inference for Regression, JASA 2018, algorithm 2).
    It is None if that rank exceeds n: there are too few examples for the level.

    Args:
        outputs: Predictions of the validation split, float [n, 1].
        targets: Targets of the validation split, float64 [n].

    Returns:
        The number of examples, and level -> half-width in the target's units.
    """
    errors = np.sort(np.abs(outputs[:, 0].astype(np.float64) - targets))
    # The small offset prevents rounding errors from raising the rank: 0.95 * 60 could be slightly above 57.
    ranks = [int(np.ceil((len(errors) + 1) * level - 1e-9)) for level in LEVELS]
    widths = [float(errors[rank - 1]) if rank <= len(errors) else None for rank in ranks]
    return {"examples": len(errors), "half_widths": dict(zip(map(str, LEVELS), widths, strict=True))}


def half_width(description: Description, level: float = LEVEL) -> float | None:
    """Half-width of the prediction intervals at a level; None if undefined.

    Args:
        description: Content of models/model.json.
        level: One of `LEVELS`.
    """
    half: float | None = description["calibration"]["half_widths"][str(level)]
    return half


def answers(outputs: NDArray[np.float32], description: Description) -> list[dict[str, Any]]:
    """For each example, the prediction and its interval at `LEVEL`.

    Args:
        outputs: Predictions, float32 [N, 1].
        description: Content of models/model.json.

    Returns:
        value, low and high of each example; low and high are None if the intervals are undefined.
    """
    values, half = outputs[:, 0].tolist(), half_width(description)
    if half is None:
        return [{"value": value, "low": None, "high": None} for value in values]
    return [{"value": value, "low": value - half, "high": value + half} for value in values]


def counts(outputs: NDArray[np.float32], description: Description) -> dict[str, int]:
    """Number of examples under the empty label, for the service's metrics endpoint.

    Args:
        outputs: Predictions, float32 [N, 1].
        description: Content of models/model.json.
    """
    return {"": len(outputs)}


def actual(value: object, description: Description) -> float:
    """An actual number, which a person tells.

    Args:
        value: The number.
        description: Content of models/model.json.

    Raises:
        ValueError: If it is no number of float32; the message is one line for the user.
    """
    if not isinstance(value, int | float) or isinstance(value, bool) or not -LARGEST <= value <= LARGEST:
        raise ValueError(f"{str(value)[:40]!r} is not a finite number")
    return float(value)


def actual_schema(description: Description) -> dict[str, Any]:
    """JSON schema of what `actual` takes."""
    return {"type": "number", "minimum": -LARGEST, "maximum": LARGEST}


def answer_schema(description: Description) -> dict[str, Any]:
    """JSON schema of an element of `answers`."""
    end = {"type": "number", "nullable": True}  # OpenAPI 3.0, which BentoML writes, has no type null
    return {
        "type": "object",
        "properties": {"value": {"type": "number"}, "low": end, "high": end},
        "required": ["value", "low", "high"],
        "additionalProperties": False,
    }


def question(output: NDArray[np.float32], description: Description) -> Question:
    """What is explained of one answer: the number.

    The other answers are lower and higher by more than the typical error, if that is known.

    Args:
        output: The prediction, float32 [1, 1].
        description: Content of models/model.json.
    """
    name, value, error = description["target_name"], float(output[0, 0]), half_width(description, TYPICAL)

    def score(outputs: NDArray[np.floating[Any]]) -> Numbers:
        return outputs[:, 0].astype(np.float64)

    def is_lower(outputs: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
        return score(outputs) < value - (error or 0)

    def is_higher(outputs: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
        return score(outputs) > value + (error or 0)

    goals = [] if error is None else [Goal(-1, is_lower), Goal(1, is_higher)]
    return Question(name, score, f"raises {name}", f"lowers {name}", goals)
