"""A uvicorn server that sheds load, and drains its connections on SIGTERM."""

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from functools import partial
from typing import Any

import uvicorn

GRACE = 1.0  # seconds for clients to close their connections, as answers ask them to
PAUSE = 1.0  # seconds without new connections if too many files are open
HANDSHAKE = 10.0  # seconds for a client to agree on TLS
SHARE = 2  # connections that one of several workers accepts at once
TURN = 0.001  # seconds in which its siblings accept as many


class Server(uvicorn.Server):
    """A uvicorn server that accepts all waiting connections at once.

    uvloop accepts one connection in each turn of the event loop. A busy service could not refuse requests on the
    connections that wait, and a service that ends would reset these connections.

    Workers of one socket take turns: otherwise the first to wake up accepts all connections of a client that keeps
    them, such as a proxy, and its siblings are idle.
    """

    _listening: list[socket.socket]
    _accepting: set[asyncio.Task[Any]]

    def __init__(self, config: uvicorn.Config, more: Sequence[socket.socket] = (), shared: bool = False) -> None:
        """Prepares a server.

        Args:
            config: Its configuration.
            more: Sockets to listen on, beside those that it is started with.
            shared: Whether other workers accept connections of the same sockets.
        """
        super().__init__(config)
        self._more = more
        self._shared = shared

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts as uvicorn does, but accepts connections itself.

        Args:
            sockets: The sockets to listen on.
        """
        await super().startup([])
        self._listening, self._accepting = [*(sockets or []), *self._more], set()
        for listening in self._listening:
            listening.setblocking(False)
            listening.listen(self.config.backlog)
            self._resume(listening)

    def _accept(self, listening: socket.socket, most: int | None = None) -> None:
        loop, accepted = asyncio.get_running_loop(), 0
        while accepted != most:
            try:
                connection, _ = listening.accept()
            except ConnectionAbortedError:
                continue
            except BlockingIOError:  # no connection waits
                break
            except OSError:  # too many files are open to accept it now: the loop would call again at once
                self._pause(listening, PAUSE)
                return
            accepted += 1
            task = loop.create_task(self._connect(connection))
            self._accepting.add(task)
            task.add_done_callback(self._accepting.discard)
        if most and accepted:
            self._pause(listening, TURN)

    def _pause(self, listening: socket.socket, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(listening)
        loop.call_later(seconds, self._resume, listening)

    def _resume(self, listening: socket.socket) -> None:
        if listening.fileno() >= 0:  # it is not closed
            most = SHARE if self._shared else None
            asyncio.get_running_loop().add_reader(listening, self._accept, listening, most)

    async def _connect(self, accepted: socket.socket) -> None:
        # A Unix socket is for this machine: health checks need no certificate.
        tls = None if accepted.family == socket.AF_UNIX else self.config.ssl
        loop = asyncio.get_running_loop()
        # No TLS, no certificate, no time: the client's error, of which it learns by TLS's alert.
        with contextlib.suppress(OSError):
            await loop.connect_accepted_socket(
                self._protocol, accepted, ssl=tls, ssl_handshake_timeout=HANDSHAKE if tls else None
            )

    def _protocol(self) -> asyncio.Protocol:
        protocol: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg] # as uvicorn makes it
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answers the requests that have arrived, then ends as uvicorn does.

        Each connection is closed with its next answer.

        Args:
            sockets: The sockets that it listens on.
        """
        # For answers that have not begun; the others have their headers, and uvicorn closes after them.
        self.server_state.default_headers.append((b"connection", b"close"))
        for connection in self.server_state.connections:
            cycle = getattr(connection, "cycle", None)
            if cycle is not None and not cycle.response_complete:
                connection.shutdown()
        loop = asyncio.get_running_loop()
        for listening in self._listening:
            self._accept(listening)
            loop.remove_reader(listening)
            listening.close()
        end = loop.time() + GRACE
        if self._accepting:
            await asyncio.wait(self._accepting, timeout=GRACE)
        while self.server_state.connections and loop.time() < end:
            await asyncio.sleep(0.02)
        for _ in range(3):  # let pending reads run, so that busy connections are not taken for idle
            await asyncio.sleep(0)
        await super().shutdown(sockets)


def install() -> None:
    """Makes the workers of `bentoml serve` use the server, in this process.

    BentoML has no option for it.
    """
    if uvicorn.Server is uvicorn.server.Server:  # not `serve`, which is the only worker
        uvicorn.Server = partial(Server, shared=True)  # type: ignore[assignment,misc]
