"""Launcher `ray`: tasks on a Ray cluster, or on this machine."""

import functools
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, NonNegativeFloat, PositiveInt

from ...core.errors import UserError
from ...executors.ray import connect
from . import process
from .process import Work

OBJECT_STORE = 100 << 20  # bytes; a worker returns one short text


def launch(
    work: Work,
    folder: Path,
    *,
    workers: PositiveInt,
    address: Annotated[str, Field(pattern=r"^(auto|[^/]+:\d+)$")] | None,
    cpus: PositiveInt,
    gpus: NonNegativeFloat,
) -> list[str]:
    """Runs workers as Ray tasks, spread over the nodes.

    Args:
        work: The worker's loop; it can be pickled.
        folder: The study's folder.
        workers: Number of workers.
        address: Address of the cluster's head, `host:6379`; `auto` for the cluster that this machine belongs to; None
            starts a cluster on this machine.
        cpus: Processors of a worker.
        gpus: GPUs of a worker; with 0.5 two workers share one.

    Returns:
        A line for each lost worker.

    Raises:
        UserError: If Ray is missing, the cluster cannot be joined, or this machine has too few processors.
    """
    # The processes of a running cluster do not inherit the environment of this process.
    storage = {name: value for name, value in os.environ.items() if name == "OPTUNA_STORAGE"}
    engine = connect(address, "launcher.address", process.environment() | storage, OBJECT_STORE)
    try:
        _refuse_unplaceable(engine.nodes(), address, cpus, gpus)
        task = engine.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0, scheduling_strategy="SPREAD")(process.run)
        running = {task.remote(work, Path.cwd()): number for number in range(1, workers + 1)}
        lines: list[str] = []
        while running:
            (ended,), _ = engine.wait(list(running))
            number = running.pop(ended)
            if loss := process.loss(functools.partial(engine.get, ended)):
                lines.append(f"worker {number} of {workers}: {loss}")
        return lines
    finally:
        engine.shutdown()  # stops every task that still runs


def _refuse_unplaceable(nodes: Sequence[Mapping[str, Any]], address: str | None, cpus: int, gpus: float) -> None:
    """Rejects a worker that fits on no node, for which Ray would wait silently.

    If nodes may join the cluster later, it only warns.
    """
    resources = [node["Resources"] for node in nodes if node["Alive"]]
    if any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in resources):
        return
    problem = f"no node has the {cpus} CPUs and {gpus:g} GPUs that launcher.cpus and launcher.gpus require"
    if address is None:
        raise UserError(f"launcher: {problem}: lower them, or set launcher.address")
    print(f"launcher: {problem}: waiting until such a node joins the cluster", file=sys.stderr)
