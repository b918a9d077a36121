"""uvicorn's HTTP protocol, with limits of all that comes before a body.

uvicorn sets none with httptools: of the length of a request line, of the number and time of headers, and of requests
that arrive before earlier ones are answered.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from typing import Any

import uvicorn.protocols.http.auto
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES = 32 * 2**10  # of a request line and its headers
HEAD_SECONDS = 10.0  # from the first byte of a connection or of a request to the end of its headers
HEADERS = 100
REFUSAL = f"The head of a request has at most {HEAD_BYTES} bytes, {HEADERS} headers and {HEAD_SECONDS:.0f} seconds."
PEER = "peer"  # in the state of a request: the address that has connected, whatever X-Forwarded-For says
SELDOM = 60.0  # seconds from one warning of uvicorn to the next one of the same text
WAITING = 64  # requests of a connection that wait for the answer to an earlier one


class LimitedProtocol(HttpToolsProtocol):
    """A connection that is closed if the head of a request is too large or too slow."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Prepares a connection; uvicorn gives the arguments."""
        super().__init__(*arguments, **options)
        self._head_bytes = 0
        self._unparsed_bytes = 0  # since the parser found the last part of a request
        self._head_ends: asyncio.TimerHandle | None = None
        self._in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accepts a connection."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets a connection."""
        self._head_arrived()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parses what has arrived."""
        self._unparsed_bytes += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._unparsed_bytes > HEAD_BYTES:  # a single header, which the parser keeps until its end
            self._refuse()
        elif self._in_head and self._unparsed_bytes and self._head_ends is None:
            self._await_head()

    def on_message_begin(self) -> None:
        """Begins a request."""
        super().on_message_begin()
        self._in_head, self._head_bytes, self._unparsed_bytes = True, 0, 0
        self.scope["state"][PEER] = self.client[0] if self.client else None

    def on_url(self, url: bytes) -> None:
        """Takes a part of the request line."""
        super().on_url(url)
        self._take(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Takes a header, or one that follows the body."""
        super().on_header(name, value)
        self._take(name, value)

    def on_headers_complete(self) -> None:
        """Starts to answer a request."""
        self._in_head = False
        self._head_arrived()
        super().on_headers_complete()
        if len(self.pipeline) > WAITING:
            raise ValueError("too many requests at once")

    def on_body(self, body: bytes) -> None:
        """Takes a part of the body."""
        self._unparsed_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Ends a request."""
        self._unparsed_bytes = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Goes on with the next request of the connection."""
        super().on_response_complete()
        if self.pipeline:  # uvicorn reads on, though requests wait
            self.flow.pause_reading()

    def send_400_response(self, msg: str) -> None:
        """Refuses a request, and closes the connection."""
        if self.transport.is_closing():
            return
        if self.pipeline or not getattr(self.cycle, "response_complete", True):  # None before the first request
            self.transport.abort()  # the answer would be taken for that to an earlier request
        else:
            super().send_400_response(msg)

    def _take(self, *parts: bytes) -> None:
        self._unparsed_bytes = 0
        self._head_bytes += sum(map(len, parts))
        if self._head_bytes > HEAD_BYTES or len(self.headers) > HEADERS:
            raise ValueError("the head is too large")

    def _await_head(self) -> None:
        self._head_ends = self.loop.call_later(HEAD_SECONDS, self._refuse)

    def _head_arrived(self) -> None:
        if self._head_ends is not None:
            self._head_ends.cancel()
            self._head_ends = None

    def _refuse(self) -> None:
        self._head_arrived()
        if not self.transport.is_closing():
            self.send_400_response(REFUSAL)


class _Seldom(logging.Filter):
    """Lets a warning pass once in a while: each malformed request causes one, and would fill the disk."""

    def __init__(self) -> None:
        super().__init__()
        self._again: dict[str, float] = {}  # text -> when it passes again
        self._omitted: Counter[str] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        text, now = record.getMessage(), time.monotonic()
        if record.levelno != logging.WARNING:
            return True
        if now < self._again.get(text, 0.0):
            self._omitted[text] += 1
            return False
        self._again[text] = now + SELDOM
        if omitted := self._omitted.pop(text, 0):
            record.msg, record.args = f"{text} And {omitted} more since the last line of this text.", ()
        return True


_SELDOM = _Seldom()


def install() -> None:
    """Makes uvicorn use the protocol, in this process.

    `bentoml serve` has no option for it.
    """
    uvicorn.protocols.http.auto.AutoHTTPProtocol = LimitedProtocol
    logging.getLogger("uvicorn.error").addFilter(_SELDOM)
