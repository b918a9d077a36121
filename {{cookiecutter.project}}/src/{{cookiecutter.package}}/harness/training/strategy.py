"""Section `train.strategy`: devices, precision and workers.

The addresses of the workers are not in conf/, because they differ at every start: the launcher sets them in the
environment. Heavy libraries are not imported here: the stage `config` must not wait for TensorFlow.
"""

import json
import os
import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from ..core import config
from ..core.errors import UserError

SLURM = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_NODELIST", "SLURM_STEP_TASKS_PER_NODE")
SLURM_PORTS = range(10_000, 30_000)  # below the ephemeral ports of operating systems
STEPS_PER_JOB = 64  # number of steps of a SLURM job that have different ports


class Strategy(config.Section):
    """Section `train.strategy` of the configuration.

    Attributes:
        distribution: `none` is one device; `mirrored` divides each batch among all GPUs of this machine; `multi_worker`
            divides it among processes, each with its own device, on one machine or several.
        precision: Precision in which the layers compute; weights and exported model are float32 in any case.
        xla: Whether XLA compiles the training step, which changes the rounding.
    """

    distribution: Literal["none", "mirrored", "multi_worker"] = "none"
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32"
    xla: bool = False


class Cluster(NamedTuple):
    """The workers that train one model together.

    Attributes:
        workers: Address of each worker, `host:port`.
        rank: Rank of this worker; 0 is the chief, which alone writes results.
    """

    workers: tuple[str, ...]
    rank: int


def follows(train: Mapping[str, Any]) -> bool:
    """Whether this worker is not the chief, and so writes nothing.

    Args:
        train: Section `train` of the configuration.

    Raises:
        UserError: If the environment does not name this worker.
    """
    return (train.get("strategy") or {}).get("distribution") == "multi_worker" and cluster().rank > 0


def cluster() -> Cluster:
    """The workers that TF_CONFIG or the variables of a SLURM step name.

    TF_CONFIG has precedence, because Kubernetes' training operator and most launchers set it.

    Raises:
        UserError: If neither is set, or it does not name this process.
    """
    if "TF_CONFIG" in os.environ:
        return from_tf_config(os.environ["TF_CONFIG"])
    if set(SLURM) <= set(os.environ):
        return from_slurm(os.environ)
    raise UserError(
        "train.strategy.distribution: multi_worker, but the environment names no workers: set TF_CONFIG for each "
        "worker, start the workers with `srun`, or choose train/strategy: default in conf/"
    )


def from_tf_config(text: str) -> Cluster:
    """The workers that TF_CONFIG names, a chief first.

    Format: https://www.tensorflow.org/guide/distributed_training#TF_CONFIG

    Args:
        text: Value of TF_CONFIG, JSON.

    Raises:
        UserError: If the text is not JSON or lacks a key, or this process is neither chief nor worker.
    """
    try:
        content = json.loads(text)
        addresses = {role: list(content["cluster"].get(role, [])) for role in ("chief", "worker")}
        role, index = str(content["task"]["type"]), int(content["task"]["index"])
        workers = tuple(str(address) for address in addresses["chief"] + addresses["worker"])
        first = 0 if role == "chief" else len(addresses["chief"])
        if not 0 <= index < len(addresses.get(role, [])):
            raise ValueError(f"there is no {role} {index}")
        if wrong := [address for address in workers if not _is_address(address)]:
            raise ValueError(f"{wrong[0]!r} is not host:port")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise UserError(
            f"TF_CONFIG: {reason}: give each worker "
            '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}, with its index'
        ) from error
    return Cluster(workers, first + index)


def _is_address(text: str) -> bool:
    return bool(re.fullmatch(r".+:\d+", text)) and int(text.rpartition(":")[2]) <= 65535


def from_slurm(variables: Mapping[str, str]) -> Cluster:
    """The workers of a SLURM step, one for each task.

    Tasks are assumed to be in blocks, the default distribution of `srun`.

    Args:
        variables: Environment variables.

    Raises:
        UserError: If the variables contradict each other.
    """
    rank, count, nodes, tasks = (variables[name] for name in SLURM)
    hosts = expand(nodes)
    counts: list[int] = []
    for number, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", tasks):
        counts += [int(number)] * int(times or 1)
    # Steps that share a node must have different ports.
    step = int(variables.get("SLURM_JOB_ID", 0)) * STEPS_PER_JOB + int(variables.get("SLURM_STEP_ID", 0))
    port = SLURM_PORTS[step % len(SLURM_PORTS)]
    workers = [f"{host}:{port + n}" for host, number in zip(hosts, counts, strict=False) for n in range(number)]
    if len(hosts) != len(counts) or len(workers) != int(count) or int(rank) >= len(workers):
        raise UserError(
            f"SLURM: task {rank} of {count} on {nodes} ({tasks} each) is inconsistent: set TF_CONFIG for each task"
        )
    return Cluster(tuple(workers), int(rank))


def expand(nodes: str) -> list[str]:
    """The hosts of a SLURM node list.

    `gpu[08-10,12],login` -> gpu08, gpu09, gpu10, gpu12, login.

    Args:
        nodes: The node list, with at most one bracket in a name.
    """
    hosts: list[str] = []
    for prefix, ranges in re.findall(r"([^,\[\]]+)(?:\[([^\]]+)\])?", nodes):
        for part in ranges.split(","):
            first, _, last = part.partition("-")
            numbers = range(int(first), int(last or first) + 1) if first else ()
            hosts += [f"{prefix}{number:0{len(first)}}" for number in numbers] or [prefix]
    return hosts
