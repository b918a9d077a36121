"""Admission: load shedding before the event loop fills with requests.

Without it, requests would wait until their clients have given up, and would fill the memory meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from starlette.datastructures import Headers

from .arrivals import Arrivals, Disconnected
from .limits import Limits
from .refusal import BUSY, Refusal

if TYPE_CHECKING:
    from prometheus_client import Counter
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Requests answered in a turn of the event loop, which then reads and refuses new ones. With a smaller number, clients
# that retry at once keep the loop busy with refusals; with a larger one, a refusal comes late.
TURN = 16


class Admission:
    """ASGI middleware that receives bodies, and refuses predictions with 503 while too many are pending.

    It is outside of BentoML's middleware, so that a refusal is cheap. BentoML's limit (`traffic.max_concurrency`)
    answers 429 and sees one request at a time: the handlers do not await anything, so each one ends before the next one
    begins, and pending requests wait in the event loop.

    A request is pending from the end of its body on: clients that send slowly, or nothing, take no place.
    """

    def __init__(self, app: ASGIApp, limits: Limits, refused: Callable[[str], Counter]) -> None:
        """Wraps an application.

        Args:
            app: The application.
            limits: Limits of the requests.
            refused: The counter of the requests that are refused for a reason.
        """
        self._app = app
        self._limit = limits.pending
        self._arrivals = Arrivals(limits, refused)
        self._busy = refused("busy")
        self._pending = 0
        self._turn = asyncio.Semaphore(TURN)
        self._refusal = Refusal(503, BUSY).response()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or refuses it."""
        # Health checks and metrics use GET: a busy service is neither dead nor unready.
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        if self._pending >= self._limit:  # whose body is not worth receiving: the protocol reads it, and drops it
            await self._refuse(scope, receive, send)
            return
        try:
            async with self._arrivals.body(Headers(scope=scope), receive) as body:
                # Decoded: the headers say so, too.
                headers = [each for each in scope["headers"] if each[0] != b"content-encoding"]
                await self._answer({**scope, "headers": headers}, _again(body, receive), send)
        except Refusal as refusal:
            await refusal.response(close=True)(scope, receive, send)
        except Disconnected:  # nobody waits for an answer
            return

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._pending >= self._limit:
            await self._refuse(scope, receive, send)
            return
        self._pending += 1
        try:
            async with self._turn:
                await asyncio.sleep(0)
            await self._app(scope, receive, send)
        finally:
            self._pending -= 1

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._busy.inc()
        await self._refusal(scope, receive, send)


def _again(body: bytes, receive: Receive) -> Receive:
    """The messages of a request whose body has been received."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return first.pop() if first else await receive()

    return next_message
