"""Formulas of drift and quality, on numbers of rows in bins; Prometheus computes the same."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[Any]  # of rows, [..., K]; not always integers, because Prometheus interpolates
Numbers = NDArray[np.float64]
LIMIT = 3.0  # decimal digits of evidence, for one variable


def evidence(reference: Counts, production: Counts) -> Numbers:
    """Evidence that production has a distribution of its own, in decimal digits, [...].

    It is the Bayes factor, to the base 10, of "two distributions" against "one distribution gave both", each with a
    uniform prior over the probabilities of the K bins:

        log10 B(production + 1) B(reference + 1) / (B(1) B(reference + production + 1))

    with the multivariate beta function B(a) = prod Gamma(a_i) / Gamma(sum a_i). It knows how uncertain a small
    reference is. Under "one distribution", the probability that it ever exceeds k digits while production grows is at
    most 10^-k (Ville's inequality), on average over the prior.

    Source: E. Gunel, J. Dickey, Bayes factors for independence in contingency tables, Biometrika 61, 1974.

    Args:
        reference: Numbers of rows of the reference, [..., K].
        production: Numbers of rows of production, [..., K].
    """
    a, b = np.asarray(reference, np.float64), np.asarray(production, np.float64)
    natural = _log_beta(a + 1) + _log_beta(b + 1) - _log_beta(a + b + 1) - _log_beta(np.ones(a.shape[-1]))
    digits: Numbers = natural / np.log(10)
    return digits


def limit(variables: int) -> float:
    """Evidence from which a variable out of several alarms: LIMIT for all of them together (Bonferroni).

    Args:
        variables: Number of variables that are looked at.
    """
    return LIMIT + float(np.log10(max(variables, 1)))


def psi(reference: Counts, production: Counts) -> Numbers:
    """Population stability index: how far production's shares are from the reference's, [...].

        sum (p - q) ln(p / q)

    This is Jeffreys' divergence: 0 for equal shares; by convention 0.1 is a small shift and 0.25 a large one. Half a
    row is added to each bin, so that empty bins have a share, too. It says nothing of chance: of few rows it is large.

    Args:
        reference: Numbers of rows of the reference, [..., K].
        production: Numbers of rows of production, [..., K].
    """
    q, p = (_shares(np.asarray(counts, np.float64) + 0.5) for counts in (reference, production))
    divergence: Numbers = ((p - q) * np.log(p / q)).sum(-1)
    return divergence


def estimated_quality(reference: Counts, right: Counts, production: Counts) -> float:
    """Expected share of right answers in production, without a label; NaN without a row.

        sum over bins of (share of production's rows) * (share of right answers of the reference's rows)

    The bins are those of the confidence. It follows easier and harder rows, but cannot see that the truth itself has
    changed: only labels can.

    Sources: D. Guillory et al., Predicting with Confidence on Unseen Distributions, ICCV 2021; NannyML's CBPE.

    Args:
        reference: Numbers of rows of the reference, [K].
        right: How many of these were answered right, [K].
        production: Numbers of rows of production, [K].
    """
    total = float(np.sum(production))
    if not total:
        return float("nan")
    return float((np.asarray(production) * np.asarray(right) / np.maximum(reference, 1)).sum() / total)


def _shares(counts: Numbers) -> Numbers:
    shares: Numbers = counts / counts.sum(-1, keepdims=True)
    return shares


def _log_beta(a: Numbers) -> Numbers:
    """Logarithm of the multivariate beta function, [...], of arguments of at least 1, [..., K]."""
    logarithm: Numbers = _log_gamma(a).sum(-1) - _log_gamma(a.sum(-1))
    return logarithm


def _log_gamma(x: Numbers) -> Numbers:
    """Logarithm of the gamma function for x >= 1, with an absolute error below 1e-11 for small x.

    Stirling's series at x + 7, and Gamma(x) = Gamma(x + 7) / (x (x + 1) ... (x + 6)). SciPy, which has the function,
    would be the largest package of the image.
    """
    product = np.ones_like(x)
    for step in range(7):
        product *= x + step
    z = x + 7
    inverse = 1 / z
    square = inverse * inverse
    series = inverse * (1 / 12 - square * (1 / 360 - square * (1 / 1260 - square * (1 / 1680 - square / 1188))))
    logarithm: Numbers = (z - 0.5) * np.log(z) - z + 0.5 * np.log(2 * np.pi) + series - np.log(product)
    return logarithm
