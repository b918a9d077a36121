"""Shares: no contributor has more than a fifth of what is added, and the rest is not added by a second call."""

import random

from my_experiment.harness.feedback.contracts import Labeled
from my_experiment.harness.feedback.shares import first, limits


def test_a_flood_is_cut_to_a_fifth() -> None:
    others = dict.fromkeys("abcde", 30)
    assert limits({"flood": 10_000, **others}, 6) == {"flood": 37, **others}
    assert limits({"flood": 10_000}, 6) == {"flood": 0}
    assert limits({"flood": 10_000}, 1) == {"flood": 10_000}  # nobody to share with
    assert limits({"flood": 10_000, "a": 30}, 2) == {"flood": 30, "a": 30}
    assert limits({}, 3) == {}


def test_a_second_call_adds_nothing() -> None:
    chance = random.Random(0)
    for _ in range(2000):
        offered = {str(name): int(chance.paretovariate(0.5)) % 500 for name in range(chance.randint(1, 12))}
        known = len(offered) + chance.randint(0, 3)
        taken = limits(offered, known)
        total, share = sum(taken.values()), max(0.2, 1 / known)
        assert all(count <= share * total + 1e-6 and count <= offered[name] for name, count in taken.items())
        rest = {name: offered[name] - count for name, count in taken.items()}
        assert sum(limits(rest, known).values()) == 0


def test_the_oldest_are_taken() -> None:
    examples = [Labeled(f"{time:032x}", 0, time, "ab"[time % 2], 1.0, {}, {}) for time in (5, 3, 1, 4, 2)]
    assert [example.time for example in first(examples, {"a": 1, "b": 2})] == [1, 2, 3]
