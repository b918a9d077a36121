"""What becomes of requests that come faster than the model answers them: those too many are refused at once.

Kept, they would be answered when nobody waits for them any more, and would fill the memory meanwhile.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from prometheus_client import Counter
    from starlette.types import ASGIApp, Receive, Scope, Send

MAX_PENDING = 128
# So many are answered in a turn of the event loop, which then reads and refuses what has arrived: fewer, and clients
# that ask again at once keep it busy with refusals; more, and a refusal comes late.
TURN = 16
BUSY = "too many requests are waiting: try again in a second"
LATER = {"retry-after": "1"}


class Admission:
    """Lets at most `MAX_PENDING` requests to the model wait in a process; answers 503 to the others.

    Outside everything that BentoML does with a request, so that a refusal costs little. BentoML's own limit
    (`traffic.max_concurrency`) answers 429, and sees one request at a time: a handler that does not wait ends before
    the next one begins, so what waits stands in the event loop.
    """

    def __init__(self, app: ASGIApp, refused: Counter) -> None:
        """Take the application to protect, and what counts refusals."""
        self._app = app
        self._pending = 0
        self._turn = asyncio.Semaphore(TURN)
        self._refusal = JSONResponse({"error": BUSY}, 503, headers=LATER)
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        # Health and metrics are asked with GET: a service that is busy is neither dead nor unready.
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        if self._pending >= MAX_PENDING:
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
