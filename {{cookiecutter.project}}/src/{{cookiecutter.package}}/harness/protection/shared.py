"""Counts of what clients have asked, in Redis: for all processes and machines."""

from __future__ import annotations

import logging
import math
import time

from limits import RateLimitItem
from limits.aio.storage import RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import ConfigurationError
from redis.exceptions import RedisError

from ..core.errors import UserError, one_line
from .settings import EXPECTED

TIMEOUT = 0.25  # seconds for an answer of Redis
PAUSE = 5.0  # seconds without Redis after it has failed
SHARE = 100  # a process takes a hundredth of a limit from Redis at once, and gives it out by itself
MOST = 10_000  # clients for which something is taken

_LOG = logging.getLogger("bentoml")  # BentoML shows the messages of this one


class Shared:
    """Sliding windows in Redis, and what this process has taken from them."""

    def __init__(self, address: str) -> None:
        """Starts with what Redis has; connects with the first request.

        Args:
            address: Address of Redis.

        Raises:
            UserError: If it cannot be an address.
        """
        try:
            storage = RedisStorage(
                f"async+{address}",
                implementation="redispy",
                socket_timeout=TIMEOUT,
                socket_connect_timeout=TIMEOUT,
            )
        except (ConfigurationError, ValueError):
            raise UserError(EXPECTED) from None
        self._limiter = SlidingWindowCounterRateLimiter(storage)
        self._again = 0.0  # when to try Redis again
        self._taken: dict[tuple[RateLimitItem, str], tuple[float, int]] = {}  # until when, and how many are left

    async def spend(self, limit: RateLimitItem, name: str, cost: int) -> int | None:
        """Counts, if the limit allows it.

        Args:
            limit: The limit.
            name: The client.
            cost: What is counted; 0 to ask whether anything is left.

        Returns:
            0, or the seconds after which to try again; None while Redis does not answer.
        """
        if time.monotonic() < self._again:
            return None
        try:
            return await self._take(limit, name, cost)
        except (RedisError, OSError) as error:
            _LOG.warning(
                "SERVICE_RATE_STORAGE: Redis does not answer (%s): this process counts for itself", one_line(error)
            )
            self._again = time.monotonic() + PAUSE
            return None

    async def _take(self, limit: RateLimitItem, name: str, cost: int) -> int:
        """Counts among what this process has taken from Redis, or takes more."""
        key = limit, name
        if (left := self._left(key)) >= max(cost, 1):
            self._taken[key] = self._taken[key][0], left - cost
            return 0
        share = limit.amount // SHARE
        if 0 < cost < share and await self._limiter.hit(limit, name, cost=share):
            if len(self._taken) >= MOST:
                self._taken.clear()
            self._taken[key] = time.monotonic() + limit.get_expiry(), self._left(key) + share - cost
            return 0
        if await (self._limiter.hit(limit, name, cost=cost) if cost else self._limiter.test(limit, name)):
            return 0
        return max(1, math.ceil((await self._limiter.get_window_stats(limit, name)).reset_time - time.time()))

    def _left(self, key: tuple[RateLimitItem, str]) -> int:
        """What this process has taken, and not given out."""
        until, left = self._taken.get(key, (0.0, 0))
        return left if time.monotonic() < until else 0
