"""Logistic regression."""

from collections.abc import Sequence
from statistics import NormalDist
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

ITERATIONS = 50
HALVINGS = 30  # of a step that raises the loss
# Squared Newton decrement: so near the maximum, no coefficient would move by more than 10^-6 standard errors.
CONVERGED = 1e-12
LARGEST = 4000  # coefficients: their covariance is a square matrix, its inverse costs their number cubed


class Rows(NamedTuple):
    """The training rows.

    Attributes:
        encoded: [N, F], on disk.
        labels: int64 [N].
        classes: Number of classes K.
        estimated: Indices of the P estimated coefficients of a class, 0 for the intercept, 1 + j for column j.
    """

    encoded: NDArray[Any]
    labels: NDArray[np.int64]
    classes: int
    estimated: list[int]


class Derivatives(NamedTuple):
    """The penalized negative log-likelihood with its gradient, [P (K - 1)], and its Hessian."""

    loss: float
    gradient: NDArray[np.float64]
    hessian: NDArray[np.float64]


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

    If a plane separates the classes, the likelihood has no maximum: coefficients grow without end (A. Albert,
    J. A. Anderson, Biometrika 71, 1984). This is detected and refused; l2 > 0 has a solution. It subtracts
    l2 / 2 * sum b_i^2 from the log-likelihood, b of the encoded (standardized) columns, without the intercept: l2 is
    1/C of scikit-learn, for K > 2 too, where all K vectors count alike: sum over k of |b_k - mean b|^2. Equally it is a
    normal prior of variance 1/l2 on each coefficient, so that it fades as rows are added.

    Standard errors are roots of the diagonal of the inverse of the negative Hessian at the maximum: those of Wald for
    l2 = 0, of the normal (Laplace) approximation of the posterior for l2 > 0
    (C. M. Bishop, Pattern Recognition and Machine Learning, 2006, section 4.5.1). Penalized estimates are shrunk
    towards 0, and their intervals are to be read with the prior in mind.

    Args:
        inputs: The encoded rows of a table.
        manifest: Manifest of the prepared data.
        l2: Strength of the penalty; 0 is plain maximum likelihood.
        confidence: Confidence level of the coefficients' intervals.

    Returns:
        The fitted model. `loss` is the negative log-likelihood per row, without the penalty.

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
    estimate, covariance = maximize(Rows(encoded, labels, len(classes), estimated), l2, columns)
    weights = np.zeros((width, len(classes)))
    weights[estimated, 1:] = estimate

    def measure(scores: linear.Matrix, labels: NDArray[np.int64]) -> dict[str, float]:
        likelihood = log_softmax(scores)[np.arange(len(labels)), labels].sum()
        return {"loss": -likelihood, "accuracy": (scores.argmax(axis=1) == labels).sum()}

    history = linear.history(weights, inputs, measure)
    quantile = NormalDist().inv_cdf((1 + confidence) / 2)
    method, intervals = "Maximum likelihood", "Wald."
    if l2:
        method = f"Penalized maximum likelihood (l2 = {l2:g})"
        intervals = "the normal approximation of the posterior; estimates are shrunk."
    return Fitted(
        graph=lambda: linear.to_onnx(weights, encoded.dtype, "probabilities"),
        predict=lambda rows: np.exp(log_softmax(linear.predict(weights, rows))),
        weights={"intercept": weights[0], "coefficients": weights[1:]},
        history=history,
        notes={
            "coefficients": [
                {"class": name} | row
                for k, name in enumerate(classes[1:])
                for row in linear.coefficients(columns, estimated, estimate[:, k], covariance[:, k, :, k], quantile)
            ],
            "coefficients_note": f"{method} on {len(encoded):,} rows, log-likelihood "
            f"{-history['loss'][0] * len(encoded):.6g}. Log-odds against class {classes[0]!r} a unit of the column; a "
            f"level of a category against the one left out. {confidence:.0%} intervals by {intervals}",
        },
    )


def maximize(rows: Rows, l2: float, columns: "Sequence[Column]") -> tuple[linear.Matrix, NDArray[Any]]:
    """The estimate, [P, K - 1], and its covariance, [P, K - 1, P, K - 1], by Newton's method with halved steps.

    Args:
        rows: The training rows.
        l2: Strength of the penalty.
        columns: The encoded columns.

    Raises:
        UserError: If the likelihood has no maximum.
    """
    others = rows.classes - 1
    # With b of the first class 0, sum |b_k - mean b|^2 is the quadratic form of I - 11'/K in the others.
    between = np.eye(others) - (1 / rows.classes if others > 1 else 0)
    penalty = np.kron(np.diag([0.0, *[l2] * (len(rows.estimated) - 1)]), between)
    counts = np.bincount(rows.labels, minlength=rows.classes)
    estimate = np.zeros((len(rows.estimated), others))
    estimate[0] = np.log(counts[1:] / counts[0])  # the maximum for the intercept alone
    here = derivatives(rows, estimate, penalty)
    before = np.inf
    for _ in range(ITERATIONS):
        try:
            np.linalg.cholesky(here.hessian)  # fails if the likelihood is flat in some direction
            step = np.linalg.solve(here.hessian, here.gradient)
        except np.linalg.LinAlgError:
            break
        decrement = float(here.gradient @ step)
        step = step.reshape(estimate.shape)
        if decrement <= CONVERGED:
            # Newton squares the distance to a maximum. If there is none, each step divides everything by e instead.
            if decrement > before / 10 and not l2:
                break
            return estimate - step, np.linalg.inv(here.hessian).reshape(*estimate.shape, *estimate.shape)
        before = decrement
        estimate, here = halved(rows, estimate, step, penalty, here.loss)
    largest = np.argsort(-np.abs(estimate[1:]).max(axis=1), kind="stable")[:3]
    names = ", ".join(repr(columns[rows.estimated[1 + j] - 1].name) for j in largest)
    raise UserError(
        f"model: the training rows are separated into classes (nearly) without error, first of all by {names}, so that "
        f"the likelihood has no maximum: raise model.l2 (now {l2:g}), to 1.0 for instance"
    )


def halved(
    rows: Rows, estimate: linear.Matrix, step: linear.Matrix, penalty: linear.Matrix, loss: float
) -> tuple[linear.Matrix, Derivatives]:
    """The estimate after a step, halved until the loss does not rise, and the derivatives there.

    Args:
        rows: The training rows.
        estimate: float64 [P, K - 1].
        step: float64 [P, K - 1].
        penalty: Quadratic form of the penalty, [P (K - 1), P (K - 1)].
        loss: Loss before the step.
    """
    for halving in range(HALVINGS):
        moved = estimate - step / 2**halving
        there = derivatives(rows, moved, penalty)
        if there.loss <= loss + 1e-12 * abs(loss):
            break
    return moved, there


def derivatives(rows: Rows, estimate: linear.Matrix, penalty: linear.Matrix) -> Derivatives:
    """The derivatives of the penalized negative log-likelihood.

    Args:
        rows: The training rows.
        estimate: float64 [P, K - 1].
        penalty: Quadratic form of the penalty, [P (K - 1), P (K - 1)].
    """
    columns, others = estimate.shape
    flat = estimate.ravel()
    loss = 0.5 * float(flat @ penalty @ flat)
    gradient = np.zeros((columns, others))
    hessian = np.zeros((columns, others, columns, others))
    everything = rows.estimated == list(range(rows.encoded.shape[1] + 1))
    for part, batch in linear.batches(rows.encoded):
        chosen = batch if everything else batch[:, rows.estimated]
        labels = rows.labels[part]
        log = log_softmax(np.column_stack([np.zeros(len(chosen)), chosen @ estimate]))
        loss -= float(log[np.arange(len(labels)), labels].sum())
        probability = np.exp(log[:, 1:])
        gradient += chosen.T @ (probability - (labels[:, None] == np.arange(1, others + 1)))
        add_curvature(hessian, chosen, probability)
    square = hessian.reshape(columns * others, columns * others)
    return Derivatives(loss, gradient.ravel() + penalty @ flat, square + penalty)


def add_curvature(hessian: NDArray[np.float64], batch: linear.Matrix, probability: linear.Matrix) -> None:
    """Adds the Hessian of a batch.

    Args:
        hessian: float64 [P, K - 1, P, K - 1].
        batch: Rows with the estimated columns, [B, P].
        probability: Probabilities of all classes but the first, [B, K - 1].
    """
    for k in range(probability.shape[1]):
        for other in range(k + 1):
            weight = probability[:, k] * ((k == other) - probability[:, other])
            weighted = np.sqrt(np.abs(weight))[:, None] * batch  # A'A costs half of what A'B does
            block = (1 if k == other else -1) * weighted.T @ weighted
            hessian[:, k, :, other] += block
            if k != other:
                hessian[:, other, :, k] += block


def log_softmax(scores: linear.Matrix) -> linear.Matrix:
    """Logarithms of the probabilities, [N, K], without overflow."""
    shifted = scores - scores.max(axis=1, keepdims=True)
    logarithms: linear.Matrix = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return logarithms
