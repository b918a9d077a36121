"""Shares of contributors: none of them alone decides what a model learns."""

from collections import Counter
from collections.abc import Mapping, Sequence

from .contracts import Labeled

SHARE = 0.2  # of the new examples, of one contributor at most


def limits(counts: Mapping[str, int], known: int, share: float = SHARE) -> dict[str, int]:
    """Contributor -> number of new examples, of which none has more than a share.

    The largest numbers for which that holds. With fewer contributors than shares (with one, two, three or four, if the
    share is a fifth), the share is an equal one. What is left over waits for examples of others: a second call for the
    rest gives nothing.

    Args:
        counts: Contributor -> number of new examples that could be used.
        known: Number of contributors, including those of earlier examples.
        share: Largest share of one contributor.
    """
    share = max(share, 1 / max(1, known))
    total = sum(counts.values())
    while True:
        most = int(share * total + 1e-9)  # without the term, a fifth of 5 would be 0.99...
        taken = {name: min(count, most) for name, count in counts.items()}
        if sum(taken.values()) == total:
            return taken
        total = sum(taken.values())


def first(examples: Sequence[Labeled], taken: Mapping[str, int]) -> list[Labeled]:
    """The oldest examples of each contributor.

    Args:
        examples: Examples.
        taken: Contributor -> number of examples.
    """
    counted: Counter[str] = Counter()
    chosen = []
    for example in sorted(examples, key=lambda example: (example.time, *example.key)):
        counted[example.contributor] += 1
        if counted[example.contributor] <= taken[example.contributor]:
            chosen.append(example)
    return chosen
