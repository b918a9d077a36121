"""Attacks that only ask the model, as anyone can who may use it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tqdm import tqdm

Values = NDArray[Any]  # numbers of the examples, [n, ...]
Places = NDArray[np.int64]  # which of the examples, [m]
Ask = Callable[[Values, Places], tuple[NDArray[np.float64], NDArray[np.bool_]]]  # -> loss of each, whether it is enough
Propose = Callable[[Values, Places, float], Values]  # (best so far, which, share of the queries used) -> changed
# Part of an example that a proposal changes, halved after these shares of the queries.
FIRST, HALVED = 0.8, (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)


def search(ask: Ask, start: Values, propose: Propose, queries: int, bar: "tqdm[Any]") -> Values:
    """Random search for changes to which the model gives its worst answers.

    A change is kept if it increases the loss. No gradient is needed, and none can be hidden.
    Source: M. Andriushchenko et al., Square Attack, ECCV 2020.

    ART's SquareAttack takes only pictures, of equal height and width, never reaches their last row and column, tries
    the same square in all, asks three times for each, and loses sight where a probability is 1.

    Args:
        ask: Loss of changed examples.
        start: Examples from which the search starts.
        propose: Changes of the best examples so far.
        queries: Maximum number of questions for each example.
        bar: Progress bar of the questions.
    """
    best = start.copy()
    losses, enough = ask(best, np.arange(len(best)))
    for query in range(queries):
        active = np.flatnonzero(~enough)
        if not len(active):
            bar.update(queries - query)
            break
        proposal = propose(best[active], active, query / queries)
        loss, found = ask(proposal, active)
        better = loss > losses[active]
        kept = active[better]
        best[kept], losses[kept], enough[kept] = proposal[better], loss[better], found[better]
        bar.update()
    return best


def share(progress: float) -> float:
    """Part of an example that a proposal changes.

    Args:
        progress: Share of the queries that are used, from 0.
    """
    return float(FIRST / 2 ** np.searchsorted(HALVED, progress))


def signs(low: Values, high: Values, generator: np.random.Generator) -> Values:
    """Noise as strong as an attack: every number at a random end of its interval.

    Args:
        low: Lower ends, [n, ...].
        high: Upper ends, [n, ...].
        generator: Source of random numbers.
    """
    return np.where(generator.random(low.shape) < 0.5, low, high)
