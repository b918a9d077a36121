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
                return await _spend(self._shared, limit, name, cost)
            except (RedisError, OSError) as error:
                _LOG.warning(
                    "SERVICE_RATE_STORAGE: Redis does not answer (%s): this process counts for itself", one_line(error)
                )
                self._again = time.monotonic() + PAUSE
        return await _spend(self._here, limit, name, cost)


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
