"""Clients that ask as fast as they are answered, and keep what they were told."""

import asyncio
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

VERSION = re.compile(rb'"model_version": ?"([0-9a-f]+)"')
LENGTH = re.compile(rb"content-length: *([0-9]+)", re.IGNORECASE)


@dataclass
class Answer:
    """What a client got: begin and end in seconds since 1970, status (0: a broken connection), model and the reason."""

    begun: float
    ended: float
    status: int
    version: str
    told: str = ""


@dataclass
class Hammer:
    """A load of bounded length.

    Attributes:
        address: Host and port.
        bodies: Heads without Host, and bodies of the requests, in turn.
        clients: How many ask at once; every second one opens a connection for each request.
        most: How many requests at most.
        pause: Seconds between two requests of a client.
    """

    address: tuple[str, int]
    bodies: Sequence[tuple[bytes, bytes]]
    clients: int = 32
    most: int = 40_000
    pause: float = 0.0
    answers: list[Answer] = field(default_factory=list)
    stopped: bool = False
    _asked: int = 0

    @contextmanager
    def running(self) -> Iterator["Hammer"]:
        """Asks until the end of the block."""
        thread = threading.Thread(target=lambda: asyncio.run(self._all()))
        thread.start()
        try:
            yield self
        finally:
            self.stopped = True
            thread.join(30)

    async def _all(self) -> None:
        await asyncio.gather(*(self._client(number) for number in range(self.clients)))

    async def _client(self, number: int) -> None:
        keeps = number % 2 == 0
        reader: asyncio.StreamReader | None = None
        writer: asyncio.StreamWriter | None = None
        while not self.stopped and self._asked < self.most:
            self._asked += 1
            head, body = self.bodies[self._asked % len(self.bodies)]
            close = b"" if keeps else b"Connection: close\r\n"
            begun = time.time()
            try:
                if reader is None or writer is None:
                    reader, writer = await asyncio.open_connection(*self.address)
                writer.write(b"%sHost: x\r\nContent-Length: %d\r\n%s\r\n%s" % (head, len(body), close, body))
                answered = await reader.readuntil(b"\r\n\r\n")
                length = LENGTH.search(answered)
                content = await reader.readexactly(int(length[1])) if length else b""
                version = VERSION.search(content)
                status = int(answered.split(b" ", 2)[1])
                told = "" if status == 200 else content[:200].decode(errors="replace")
                self.answers.append(Answer(begun, time.time(), status, version[1].decode() if version else "", told))
                keep = keeps and b"connection: close" not in answered.lower()
            except (OSError, asyncio.IncompleteReadError) as error:
                self.answers.append(Answer(begun, time.time(), 0, "", repr(error)))
                keep = False
            if not keep and writer is not None:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()
                reader = writer = None
            if self.pause:
                await asyncio.sleep(self.pause)
        if writer is not None:
            writer.close()
