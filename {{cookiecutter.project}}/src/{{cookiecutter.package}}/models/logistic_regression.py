"""Logistic regression by maximum likelihood."""

from statistics import NormalDist
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..harness import contracts, prepared
from ..harness.contracts import Fitted
from ..harness.core.errors import UserError
from ..harness.training import linear, table_likelihood

LARGEST = 4000  # coefficients: inverting their Hessian takes time cubic in their number


@linear.one_thread
def logistic_regression(
    inputs: contracts.Inputs,
    manifest: contracts.Manifest,
    *,
    l2: Annotated[float, Field(ge=0)],
    confidence: Annotated[float, Field(gt=0, lt=1)],
) -> Fitted:
    """Logistic regression, fitted by maximum likelihood with Newton's method.

    The probability of the second class is p = 1 / (1 + exp(-(b0 + b1 x1 + ... + bn xn))). With K > 2 classes, p_k is
    proportional to exp(b0_k + sum b_ik xi), and the coefficients of the first class, the reference, are 0. Newton's
    method for this likelihood is iteratively reweighted least squares.
    Source: T. Hastie, R. Tibshirani, J. Friedman, The Elements of Statistical Learning, 2nd edition, 2009, section 4.4.

    If a plane separates the classes, the likelihood has no maximum: the coefficients diverge (A. Albert, J. A.
    Anderson, Biometrika 71, 1984). This is detected and raises an error for l2 = 0; with l2 > 0 there is always a
    solution. The penalty subtracts l2 / 2 * sum b_i^2 from the log-likelihood, with b of the encoded (standardized)
    columns, the intercept excluded. l2 is 1/C of scikit-learn, also for K > 2, when the sum is that of |b_k - mean b|^2
    over all K classes. The penalty is equivalent to a normal prior of variance 1/l2 on each coefficient: its effect
    shrinks as rows are added.

    Standard errors are the square roots of the diagonal of the inverse negative Hessian at the maximum: Wald's for
    l2 = 0, those of the normal (Laplace) approximation of the posterior for l2 > 0
    (C. M. Bishop, Pattern Recognition and Machine Learning, 2006, section 4.5.1). Penalized estimates are shrunk
    towards 0, and their intervals depend on the prior.

    Args:
        inputs: The encoded rows of a table.
        manifest: Manifest of the prepared data.
        l2: Strength of the penalty; 0 is plain maximum likelihood.
        confidence: Confidence level of the coefficients' intervals.

    Returns:
        The fitted model. `loss` in its history is the negative log-likelihood per row, without the penalty.

    Raises:
        UserError: If the target is a number, classes are separated, or there are too many coefficients.
    """
    linear.require(manifest, "classification", "logistic_regression", "linear_regression")
    columns, classes = linear.encoded_columns(inputs), manifest["classes"]
    encoded, labels = inputs.array("train"), prepared.targets("train")
    width = encoded.shape[1] + 1
    if (count := width * (len(classes) - 1)) > LARGEST:
        raise UserError(
            f"model: logistic_regression would have {count:,} coefficients (limit {LARGEST:,}): "
            "lower features.max_categories or choose model: mlp"
        )
    estimated = list(range(width)) if l2 else linear.independent(linear.triangle(encoded), columns)
    estimate, covariance = table_likelihood.maximize(
        table_likelihood.Rows(encoded, labels, len(classes), estimated), l2, columns
    )
    weights = np.zeros((width, len(classes)))
    weights[estimated, 1:] = estimate

    def measure(scores: linear.Matrix, labels: NDArray[np.int64]) -> dict[str, float]:
        likelihood = table_likelihood.log_softmax(scores)[np.arange(len(labels)), labels].sum()
        return {"loss": -likelihood, "accuracy": (scores.argmax(axis=1) == labels).sum()}

    history = linear.history(weights, inputs, measure)
    quantile = NormalDist().inv_cdf((1 + confidence) / 2)
    method, intervals = "Maximum likelihood", "Wald."
    if l2:
        method = f"Penalized maximum likelihood (l2 = {l2:g})"
        intervals = "the normal approximation of the posterior; estimates are shrunk."
    return Fitted(
        graph=lambda: linear.to_onnx(weights, encoded.dtype, "probabilities"),
        predict=lambda rows: np.exp(table_likelihood.log_softmax(linear.predict(weights, rows))),
        weights={"intercept": weights[0], "coefficients": weights[1:]},
        history=history,
        notes={
            "coefficients": [
                {"class": name} | row
                for k, name in enumerate(classes[1:])
                for row in linear.coefficients(columns, estimated, estimate[:, k], covariance[:, k, :, k], quantile)
            ],
            "coefficients_note": f"{method} on {len(encoded):,} rows, log-likelihood "
            f"{-history['loss'][0] * len(encoded):.6g}. Log-odds against class {classes[0]!r} per unit of the "
            f"column; a level of a category against the one left out. {100 * confidence:g}% intervals by {intervals}",
        },
    )
