"""A server that ends without dropping a request: uvicorn resets connections that it has not accepted or read yet."""

import asyncio
import socket

import uvicorn

GRACE = 1.0  # seconds in which clients that keep their connection are told to close it


class DrainingServer(uvicorn.Server):
    """Answers everything that has arrived before it ends."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accepts who is waiting, then nobody; closes each connection with its next answer; then ends as uvicorn does.

        Args:
            sockets: Those that it listens on.
        """
        listening = sockets or []
        # The answers to come; those in work have their headers already, uvicorn closes after them.
        self.server_state.default_headers.append((b"connection", b"close"))
        for connection in self.server_state.connections:
            cycle = getattr(connection, "cycle", None)
            if cycle is not None and not cycle.response_complete:
                connection.shutdown()
        # The event loop accepts one a turn, a busy one never all: closing would reset who waits. So all at once, here.
        waiting = [connection for each in listening for connection in _accepted(each)]
        for server in self.servers:
            server.close()
        for each in listening:
            each.close()
        loop = asyncio.get_running_loop()
        for accepted in waiting:
            await loop.connect_accepted_socket(self._protocol, accepted)
        end = loop.time() + GRACE
        while self.server_state.connections and loop.time() < end:
            await asyncio.sleep(0.02)
        for _ in range(3):  # reads what has arrived meanwhile, so that nobody looks idle who is not
            await asyncio.sleep(0)
        await super().shutdown(sockets)

    def _protocol(self) -> asyncio.Protocol:
        protocol: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg] # as uvicorn makes it
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol


def _accepted(listening: socket.socket) -> list[socket.socket]:
    listening.setblocking(False)
    accepted = []
    while True:
        try:
            accepted.append(listening.accept()[0])
        except BlockingIOError:
            return accepted
        except ConnectionAbortedError:
            continue
