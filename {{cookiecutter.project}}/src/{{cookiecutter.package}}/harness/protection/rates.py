"""How often a client may ask, counted in this process or, for all processes and machines, in Redis."""

from __future__ import annotations

from functools import cache

from limits import RateLimitItem, RateLimitItemPerDay, parse

from .windows import Windows

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
        self._shared = None
        if address:
            from .shared import Shared  # here, because a client of Redis takes 20 MB of each service's memory

            self._shared = Shared(address)

    async def spend(self, limit: RateLimitItem, name: str, cost: int = 1) -> int:
        """Counts, if the limit allows it; in this process while Redis does not answer.

        Args:
            limit: The limit.
            name: The client.
            cost: What is counted; 0 to ask whether anything is left.

        Returns:
            0, or the seconds after which to try again.
        """
        wait = await self._shared.spend(limit, name, cost) if self._shared else None
        return self._here.spend(limit, name, cost) if wait is None else wait
