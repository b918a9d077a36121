"""Logistic regression."""

from statistics import NormalDist
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..harness import contracts, prepared
from ..harness.contracts import Fitted
from ..harness.core.errors import UserError
from ..harness.training import linear

ITERATIONS = 50
# Squared Newton decrement: so near the maximum, no coefficient would move by more than 10^-6 standard errors.
CONVERGED = 1e-12
LARGEST = 4000  # coefficients: their covariance is a square matrix, its inverse costs their number cubed


@linear.one_thread
def logistic_regression(
    inputs: contracts.Inputs,
    manifest: contracts.Manifest,
    *,
    l2: Annotated[float, Field(ge=0)],
    confidence: Annotated[float, Field(gt=0, lt=1)],
) -> Fitted:
    """Maximum likelihood, by Newton's method: p = 1 / (1 + exp(-(b0 + b1 x1 + ... + bn xn))).

    p is the probability of the second class. With K > 2 classes, p_k is proportional to exp(b0_k + sum b_ik xi), where
    b of the first class, the reference, is 0. Newton's method for it is iteratively reweighted least squares.
    Source: T. Hastie, R. Tibshirani, J. Friedman, The Elements of Statistical Learning, 2nd edition, 2009, section 4.4.

    Where a plane separates the classes, the likelihood has no maximum: coefficients grow without end (A. Albert,
    J. A. Anderson, Biometrika 71, 1984). This is detected and refused; l2 > 0 then gives an answer. It subtracts
    l2 / 2 * sum b_i^2 from the log-likelihood, b of the encoded (standardised) columns, without the intercept: l2 is
    1/C of scikit-learn, for K > 2 too, where all K vectors count alike: sum over k of |b_k - mean b|^2. Equally it is a
    normal prior of variance 1/l2 on each coefficient, so that it fades as rows are added.

    Standard errors are roots of the diagonal of the inverse of the negative Hessian at the maximum: those of Wald for
    l2 = 0, of the normal (Laplace) approximation of the posterior for l2 > 0
    (C. M. Bishop, Pattern Recognition and Machine Learning, 2006, section 4.5.1). Penalised estimates are shrunk
    towards 0, and their intervals are to be read with the prior in mind.

    Args:
        inputs: The encoded rows of a table.
        manifest: Of the prepared data.
        l2: Strength of the penalty; 0 is plain maximum likelihood.
        confidence: Of the intervals of the coefficients.

    Returns:
        The fitted model. `loss` is minus the log-likelihood a row, without the penalty.

    Raises:
        UserError: Where a number is to be predicted, classes are separated, or there are too many coefficients.
    """
    linear.require(manifest, "classification", "logistic_regression", "linear_regression")
    columns, classes = linear.encoded_columns(inputs), manifest["classes"]
    rows, targets = inputs.array("train"), prepared.targets("train")
    others = len(classes) - 1
    if (rows.shape[1] + 1) * others > LARGEST:
        raise UserError(
            f"model: logistic_regression would have {(rows.shape[1] + 1) * others:,} coefficients (limit {LARGEST:,}): "
            "lower features.max_categories or choose model: mlp"
        )
    kept = list(range(rows.shape[1] + 1)) if l2 else linear.independent(linear.triangle(rows), columns)
    found, covariance = _maximise(rows, targets, kept, others, l2, columns)
    weights = np.zeros((rows.shape[1] + 1, 1 + others))
    weights[kept, 1:] = found

    def measure(scores: linear.Matrix, labels: NDArray[np.int64]) -> dict[str, float]:
        likelihood = _log_softmax(scores)[np.arange(len(labels)), labels].sum()
        return {"loss": -likelihood, "accuracy": (scores.argmax(axis=1) == labels).sum()}

    history = linear.history(weights, inputs, measure)
    likelihood = -history["loss"][0] * len(rows)
    quantile = NormalDist().inv_cdf((1 + confidence) / 2)
    table = [
        {"class": name} | row
        for k, name in enumerate(classes[1:])
        for row in linear.coefficients(columns, kept, found[:, k], covariance[:, k, :, k], quantile)
    ]
    method = f"Penalised maximum likelihood (l2 = {l2:g})" if l2 else "Maximum likelihood"
    return Fitted(
        graph=lambda: linear.to_onnx(weights, rows.dtype, "probabilities"),
        predict=lambda asked: np.exp(_log_softmax(linear.predict(weights, asked))),
        weights={"intercept": weights[0], "coefficients": weights[1:]},
        history=history,
        notes={
            "coefficients": table,
            "coefficients_note": f"{method} on {len(rows):,} rows, log-likelihood {likelihood:.6g}. Log-odds against "
            f"class {classes[0]!r} a unit of the column; a level of a category against the one left out. "
            f"{confidence:.0%} intervals by "
            + ("the normal approximation of the posterior; estimates are shrunk." if l2 else "Wald."),
        },
    )


def _maximise(
    rows: NDArray[Any], targets: NDArray[np.int64], kept: list[int], others: int, l2: float, columns: Any
) -> tuple[linear.Matrix, NDArray[Any]]:
    """Returns the estimate, [P, K - 1], and its covariance, [P, K - 1, P, K - 1], of the P columns that are kept."""
    # With b of the first class 0, sum |b_k - mean b|^2 is the quadratic form of I - 11'/K in the others.
    between = np.eye(others) - (1 / (others + 1) if others > 1 else 0)
    penalty = np.kron(np.diag([0.0, *[l2] * (len(kept) - 1)]), between)
    counts = np.bincount(targets, minlength=others + 1)
    found = np.zeros((len(kept), others))
    found[0] = np.log(counts[1:] / counts[0])  # the maximum for the intercept alone
    loss, gradient, hessian = _derivatives(rows, targets, kept, found, penalty)
    before = np.inf
    for _ in range(ITERATIONS):
        try:
            np.linalg.cholesky(hessian)  # its failure tells a direction in which the likelihood is flat
            step = np.linalg.solve(hessian, gradient)
        except np.linalg.LinAlgError:
            break
        decrement = float(gradient @ step)
        if decrement <= CONVERGED:
            # Newton squares the distance to a maximum. Where there is none, all is divided by e in each step instead.
            if decrement > before / 10 and not l2:
                break
            covariance = np.linalg.inv(hessian).reshape(len(kept), others, len(kept), others)
            return found - step.reshape(found.shape), covariance
        before = decrement
        for halving in range(30):
            moved = found - step.reshape(found.shape) / 2**halving
            after = _derivatives(rows, targets, kept, moved, penalty)
            if after[0] <= loss + 1e-12 * abs(loss):
                break
        found, (loss, gradient, hessian) = moved, after
    largest = np.argsort(-np.abs(found[1:]).max(axis=1), kind="stable")[:3]
    names = ", ".join(repr(columns[kept[1 + j] - 1].name) for j in largest)
    raise UserError(
        f"model: the training rows are separated into classes (nearly) without error, first of all by {names}, so that "
        f"the likelihood has no maximum: raise model.l2 (now {l2:g}), to 1.0 for instance"
    )


def _derivatives(
    rows: NDArray[Any], targets: NDArray[np.int64], kept: list[int], weights: linear.Matrix, penalty: linear.Matrix
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Returns the penalised negative log-likelihood, its gradient, [P (K - 1)], and its Hessian."""
    columns, others = weights.shape
    flat = weights.ravel()
    loss = 0.5 * float(flat @ penalty @ flat)
    gradient = np.zeros((columns, others))
    hessian = np.zeros((columns, others, columns, others))
    everything = kept == list(range(rows.shape[1] + 1))
    for part, batch in linear.batches(rows):
        chosen = batch if everything else batch[:, kept]
        labels = targets[part]
        log = _log_softmax(np.column_stack([np.zeros(len(chosen)), chosen @ weights]))
        loss -= float(log[np.arange(len(labels)), labels].sum())
        probability = np.exp(log[:, 1:])
        gradient += chosen.T @ (probability - (labels[:, None] == np.arange(1, others + 1)))
        for k in range(others):
            for other in range(k + 1):
                weight = probability[:, k] * ((k == other) - probability[:, other])
                weighted = np.sqrt(np.abs(weight))[:, None] * chosen  # A'A costs half of what A'B does
                block = (1 if k == other else -1) * weighted.T @ weighted
                hessian[:, k, :, other] += block
                if k != other:
                    hessian[:, other, :, k] += block
    square = hessian.reshape(columns * others, columns * others)
    return loss, gradient.ravel() + penalty @ flat, square + penalty


def _log_softmax(scores: linear.Matrix) -> linear.Matrix:
    """Returns the logarithms of the probabilities, [N, K], without overflow."""
    shifted = scores - scores.max(axis=1, keepdims=True)
    logarithms: linear.Matrix = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return logarithms
