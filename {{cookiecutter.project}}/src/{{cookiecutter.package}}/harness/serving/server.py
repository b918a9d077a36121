"""A uvicorn server that sheds load, and drains its connections on SIGTERM."""

import asyncio
import socket
from typing import Any

import uvicorn

GRACE = 1.0  # seconds for clients to close their connections, as answers ask them to


class Server(uvicorn.Server):
    """A uvicorn server that accepts all waiting connections at once.

    uvloop accepts one connection in each turn of the event loop. A busy service could not refuse requests on the
    connections that wait, and a service that ends would reset these connections.
    """

    _listening: list[socket.socket]
    _accepting: set[asyncio.Task[Any]]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts as uvicorn does, but accepts connections itself.

        Args:
            sockets: The sockets to listen on.
        """
        await super().startup([])
        self._listening, self._accepting = sockets or [], set()
        for listening in self._listening:
            listening.setblocking(False)
            listening.listen(self.config.backlog)
            asyncio.get_running_loop().add_reader(listening, self._accept, listening)

    def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = listening.accept()
            except ConnectionAbortedError:
                continue
            except OSError:  # no connection waits, or too many files are open to accept it now
                return
            task = loop.create_task(loop.connect_accepted_socket(self._protocol, accepted))
            self._accepting.add(task)
            task.add_done_callback(self._accepting.discard)

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
        await asyncio.gather(*self._accepting)
        end = loop.time() + GRACE
        while self.server_state.connections and loop.time() < end:
            await asyncio.sleep(0.02)
        for _ in range(3):  # let pending reads run, so that busy connections are not taken for idle
            await asyncio.sleep(0)
        await super().shutdown(sockets)
