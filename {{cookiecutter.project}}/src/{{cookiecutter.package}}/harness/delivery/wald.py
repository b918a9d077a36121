"""Wald's sequential probability ratio test, on numbers of requests; Prometheus computes the same.

A request is bad or not. The logarithm of the likelihood ratio of an intolerable share of bad requests to a tolerable
one is linear in their numbers. It may be looked at after each request: with a share that is tolerable, it ever exceeds
the upper bound with a probability of at most about `false_abort`; with one that is not, it ever falls below the lower
bound with one of at most about `false_promotion`.

Numbers of requests do not tell an outage of both releases from a bad candidate if the candidate's share of the traffic
was not the same all the time. So `compared` takes each bad request when it comes: if both releases fail as often, it is
one of the candidate with the probability of its share of the traffic then.

Sources: A. Wald, Sequential Tests of Statistical Hypotheses, Annals of Mathematical Statistics 16, 1945; at any time by
Ville's inequality, as in M. Lindon and A. Malek, Anytime-Valid Inference for Multinomial Count Data, NeurIPS 2022.
"""

from math import log
from typing import Any

import numpy as np

from .settings import Gates, Shares

# Requests with the tolerable share of bad ones that are added to those of the stable release: a single failure among
# its first ones says nothing about its share.
PRIOR = 100
# From this share of the traffic on, the stable release has too little to be compared with: the objective decides alone.
ALONE = 0.8
Numbers = Any  # a float, or an array of them


def bounds(gates: Gates) -> tuple[float, float]:
    """The ratio at which a release is good, and that at which it is bad.

    Args:
        gates: Probabilities of errors of both kinds.
    """
    alpha, beta = gates.false_abort, gates.false_promotion
    return log(beta / (1 - alpha)), log((1 - beta) / alpha)


def tolerable(shares: Shares, requests: Numbers, bad: Numbers) -> Numbers:
    """The share that is tolerable beside that of the stable release.

    Args:
        shares: Shares of the objective.
        requests: Requests to the stable release.
        bad: The bad ones among them.
    """
    return np.maximum((bad + PRIOR * shares.tolerable) / (requests + PRIOR), shares.tolerable)


def intolerable(shares: Shares, ratio: float, tolerable: Numbers) -> Numbers:
    """The share that is intolerable beside a tolerable one; less than 1.

    Args:
        shares: Shares of the objective.
        ratio: Factor to a tolerable share that exceeds that of the objective.
        tolerable: The tolerable share.
    """
    return np.maximum(np.minimum(ratio * tolerable, (1 + tolerable) / 2), shares.intolerable)


def likelihood_ratio(requests: Numbers, bad: Numbers, tolerable: Numbers, intolerable: Numbers) -> Numbers:
    """Logarithm of the likelihood ratio.

    Args:
        requests: Requests to the candidate.
        bad: The bad ones among them.
        tolerable: The tolerable share.
        intolerable: The intolerable share.
    """
    good = np.log((1 - intolerable) / (1 - tolerable))
    return bad * np.log(intolerable / tolerable) + (requests - bad) * good


def compared(
    before: Numbers, bad: Numbers, stable_bad: Numbers, traffic: Numbers, times: Numbers, least: float
) -> Numbers:
    """Logarithm of the likelihood ratio of failing so many times as often as the stable release to as often.

    Args:
        before: Its value until now.
        bad: Bad requests to the candidate since then.
        stable_bad: Bad requests to the stable release since then.
        traffic: The candidate's share of the requests to both.
        times: How many times as often.
        least: Its smallest value: what was good for long must not hide what comes.
    """
    step = bad * np.log(times) - (bad + stable_bad) * np.log(1 + (times - 1) * traffic)
    return np.maximum(before + step, least)


def needed(ratio: Numbers, good: float, tolerable: Numbers, intolerable: Numbers) -> Numbers:
    """Requests until a release is good if none of them is bad.

    Args:
        ratio: Logarithm of the likelihood ratio so far.
        good: The ratio at which a release is good.
        tolerable: The tolerable share.
        intolerable: The intolerable share.
    """
    return np.ceil((good - ratio) / np.log((1 - intolerable) / (1 - tolerable)))
