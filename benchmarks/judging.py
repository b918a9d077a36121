"""False aborts, power and needed requests of the gates of a rollout, simulated through a generated project's functions.

    python benchmarks/judging.py [PROJECT]            generated with deploy; default build/demo
    python benchmarks/judging.py --rollouts 500 ...   of each kind, fewer than 10,000

A rollout has LONGEST requests to the candidate, while the stable release gets as many times more as the share says.
After each LOOK requests, the gates of conf/delivery.yaml are asked; the first time that they say good or bad is kept,
but bad counts after good, too: steps go on. The last line on stdout is JSON.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LONGEST = 5000  # requests to the candidate
LOOK = 10  # requests between two looks: 20 a second, a share of 10 %, a scrape each five seconds
LOOKS = LONGEST // LOOK
PART = 1000  # rollouts at once
BATCH = 16  # rows of a request, all alike
Array = NDArray[Any]


def counted(rng: np.random.Generator, rollouts: int, requests: Array, share: float | Array) -> Array:
    """Draw the bad requests up to each look, [rollouts, looks]."""
    return rng.binomial(requests, share, (rollouts, LOOKS)).cumsum(1)


class Tally:
    """First looks at which rollouts were good and bad; LONGEST + LOOK for never."""

    def __init__(self) -> None:
        self.good, self.bad = list[Array](), list[Array]()

    def add(self, good: Array, bad: Array) -> None:
        """Add rollouts: whether they are good and bad at each look, [rollouts, looks]."""
        for kept, found in ((self.good, good), (self.bad, bad)):
            first = np.where(found.any(1), found.argmax(1), found.shape[1])
            kept.append((first + 1) * LOOK)

    def figures(self) -> dict[str, float]:
        """Shares of good and bad rollouts in percent, and the requests until then: mean, and for 95 of 100."""
        good, bad = np.concatenate(self.good), np.concatenate(self.bad)
        found: dict[str, float] = {"bad, %": round(100 * float((bad <= LONGEST).mean()), 2)}
        # A rollout that is bad before it is good is never promoted.
        found["promoted, %"] = round(100 * float((good < bad).mean()), 2)
        for name, first in (("good", good[good < bad]), ("bad", bad[bad <= LONGEST])):
            if len(first) > len(good) / 20:
                found[f"{name} after"] = round(float(first.mean()))
                found[f"{name} after, 95 %"] = round(float(np.quantile(first, 0.95)))
        return found


def requests(
    wald: Any,
    gates: Any,
    shares: Any,
    true: float | Array,
    stable: float | Array,
    times: int | Array,
    rollouts: int,
    before: int = 0,
) -> dict[str, float]:
    """Simulate a gate of requests.

    Args:
        wald: The test.
        gates: Probabilities and ratio.
        shares: Shares that it tells apart.
        true: Share of the candidate's requests that are bad, at each look if it changes.
        stable: Share of the stable release's requests that are bad.
        times: Requests of the stable release for each of the candidate's.
        rollouts: Number of rollouts.
        before: Requests of the stable release before the first one of the candidate.
    """
    rng, tally = np.random.default_rng(0), Tally()
    good, bad = wald.bounds(gates)
    ours, theirs = np.full(LOOKS, LOOK), LOOK * np.broadcast_to(times, LOOKS)
    traffic = ours / (ours + theirs)
    for start in range(0, rollouts, PART):
        size = min(PART, rollouts - start)
        old = rng.binomial(before, np.ravel(stable)[0], (size, 1)) + counted(rng, size, theirs, stable)
        new = counted(rng, size, ours, true)
        tolerable = wald.tolerable(shares, before + theirs.cumsum(), old)
        intolerable = wald.intolerable(shares, gates.ratio, tolerable)
        ratio = wald.likelihood_ratio(ours.cumsum(), new, tolerable, intolerable)
        worse = compared(wald, good, new, old, traffic, intolerable / tolerable) >= bad
        tally.add(ratio <= good, (ratio >= bad) & (worse | (traffic > wald.ALONE)))
    return tally.figures()


def compared(wald: Any, least: float, new: Array, old: Array, traffic: Array, times: Array) -> Array:
    """Compute the comparison with the stable release at each look, [rollouts, looks]."""
    news, olds = (np.diff(counts, prepend=counts[:, :1] * 0) for counts in (new, old))
    found, value = np.empty(new.shape), np.zeros(len(new))
    for look in range(new.shape[1]):
        value = wald.compared(value, news[:, look], olds[:, look], traffic[look], times[:, look], least)
        found[:, look] = value
    return found


def shift(drift: Any, margin: float, new: Array, old: Array, rows: int, rollouts: int) -> dict[str, float]:
    """Simulate the gate of shifted answers.

    Args:
        drift: Formulas.
        margin: Smallest size of a shift that counts.
        new: Shares of the candidate's answers.
        old: Shares of the stable release's answers.
        rows: Rows of a request, all alike; a request counts as one answer.
        rollouts: Number of rollouts.
    """
    rng, tally = np.random.default_rng(0), Tally()
    for start in range(0, rollouts, PART):
        size = (min(PART, rollouts - start), LOOKS)
        ours = rng.multinomial(LOOK, new, size).cumsum(1) * rows
        theirs = rng.multinomial(9 * LOOK, old, size).cumsum(1) * rows
        ours, theirs = (counts * np.minimum(1, counts.sum(-1, keepdims=True) / rows / counts.sum(-1, keepdims=True))
                        for counts in (ours, theirs))  # fmt: skip
        bad = (drift.evidence(theirs, ours) > drift.LIMIT) & (drift.psi(theirs, ours) > margin)
        tally.add(np.zeros_like(bad), bad)
    return tally.figures()


def main() -> None:
    """Simulate, and print figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("project", nargs="?", type=Path, default=Path("build/demo"))
    parser.add_argument("--rollouts", type=int, default=10_000, help="of each kind")
    arguments = parser.parse_args()
    os.chdir(arguments.project)
    (package,) = (file.parents[2].name for file in Path("src").glob("*/harness/delivery/wald.py"))
    sys.path.insert(0, str(Path("src").resolve()))
    wald, settings = (importlib.import_module(f"{package}.harness.delivery.{name}") for name in ("wald", "settings"))
    drift = importlib.import_module(f"{package}.harness.drift.evidence")
    gates, rollouts = settings.delivery().gates, arguments.rollouts

    found: dict[str, dict[str, float]] = {}

    def told(name: str, figures: dict[str, float]) -> None:
        found[name] = figures
        print(f"{name:58}{', '.join(f'{key} {value:g}' for key, value in figures.items())}", flush=True)

    for gate, shares in (("errors", gates.errors), ("slow", gates.slow)):
        low, high = shares.tolerable, shares.intolerable
        for name, true, stable, times in (
            ("none", 0.0, 0.0, 9),
            ("half of tolerable", low / 2, low / 2, 9),
            ("tolerable, stable none", low, 0.0, 9),
            ("tolerable", low, low, 9),
            ("tolerable, 1 % of traffic", low, low, 99),
            ("tolerable, half of traffic", low, low, 1),
            ("both twice tolerable", 2 * low, 2 * low, 9),
            ("both intolerable", high, high, 9),
            ("both intolerable, half of traffic", high, high, 1),
            ("both 5 x intolerable, half of traffic", 5 * high, 5 * high, 1),
            ("intolerable, twice as often as stable", 2 * high, high, 9),
            ("in the middle", (low + high) / 2, low, 9),
            ("intolerable", high, low, 9),
            ("intolerable, half of traffic", high, low, 1),
            ("5 x intolerable", 5 * high, low, 9),
            ("always", 1.0, low, 9),
        ):
            told(f"{gate}: {name}", requests(wald, gates, shares, true, stable, times, rollouts))
        for name, true in (("tolerable", low), ("intolerable", high)):
            figures = requests(wald, gates, shares, true, low, 0, rollouts, before=200)
            told(f"{gate}: {name}, all at once after 200", figures)
        # A tenth of the traffic, then half of it; then both fail for a while.
        look = np.arange(LOOKS)
        outage = np.where((look >= LOOKS // 4) & (look < LOOKS // 4 + 20), 0.5, low)
        steps = np.where(look < LOOKS // 5, 9, 1)
        told(f"{gate}: outage of both in a later step", requests(wald, gates, shares, outage, outage, steps, rollouts))
    for classes in (2, 10):
        even = np.full(classes, 1 / classes)
        one, moved = np.eye(classes)[0], even * np.where(np.arange(classes) % 2, 0.6, 1.4)
        skewed = 0.5 ** np.arange(1, classes + 1)
        skewed /= skewed.sum()
        for name, new, old, rows in (
            ("same", even, even, 1),
            ("same, skewed", skewed, skewed, 1),
            (f"same, {BATCH} rows a request", even, even, BATCH),
            ("one answer alone", one, even, 1),
            ("half of them 2.3 times as often", moved, even, 1),
        ):
            told(f"shift, {classes} classes: {name}", shift(drift, gates.shift, new, old, rows, rollouts))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
