"""A server that ends without dropping a request: uvicorn resets connections that it has not accepted yet."""

import asyncio
import contextlib
import ctypes
import socket
import struct
import sys

import uvicorn

GRACE = 1.0  # seconds in which clients that keep their connection are told to close it
SO_ATTACH_FILTER = 26


class DrainingServer(uvicorn.Server):
    """Answers everything that has arrived before it ends."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Refuses new connections, closes the others with their next answer, then does what uvicorn does.

        Args:
            sockets: Those that it listens on.
        """
        for listening in sockets or []:
            refuse_connections(listening)
        self.server_state.default_headers.append((b"connection", b"close"))
        end = asyncio.get_running_loop().time() + GRACE
        await asyncio.sleep(0.1)  # what is just being accepted
        while self.server_state.connections and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(0.02)
        await super().shutdown(sockets)


def refuse_connections(listening: socket.socket) -> None:
    """Drops attempts to connect, while connections that wait to be accepted stay: closing the socket would reset them.

    Linux alone has a filter for that (https://docs.kernel.org/networking/filter.html).

    Args:
        listening: A TCP socket.
    """
    if sys.platform != "linux":
        return
    # Load byte 13 of the TCP header, its flags; where SYN is set keep nothing of the packet, else everything.
    steps = (0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF)
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    with contextlib.suppress(OSError):  # some sandboxes have no filters
        listening.setsockopt(
            socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", len(steps), ctypes.addressof(program))
        )
