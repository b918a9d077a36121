"""Executor `ray`: tasks on a Ray cluster, or on all processors of this machine.

This process reads the pieces and takes the results, so that only one process reads data and writes files. If a node is
lost, Ray runs its tasks again on another one.
"""

import logging
import os
import pickle
import re
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from ..core.errors import UserError, one_line
from ..core.paths import SOURCES
from . import engine

P = TypeVar("P")
R = TypeVar("R")

ADDRESS = "RAY_ADDRESS"  # Ray's own environment variable
PIECES = 8  # number of pieces in a task
WAITING = 2  # number of tasks for each processor, running or waiting: a bound of memory
RETRIES = 10  # how often a task runs again after its node was lost


def run(work: Callable[[Iterable[P]], Iterator[R]], pieces: Iterable[P]) -> Iterator[R]:
    """Yields the results of all pieces, computed in tasks; see `Executor`."""
    address = os.environ.get(ADDRESS) or None
    if address and not re.fullmatch(r"auto|[^/]+:\d+", address):
        raise UserError(f"{ADDRESS}: {address!r} is no address of a cluster's head: write host:6379, or auto")
    paths = os.pathsep.join(filter(None, [str(SOURCES), os.environ.get("PYTHONPATH")]))
    ray = connect(address, ADDRESS, {"PYTHONPATH": paths})
    try:
        task = ray.remote(num_cpus=1, max_retries=RETRIES, scheduling_strategy="SPREAD")(_results)
        shared, root = ray.put(pickle.dumps(work)), Path.cwd()
        running: deque[Any] = deque()
        upcoming = iter(pieces)
        while shard := list(islice(upcoming, PIECES)):
            running.append(task.remote(shared, shard, root))
            if len(running) >= WAITING * max(1, ray.cluster_resources().get("CPU", 0)):
                yield from _ended(ray, running.popleft())
        while running:
            yield from _ended(ray, running.popleft())
    finally:
        ray.shutdown()  # stops every task that still runs


def _results(work: bytes, pieces: Iterable[Any], root: Path) -> bytes:
    """The results of a task's pieces, in a worker's process.

    The work is pickled, because it may load files of the project; so are the results, because they would be views of
    Ray's memory otherwise, which ends with the connection.
    """
    try:
        os.chdir(root)
    except OSError as error:
        raise UserError(
            f"executor ray: node {socket.gethostname()} cannot open the project's folder {root} ({error.strerror}): "
            "put it on storage that all nodes mount at the same path"
        ) from None
    return pickle.dumps(list(pickle.loads(work)(pieces)))


def _ended(ray: Any, task: Any) -> list[Any]:
    """Waits for a task; returns its results."""
    try:
        return list(pickle.loads(ray.get(task)))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise UserError(str(error.cause)) from None
        raise UserError(f"executor ray: a task failed: {_reason(error.cause)}") from error
    except ray.exceptions.RayError as error:
        raise UserError(f"executor ray: a task was lost {RETRIES + 1} times: {_reason(error)}") from error


def connect(address: str | None, setting: str, variables: Mapping[str, str], memory: int | None = None) -> Any:
    """Joins or starts a Ray cluster.

    Args:
        address: Address of the cluster's head, `host:6379`; `auto` for the cluster that this machine belongs to; None
            starts a cluster on this machine.
        setting: The key or variable that names the address, for messages.
        variables: Environment variables of the workers; those of a running cluster inherit none from this process.
        memory: Memory for results, in bytes, of a cluster that is started here; None for a share of this machine's.

    Returns:
        The module `ray`.

    Raises:
        UserError: If Ray is missing, or the cluster cannot be joined.
    """
    if address not in (None, "auto"):
        _refuse_unreachable(str(address), setting)
    # Ray reads both variables at import. Under `uv run` it would upload the project, with its data, to each node.
    os.environ |= {"RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    ray = engine("ray", setting.split(".")[0])
    options: dict[str, Any] = {"include_dashboard": False, "object_store_memory": memory}
    try:
        ray.init(
            address or "local",
            runtime_env={"env_vars": dict(variables)},
            log_to_driver=False,
            logging_level=logging.ERROR,
            **(options if address is None else {}),
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        cluster = f"the cluster at {address}" if address else "a cluster on this machine"
        raise UserError(f"{setting}: Ray cannot reach {cluster}: {_reason(error)}") from error
    return ray


def _refuse_unreachable(address: str, setting: str) -> None:
    """Rejects an address without a listener; Ray would try for two minutes."""
    host, port = address.rsplit(":", 1)
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError as error:
        raise UserError(f"{setting}: no Ray cluster answers at {address}: {error}") from error


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {one_line(error)}"
