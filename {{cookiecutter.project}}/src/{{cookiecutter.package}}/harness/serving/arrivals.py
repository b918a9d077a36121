"""The bodies of requests, received and decoded within limits before anything is done for them."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from starlette.datastructures import Headers

from .limits import Limits
from .refusal import BUSY, ENCODINGS, Refusal

if TYPE_CHECKING:
    from prometheus_client import Counter
    from starlette.types import Receive

STEP = 2**18  # bytes that are decoded in one turn of the event loop


class Disconnected(Exception):
    """A client that has closed its connection before its body was complete."""


class Arrivals:
    """The bodies that clients are sending, and those of requests that are being answered."""

    def __init__(self, limits: Limits, refused: Callable[[str], Counter]) -> None:
        """Starts without a body.

        Args:
            limits: Limits of the requests.
            refused: The counter of the requests that are refused for a reason.
        """
        self._limits = limits
        self._refused = refused
        self._sending: dict[asyncio.Timeout, bytearray] = {}  # the client that has been silent for longest first
        self.held_bytes = 0

    @contextlib.asynccontextmanager
    async def body(self, headers: Headers, receive: Receive) -> AsyncIterator[bytes]:
        """Receives a body; it counts as held until the block ends.

        Args:
            headers: Headers of the request.
            receive: The messages of the request.

        Yields:
            The body, without content encoding.

        Raises:
            Refusal: If the encoding is not one of ENCODINGS, or the body is not encoded so, too large or too slow, or
                all bodies together are too large.
            Disconnected: If the client does not send all of it.
        """
        name = ", ".join(headers.getlist("content-encoding")).strip().lower() or "identity"
        if name != "identity" and name not in ENCODINGS:
            raise Refusal(415, f"the content encoding must be {' or '.join(ENCODINGS)}, not {name[:40]}")
        sent, decoded = bytearray(), bytearray()
        try:
            await self._receive(receive, sent)
            if name != "identity":
                await self._decode(bytes(sent), name, decoded)
            yield bytes(sent if name == "identity" else decoded)
        finally:
            self.held_bytes -= len(sent) + len(decoded)

    async def _receive(self, receive: Receive, body: bytearray) -> None:
        seconds = self._limits.body_seconds
        timeout = asyncio.timeout(seconds)
        try:
            async with timeout:
                more = True
                while more:
                    self._sending.pop(timeout, None)
                    self._sending[timeout] = body
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        self._refused("gone").inc()
                        raise Disconnected
                    more = message.get("more_body", False)
                    self._hold(body, message.get("body", b""))
        except TimeoutError:
            if timeout not in self._sending:  # it had to make room
                raise self._too_many() from None
            self._refused("slow").inc()
            raise Refusal(408, f"the body did not arrive within {seconds:g} seconds") from None
        finally:
            self._sending.pop(timeout, None)

    async def _decode(self, rest: bytes, name: str, body: bytearray) -> None:
        decoder = zlib.decompressobj(ENCODINGS[name])
        while not decoder.eof:
            try:
                chunk = decoder.decompress(rest, STEP)  # a small body can announce gigabytes
            except zlib.error:
                raise Refusal(400, f"the body is not {name}") from None
            rest = decoder.unconsumed_tail
            if not (chunk or rest):
                break
            self._hold(body, chunk)
            await asyncio.sleep(0)
        if not decoder.eof or decoder.unused_data:
            raise Refusal(400, f"the body is not {name}: it ends too early or too late")

    def _hold(self, body: bytearray, chunk: bytes) -> None:
        """Adds a chunk to a body.

        Clients that are still sending make room, in the order of their last chunk.
        """
        body += chunk
        self.held_bytes += len(chunk)
        if len(body) > self._limits.body_bytes:
            raise Refusal(413, f"the request is larger than {self._limits.body_bytes} bytes")
        while self.held_bytes > self._limits.held_bytes:
            timeout, other = next(iter(self._sending.items()), (None, body))
            if timeout is None or other is body:
                raise self._too_many()
            del self._sending[timeout]
            self.held_bytes -= len(other)
            other.clear()
            timeout.reschedule(asyncio.get_running_loop().time())

    def _too_many(self) -> Refusal:
        self._refused("bytes").inc()
        return Refusal(503, BUSY)
