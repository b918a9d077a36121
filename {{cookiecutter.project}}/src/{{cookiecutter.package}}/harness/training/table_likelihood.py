"""Maximum-likelihood estimation of logistic regression by Newton's method."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.errors import UserError
from . import linear
from .encoding import Column

ITERATIONS = 50  # maximum number of Newton steps
HALVINGS = 30  # maximum number of halvings of a step that increases the loss
# Squared Newton decrement below which no coefficient would change by more than 10^-6 standard errors.
CONVERGED = 1e-12


class Rows(NamedTuple):
    """The training rows.

    Attributes:
        encoded: Encoded rows, [N, F], on disk.
        labels: Labels, int64 [N].
        classes: Number of classes K.
        estimated: Indices of the P estimated coefficients of each class, 0 for the intercept, 1 + j for column j.
    """

    encoded: NDArray[Any]
    labels: NDArray[np.int64]
    classes: int
    estimated: list[int]


class Derivatives(NamedTuple):
    """Value, gradient and Hessian of the penalized negative log-likelihood.

    Attributes:
        loss: The value.
        gradient: float64 [P (K - 1)].
        hessian: float64 [P (K - 1), P (K - 1)].
    """

    loss: float
    gradient: NDArray[np.float64]
    hessian: NDArray[np.float64]


def maximize(rows: Rows, l2: float, columns: Sequence[Column]) -> tuple[linear.Matrix, NDArray[Any]]:
    """Maximum-likelihood estimate and its covariance, by damped Newton steps.

    Args:
        rows: The training rows.
        l2: Strength of the penalty.
        columns: The encoded columns.

    Returns:
        Estimate, float64 [P, K - 1], and covariance, float64 [P, K - 1, P, K - 1].

    Raises:
        UserError: If the likelihood has no maximum.
    """
    free = rows.classes - 1  # classes other than the reference
    # With b = 0 for the reference, sum |b_k - mean b|^2 is the quadratic form of I - 11'/K in the free classes.
    between = np.eye(free) - (1 / rows.classes if free > 1 else 0)
    penalty = np.kron(np.diag([0.0, *[l2] * (len(rows.estimated) - 1)]), between)
    counts = np.bincount(rows.labels, minlength=rows.classes)
    estimate = np.zeros((len(rows.estimated), free))
    estimate[0] = np.log(counts[1:] / counts[0])  # the maximum of a model with an intercept only
    current = derivatives(rows, estimate, penalty)
    previous_decrement = np.inf
    for _ in range(ITERATIONS):
        try:
            np.linalg.cholesky(current.hessian)  # fails if the likelihood is flat in some direction
            step = np.linalg.solve(current.hessian, current.gradient)
        except np.linalg.LinAlgError:
            break
        decrement = float(current.gradient @ step)
        step = step.reshape(estimate.shape)
        if decrement <= CONVERGED:
            # Convergence to a maximum is quadratic. If there is no maximum, each step only divides the decrement by e.
            if decrement > previous_decrement / 10 and not l2:
                break
            return estimate - step, np.linalg.inv(current.hessian).reshape(*estimate.shape, *estimate.shape)
        previous_decrement = decrement
        estimate, current = halved(rows, estimate, step, penalty, current.loss)
    largest = np.argsort(-np.abs(estimate[1:]).max(axis=1), kind="stable")[:3]
    names = ", ".join(repr(columns[rows.estimated[1 + j] - 1].name) for j in largest)
    raise UserError(
        f"model: the training rows are separated into classes (nearly) without error, mainly by {names}, so that the "
        f"likelihood has no maximum: raise model.l2 (now {l2:g}), to 1.0 for instance"
    )


def halved(
    rows: Rows, estimate: linear.Matrix, step: linear.Matrix, penalty: linear.Matrix, loss: float
) -> tuple[linear.Matrix, Derivatives]:
    """Estimate and derivatives after a step with backtracking.

    The step is halved until the loss does not increase.

    Args:
        rows: The training rows.
        estimate: float64 [P, K - 1].
        step: float64 [P, K - 1].
        penalty: Quadratic form of the penalty, [P (K - 1), P (K - 1)].
        loss: Loss before the step.
    """
    for halving in range(HALVINGS):
        moved = estimate - step / 2**halving
        result = derivatives(rows, moved, penalty)
        if result.loss <= loss + 1e-12 * abs(loss):
            break
    return moved, result


def derivatives(rows: Rows, estimate: linear.Matrix, penalty: linear.Matrix) -> Derivatives:
    """The derivatives of the penalized negative log-likelihood.

    Args:
        rows: The training rows.
        estimate: float64 [P, K - 1].
        penalty: Quadratic form of the penalty, [P (K - 1), P (K - 1)].
    """
    columns, free = estimate.shape
    flat = estimate.ravel()
    loss = 0.5 * float(flat @ penalty @ flat)
    gradient = np.zeros((columns, free))
    hessian = np.zeros((columns, free, columns, free))
    all_estimated = rows.estimated == list(range(rows.encoded.shape[1] + 1))
    for part, batch in linear.batches(rows.encoded):
        chosen = batch if all_estimated else batch[:, rows.estimated]
        labels = rows.labels[part]
        log = log_softmax(np.column_stack([np.zeros(len(chosen)), chosen @ estimate]))
        loss -= float(log[np.arange(len(labels)), labels].sum())
        probability = np.exp(log[:, 1:])
        gradient += chosen.T @ (probability - (labels[:, None] == np.arange(1, free + 1)))
        add_curvature(hessian, chosen, probability)
    square = hessian.reshape(columns * free, columns * free)
    return Derivatives(loss, gradient.ravel() + penalty @ flat, square + penalty)


def add_curvature(hessian: NDArray[np.float64], batch: linear.Matrix, probability: linear.Matrix) -> None:
    """Adds the Hessian of a batch to a sum.

    Args:
        hessian: The sum, float64 [P, K - 1, P, K - 1].
        batch: Rows with the estimated columns, [B, P].
        probability: Probabilities of all classes except the first, [B, K - 1].
    """
    for k in range(probability.shape[1]):
        for j in range(k + 1):
            weight = probability[:, k] * ((k == j) - probability[:, j])
            weighted = np.sqrt(np.abs(weight))[:, None] * batch  # computing A'A takes half the time of A'B
            block = (1 if k == j else -1) * weighted.T @ weighted
            hessian[:, k, :, j] += block
            if k != j:
                hessian[:, j, :, k] += block


def log_softmax(scores: linear.Matrix) -> linear.Matrix:
    """Logarithms of the softmax, float64 [N, K], without overflow."""
    shifted = scores - scores.max(axis=1, keepdims=True)
    logarithms: linear.Matrix = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return logarithms
