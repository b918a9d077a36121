"""Maximum likelihood of a logistic regression, by Newton's method on rows that stay on disk."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.errors import UserError
from . import linear
from .encoding import Column

ITERATIONS = 50
HALVINGS = 30  # of a step that raises the loss
# Squared Newton decrement: so near the maximum, no coefficient would move by more than 10^-6 standard errors.
CONVERGED = 1e-12


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


def maximize(rows: Rows, l2: float, columns: Sequence[Column]) -> tuple[linear.Matrix, NDArray[Any]]:
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
