"""Linear regression."""

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..harness import contracts, prepared
from ..harness.contracts import Fitted
from ..harness.core.errors import UserError
from ..harness.training import linear


@linear.one_thread
def linear_regression(
    inputs: contracts.Inputs,
    manifest: contracts.Manifest,
    *,
    confidence: Annotated[float, Field(gt=0, lt=1)],
) -> Fitted:
    """Least squares: y = b0 + b1 x1 + ... + bn xn + e.

    b minimises the sum of e^2. With s^2 = sum of e^2 / (N - p) for p estimated coefficients, the covariance of b is
    s^2 (X'X)^-1, and an interval is b_j +- t standard errors, t of Student's distribution with N - p degrees of
    freedom: exact where errors e are independent and normal, of one variance.
    Source: G. A. F. Seber, A. J. Lee, Linear Regression Analysis, 2nd edition, 2003, sections 3.2 to 3.5 and 5.1.

    Args:
        inputs: The encoded rows of a table.
        manifest: Of the prepared data.
        confidence: Of the intervals of the coefficients.

    Returns:
        The fitted model. `loss` is the squared error in units of the training targets' variance.

    Raises:
        UserError: Where there are classes to be told apart, or too few rows.
    """
    from scipy.special import (
        stdtrit,  # here, not above: the stage `config` reads this signature
    )

    linear.require(manifest, "regression", "linear_regression", "logistic_regression")
    columns = linear.encoded_columns(inputs)
    rows, targets = inputs.array("train"), prepared.targets("train")
    if targets.min() == targets.max():
        raise UserError(f"model: {manifest['target_name']!r} is the same in all training rows: nothing to predict")
    centre = targets.mean()  # before anything is squared: targets with a large offset keep their digits
    found = linear.triangle(rows, targets - centre)
    kept = linear.independent(found[:, :-1], columns)
    freedom = len(rows) - len(kept)
    if freedom < 1:
        raise UserError(
            f"model: {len(rows)} training rows cannot determine {len(kept)} coefficients and their errors: "
            "add rows or drop columns"
        )
    # QR once more, of the small triangle: R b = c, and the last number is the length of the residuals.
    small = linear.triangular(found[:, [*kept, -1]])
    upper, projected, residual = small[:-1, :-1], small[:-1, -1], small[-1, -1]
    inverse = np.linalg.inv(upper)
    estimate = inverse @ projected
    estimate[0] += centre
    variance = residual**2 / freedom
    weights = np.zeros((rows.shape[1] + 1, 1))
    weights[kept, 0] = estimate
    spread = targets.var()

    def measure(predicted: linear.Matrix, actual: NDArray[np.float64]) -> dict[str, float]:
        errors = predicted[:, 0] - actual
        return {"loss": errors @ errors / spread, "mae": np.abs(errors).sum()}

    quantile = float(stdtrit(freedom, (1 + confidence) / 2))
    return Fitted(
        graph=lambda: linear.to_onnx(weights, rows.dtype, "prediction"),
        predict=lambda asked: linear.predict(weights, asked),
        weights={"intercept": weights[0], "coefficients": weights[1:]},
        history=linear.history(weights, inputs, measure),
        notes={
            "coefficients": linear.coefficients(columns, kept, estimate, variance * inverse @ inverse.T, quantile),
            "coefficients_note": f"Least squares on {len(rows):,} rows, in the units of the columns; a level of a "
            f"category against the one left out. {confidence:.0%} intervals by Student's t with {freedom:,} degrees "
            f"of freedom; residual standard deviation {np.sqrt(variance):.4g}.",
        },
    )
