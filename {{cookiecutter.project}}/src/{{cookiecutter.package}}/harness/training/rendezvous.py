"""Rendezvous of workers: each waits until all have started."""

import contextlib
import select
import socket
import time

from ..core.errors import UserError
from .strategy import Cluster

WAIT_SECONDS = 600.0  # for all workers to start: a queue may start them one after the other
CALL_SECONDS = 10.0  # timeout of a connection attempt
RETRY_SECONDS = 0.2
EVERYONE_IS_HERE = b"!"
RANK_BYTES = 4


def gather(cluster: Cluster) -> None:
    """Waits until all workers have started.

    Every worker connects to the chief, which answers once all have connected. TensorFlow would wait for an hour
    instead, and ignore Ctrl-C and SIGTERM meanwhile.

    Args:
        cluster: Addresses and ranks.

    Raises:
        UserError: If a worker does not start in time.
        OSError: If this worker cannot listen at its address.
    """
    deadline = time.monotonic() + WAIT_SECONDS
    port, dual = int(cluster.workers[cluster.rank].rpartition(":")[2]), socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    # Every worker listens, not only the chief: a port in use must raise an error before TensorFlow waits.
    with socket.create_server(("", port), family=family, dualstack_ipv6=dual) as server:
        missing = _call(cluster, deadline) if cluster.rank else _answer(server, len(cluster.workers), deadline)
    if missing:
        raise UserError(
            f"train.strategy: {missing} of {', '.join(cluster.workers)} did not start within {WAIT_SECONDS / 60:g} "
            "minutes: start all workers, and check that each can reach the others"
        )


def _answer(server: socket.socket, count: int, deadline: float) -> str:
    """Answers all workers once all have connected.

    Returns:
        The workers that have not connected; "" if all have.
    """
    ranks: dict[socket.socket, int] = {}  # open connection -> rank, 0 until it is received
    with contextlib.ExitStack() as calls:
        while missing := set(range(1, count)) - set(ranks.values()):
            ready = select.select([server, *ranks], [], [], max(deadline - time.monotonic(), 0))[0]
            if not ready:
                return f"worker {', '.join(map(str, sorted(missing)))}"
            for caller in ready:
                if caller is server:
                    ranks[calls.enter_context(server.accept()[0])] = 0
                elif message := _receive(caller):
                    ranks[caller] = int.from_bytes(message)
                else:
                    del ranks[caller]
        server.close()  # frees the port, on which TensorFlow will listen
        for caller, rank in ranks.items():
            if rank:
                caller.sendall(EVERYONE_IS_HERE)
    return ""


def _receive(caller: socket.socket) -> bytes:
    """The rank of a caller, as bytes; b"" if disconnected."""
    with contextlib.suppress(ConnectionError):
        return caller.recv(RANK_BYTES)
    return b""


def _call(cluster: Cluster, deadline: float) -> str:
    """Connects to the chief, with retries, until it answers.

    Returns:
        The missing workers; "" if there is none.
    """
    host, _, port = cluster.workers[0].rpartition(":")
    missing = "worker 0"
    while (remaining := deadline - time.monotonic()) > 0:
        address, timeout = (host.strip("[]"), int(port)), min(remaining, CALL_SECONDS)
        with contextlib.suppress(OSError), socket.create_connection(address, timeout) as call:
            call.settimeout(remaining)
            call.sendall(cluster.rank.to_bytes(RANK_BYTES))
            missing = "another worker"
            if call.recv(1) == EVERYONE_IS_HERE:  # not an earlier start's TensorFlow, nor this socket itself
                return ""
        time.sleep(RETRY_SECONDS)
    return missing
