"""Linear regression by least squares."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..harness import contracts, prepared
from ..harness.contracts import Fitted
from ..harness.core.errors import UserError
from ..harness.training import linear

if TYPE_CHECKING:
    from ..harness.training.encoding import Column


class Solution(NamedTuple):
    """Solution of a least-squares problem.

    Attributes:
        estimated: Indices of the estimated coefficients, 0 for the intercept, 1 + j for column j.
        estimate: Their estimates, float64 [P].
        covariance: Covariance of the estimates, float64 [P, P].
        variance: Variance of the residuals.
        freedom: Degrees of freedom.
    """

    estimated: list[int]
    estimate: linear.Matrix
    covariance: linear.Matrix
    variance: float
    freedom: int


@linear.one_thread
def linear_regression(
    inputs: contracts.Inputs,
    manifest: contracts.Manifest,
    *,
    confidence: Annotated[float, Field(gt=0, lt=1)],
) -> Fitted:
    """Linear regression, fitted by least squares.

    In y = b0 + b1 x1 + ... + bn xn + e, b minimizes the sum of e^2. With s^2 = sum of e^2 / (N - p) for p estimated
    coefficients, the covariance of b is s^2 (X'X)^-1. The interval of b_j is b_j +- t standard errors, with t from
    Student's distribution with N - p degrees of freedom: exact if the errors are independent and normal with equal
    variance.
    Source: G. A. F. Seber, A. J. Lee, Linear Regression Analysis, 2nd edition, 2003, sections 3.2 to 3.5 and 5.1.

    Args:
        inputs: The encoded rows of a table.
        manifest: Manifest of the prepared data.
        confidence: Confidence level of the coefficients' intervals.

    Returns:
        The fitted model. `loss` in its history is the mean squared error divided by the variance of the training
        targets.

    Raises:
        UserError: If the targets are classes or all equal, or there are too few rows.
    """
    from scipy.special import stdtrit  # here, not above: the stage `config` reads this signature

    linear.require(manifest, "regression", "linear_regression", "logistic_regression")
    columns = linear.encoded_columns(inputs)
    rows, targets = inputs.array("train"), prepared.targets("train")
    if targets.min() == targets.max():
        raise UserError(
            f"model: {manifest['target_name']!r} is the same in all training rows: choose another data.target"
        )
    solution = solve(rows, targets, columns)
    weights = np.zeros((rows.shape[1] + 1, 1))
    weights[solution.estimated, 0] = solution.estimate
    variance = targets.var()

    def measure(predicted: linear.Matrix, actual: NDArray[np.float64]) -> dict[str, float]:
        errors = predicted[:, 0] - actual
        return {"loss": errors @ errors / variance, "mae": np.abs(errors).sum()}

    quantile = float(stdtrit(solution.freedom, (1 + confidence) / 2))
    return Fitted(
        graph=lambda: linear.to_onnx(weights, rows.dtype, "prediction"),
        predict=lambda encoded: linear.predict(weights, encoded),
        weights={"intercept": weights[0], "coefficients": weights[1:]},
        history=linear.history(weights, inputs, measure),
        notes={
            "coefficients": linear.coefficients(
                columns, solution.estimated, solution.estimate, solution.covariance, quantile
            ),
            "coefficients_note": f"Least squares on {len(rows):,} rows, in the units of the columns; a level of a "
            f"category against the one left out. {100 * confidence:g}% intervals by Student's t with "
            f"{solution.freedom:,} degrees of freedom; residual standard deviation {np.sqrt(solution.variance):.4g}.",
        },
    )


def solve(rows: NDArray[Any], targets: NDArray[np.float64], columns: "Sequence[Column]") -> Solution:
    """Least-squares solution by QR decomposition.

    Args:
        rows: The encoded training rows, [N, F], on disk.
        targets: float64 [N].
        columns: The encoded columns.

    Raises:
        UserError: If there are not more rows than coefficients.
    """
    center = targets.mean()  # subtracted before squaring: targets with a large offset would lose precision
    upper = linear.triangle(rows, targets - center)
    estimated = linear.independent(upper[:, :-1], columns)
    freedom = len(rows) - len(estimated)
    if freedom < 1:
        raise UserError(
            f"model: {len(rows)} training rows cannot determine {len(estimated)} coefficients and their errors: "
            "add rows or drop columns"
        )
    # QR of the estimated columns and the target: R b = c, and the last element is the norm of the residuals.
    reduced = linear.triangular(upper[:, [*estimated, -1]])
    inverse = np.linalg.inv(reduced[:-1, :-1])
    estimate = inverse @ reduced[:-1, -1]
    estimate[0] += center
    variance = reduced[-1, -1] ** 2 / freedom
    return Solution(estimated, estimate, variance * inverse @ inverse.T, variance, freedom)
