"""How often a client may ask, counted in this process or, for all processes and machines, in Redis."""

from __future__ import annotations

import logging
import math
import time
from functools import cache

from limits import RateLimitItem, RateLimitItemPerDay, parse
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import ConfigurationError
from redis.exceptions import RedisError

from ..core.errors import UserError, one_line
from .settings import EXPECTED

TIMEOUT = 0.25  # seconds for an answer of Redis
PAUSE = 5.0  # seconds without Redis after it has failed
SHARE = 100  # a process takes a hundredth of a rate from Redis at once, and gives it out by itself
REMEMBERED = 1.0  # seconds for which it knows that a client has answers left; each answer is counted in Redis
MOST = 10_000  # clients of which something is remembered

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
        self._here = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._shared = _redis(address) if address else None
        self._again = 0.0  # when to try Redis again
        self._taken: dict[tuple[RateLimitItem, str], tuple[float, int]] = {}  # until when, and how many are left
        self._told: dict[tuple[RateLimitItem, str], tuple[float, int]] = {}  # until when, and the answer of `spend`

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
                if not cost:
                    return await self._test(self._shared, limit, name)
                if isinstance(limit, RateLimitItemPerDay):
                    return await _spend(self._shared, limit, name, cost)
                return await self._take(self._shared, limit, name)
            except (RedisError, OSError) as error:
                _LOG.warning(
                    "SERVICE_RATE_STORAGE: Redis does not answer (%s): this process counts for itself", one_line(error)
                )
                self._again = time.monotonic() + PAUSE
        return await _spend(self._here, limit, name, cost)

    async def _test(self, shared: SlidingWindowCounterRateLimiter, limit: RateLimitItem, name: str) -> int:
        """Asks Redis whether anything is left, or remembers."""
        key, now = (limit, name), time.monotonic()
        until, seconds = self._told.get(key, (0.0, 0))
        if now >= until:
            seconds = await _spend(shared, limit, name, 0)
            _remember(self._told, key, (now + REMEMBERED, seconds))
        return seconds

    async def _take(self, shared: SlidingWindowCounterRateLimiter, limit: RateLimitItem, name: str) -> int:
        """Counts a request among those that this process has taken, or takes more."""
        key, now = (limit, name), time.monotonic()
        until, left = self._taken.get(key, (0.0, 0))
        if left and now < until:
            self._taken[key] = until, left - 1
            return 0
        share = limit.amount // SHARE
        if share > 1 and await shared.hit(limit, name, cost=share):
            _remember(self._taken, key, (now + limit.get_expiry(), share - 1))
            return 0
        return await _spend(shared, limit, name, 1)


def _remember(
    known: dict[tuple[RateLimitItem, str], tuple[float, int]], key: tuple[RateLimitItem, str], value: tuple[float, int]
) -> None:
    if len(known) >= MOST:
        known.clear()
    known[key] = value


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


async def _spend(limiter: SlidingWindowCounterRateLimiter, limit: RateLimitItem, name: str, cost: int) -> int:
    if await (limiter.hit(limit, name, cost=cost) if cost else limiter.test(limit, name)):
        return 0
    return max(1, math.ceil((await limiter.get_window_stats(limit, name)).reset_time - time.time()))
