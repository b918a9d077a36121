"""Counts of what clients have asked, in the memory of this process."""

from __future__ import annotations

import math
import time

from limits import RateLimitItem

SMALLEST = 1024  # counters below which none is dropped


class Windows:
    """Sliding windows: the count of the window before fades while the current window passes.

    Source: "sliding window counter" of the library `limits`, whose own memory looks at all clients with each request:
    with 10,000 of them 0.7 ms, here 1 us with any number (docs/decisions/0045-keys.md of the template).
    """

    def __init__(self) -> None:
        """Starts at 0."""
        self._counts: dict[tuple[RateLimitItem, str], tuple[int, int, int]] = {}  # number of the window, before, now
        self._sweep = SMALLEST  # size at which counters of the past are dropped

    def spend(self, limit: RateLimitItem, name: str, cost: int) -> int:
        """Counts, if the limit allows it.

        Args:
            limit: The limit.
            name: The client.
            cost: What is counted; 0 to ask whether anything is left.

        Returns:
            0, or the seconds after which there is room.
        """
        length = limit.get_expiry()
        number, passed = divmod(time.monotonic(), length)
        window, before, now = self._counts.get((limit, name), (int(number), 0, 0))
        if window != number:
            before, now = (now if window == number - 1 else 0), 0
        room = limit.amount - now - max(cost, 1)
        if math.floor(before * (1 - passed / length)) <= room:
            if cost:
                self._counts[limit, name] = int(number), before, now + cost
                self._drop()
            return 0
        wait = length - passed
        if room >= 0:  # what fades makes room in this window
            wait -= length * (room + 1) / before
        elif (room := limit.amount - max(cost, 1)) >= 0:  # in the next one, in which `now` fades
            wait += length * max(0.0, 1 - (room + 1) / now)
        else:  # never at once
            wait = length
        return max(1, math.ceil(wait))

    def _drop(self) -> None:
        """Drops counters of the past each time that their number has doubled."""
        if len(self._counts) < self._sweep:
            return
        clock = time.monotonic()
        self._counts = {
            key: count for key, count in self._counts.items() if count[0] >= clock // key[0].get_expiry() - 1
        }
        self._sweep = max(SMALLEST, 2 * len(self._counts))
