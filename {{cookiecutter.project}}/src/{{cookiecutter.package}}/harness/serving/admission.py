"""Admission: load shedding before the event loop fills with requests.

Without it, requests would wait until their clients have given up, and would fill the memory meanwhile.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .refusal import BUSY, Refusal

if TYPE_CHECKING:
    from prometheus_client import Counter
    from starlette.types import ASGIApp, Receive, Scope, Send

# Requests answered in a turn of the event loop, which then reads and refuses new ones. With a smaller number, clients
# that retry at once keep the loop busy with refusals; with a larger one, a refusal comes late.
TURN = 16


class Admission:
    """ASGI middleware that refuses predictions with 503 while too many are pending.

    It is outside of BentoML's middleware, so that a refusal is cheap. BentoML's limit (`traffic.max_concurrency`)
    answers 429 and sees one request at a time: the handlers do not await anything, so each one ends before the next one
    begins, and pending requests wait in the event loop.
    """

    def __init__(self, app: ASGIApp, limit: int, refused: Counter) -> None:
        """Wraps an application.

        Args:
            app: The application.
            limit: Maximum number of pending requests.
            refused: Counter of the refusals.
        """
        self._app = app
        self._limit = limit
        self._refused = refused
        self._pending = 0
        self._turn = asyncio.Semaphore(TURN)
        self._refusal = Refusal(503, BUSY).response()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or refuses it."""
        # Health checks and metrics use GET: a busy service is neither dead nor unready.
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        if self._pending >= self._limit:
            self._refused.inc()
            await self._refusal(scope, receive, send)
            return
        self._pending += 1
        try:
            async with self._turn:
                await asyncio.sleep(0)
            await self._app(scope, receive, send)
        finally:
            self._pending -= 1
