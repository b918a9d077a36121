"""How often a client may ask, counted in this process or, for all processes and machines, in Redis."""

from __future__ import annotations

import logging
import math
import time
from functools import cache

from limits import RateLimitItem, RateLimitItemPerDay, parse
from limits.aio.storage import RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import ConfigurationError
from redis.exceptions import RedisError

from ..core.errors import UserError, one_line
from .settings import EXPECTED
from .windows import Windows

TIMEOUT = 0.25  # seconds for an answer of Redis
PAUSE = 5.0  # seconds without Redis after it has failed
SHARE = 100  # a process takes a hundredth of a limit from Redis at once, and gives it out by itself
MOST = 10_000  # clients for which something is taken

_LOG = logging.getLogger("bentoml")  # BentoML shows the messages of this one

rate = cache(parse)  # "100/second" -> limit
answers = cache(RateLimitItemPerDay)  # predictions in a day -> limit


class Rates:
    """Counters of what clients have asked, each in a window of time that ends now."""

    def __init__(self, address: str | None) -> None:
        """Starts at 0, or with what Redis has; connects with the first request.

        Args:
            address: Address of Redis; None to count in the memory of this process.

        Raises:
            UserError: If it cannot be an address.
        """
        self._here = Windows()
        self._shared = _redis(address) if address else None
        self._again = 0.0  # when to try Redis again
        self._taken: dict[tuple[RateLimitItem, str], tuple[float, int]] = {}  # until when, and how many are left

    async def spend(self, limit: RateLimitItem, name: str, cost: int = 1) -> int:
        """Counts, if the limit allows it; in this process while Redis does not answer.

        Args:
            limit: The limit.
            name: The client.
            cost: What is counted; 0 to ask whether anything is left.

        Returns:
            0, or the seconds after which to try again.
        """
        if self._shared and time.monotonic() >= self._again:
            try:
                return await self._take(self._shared, limit, name, cost)
            except (RedisError, OSError) as error:
                _LOG.warning(
                    "SERVICE_RATE_STORAGE: Redis does not answer (%s): this process counts for itself", one_line(error)
                )
                self._again = time.monotonic() + PAUSE
        return self._here.spend(limit, name, cost)

    async def _take(self, shared: SlidingWindowCounterRateLimiter, limit: RateLimitItem, name: str, cost: int) -> int:
        """Counts among what this process has taken from Redis, or takes more."""
        key = limit, name
        if (left := self._left(key)) >= max(cost, 1):
            self._taken[key] = self._taken[key][0], left - cost
            return 0
        share = limit.amount // SHARE
        if 0 < cost < share and await shared.hit(limit, name, cost=share):
            if len(self._taken) >= MOST:
                self._taken.clear()
            self._taken[key] = time.monotonic() + limit.get_expiry(), self._left(key) + share - cost
            return 0
        if await (shared.hit(limit, name, cost=cost) if cost else shared.test(limit, name)):
            return 0
        return max(1, math.ceil((await shared.get_window_stats(limit, name)).reset_time - time.time()))

    def _left(self, key: tuple[RateLimitItem, str]) -> int:
        """What this process has taken, and not given out."""
        until, left = self._taken.get(key, (0.0, 0))
        return left if time.monotonic() < until else 0


def _redis(address: str) -> SlidingWindowCounterRateLimiter:
    try:
        storage = RedisStorage(
            f"async+{address}",
            implementation="redispy",
            socket_timeout=TIMEOUT,
            socket_connect_timeout=TIMEOUT,
        )
    except (ConfigurationError, ValueError):
        raise UserError(EXPECTED) from None
    return SlidingWindowCounterRateLimiter(storage)
