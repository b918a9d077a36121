"""Section `train.strategy`: on which devices one training computes, and in which precision.

Which processes belong together is never written in conf/: it differs at every start, and whoever starts them says so in
the environment. Nothing heavy is imported here: the stage `config` must not wait for TensorFlow.
"""

import contextlib
import json
import os
import re
import select
import socket
import time
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from ..core import config
from ..core.errors import UserError

SLURM = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_NODELIST", "SLURM_STEP_TASKS_PER_NODE")
WAIT_SECONDS = 600.0  # for all workers to have started: a queue may start them one after the other
RETRY_SECONDS = 0.2
ALL_HERE = b"!"


class Strategy(config.Section):
    """Section `train.strategy` of the configuration.

    Attributes:
        distribution: `none` is one device; `mirrored` divides each batch among all GPUs of this machine; `multi_worker`
            divides it among processes, each with a device of its own, on one machine or several.
        precision: What the layers compute in; the weights, and the exported model, are float32 in any case.
        xla: Whether XLA compiles the training step; it rounds differently.
    """

    distribution: Literal["none", "mirrored", "multi_worker"] = "none"
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32"
    xla: bool = False


class Cluster(NamedTuple):
    """The processes that train one model together.

    Attributes:
        workers: `host:port` of each.
        rank: Which of them this process is; 0 is the chief, the only one that writes anything.
    """

    workers: tuple[str, ...]
    rank: int


def follows(train: Mapping[str, Any]) -> bool:
    """Says whether this process helps another one to train: it must not write, nor wait for that one to end.

    Args:
        train: Section `train` of the configuration.

    Raises:
        UserError: Where the environment does not say which worker this process is.
    """
    return (train.get("strategy") or {}).get("distribution") == "multi_worker" and cluster().rank > 0


def cluster() -> Cluster:
    """Returns the workers that the environment names: TF_CONFIG, or the variables of a SLURM step.

    Kubernetes' training operator, and most others, set TF_CONFIG, which therefore wins.

    Raises:
        UserError: Where neither is set, or it does not name this process.
    """
    if "TF_CONFIG" in os.environ:
        return from_tf_config(os.environ["TF_CONFIG"])
    if set(SLURM) <= set(os.environ):
        return from_slurm(os.environ)
    raise UserError(
        "train.strategy.distribution: multi_worker, but nothing says who the workers are: set TF_CONFIG for each of "
        "them, start them with `srun`, or choose train/strategy: default in conf/"
    )


def from_tf_config(text: str) -> Cluster:
    """Returns what TF_CONFIG says; a chief, where it has one, comes before the workers.

    Format: https://www.tensorflow.org/guide/distributed_training#TF_CONFIG

    Args:
        text: JSON.

    Raises:
        UserError: Where it is no JSON, lacks something, or this process is neither chief nor worker.
    """
    try:
        read = json.loads(text)
        named = {role: list(read["cluster"].get(role, [])) for role in ("chief", "worker")}
        role, index = str(read["task"]["type"]), int(read["task"]["index"])
        workers = [str(address) for address in named["chief"] + named["worker"]]
        before = 0 if role == "chief" else len(named["chief"])
        if not 0 <= index < len(named.get(role, [])):
            raise ValueError(f"there is no {role} {index}")
        if bad := [w for w in workers if not re.fullmatch(r".+:\d+", w) or int(w.rpartition(":")[2]) > 65535]:
            raise ValueError(f"{bad[0]!r} is not host:port")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise UserError(
            f"TF_CONFIG: {reason}: give each worker "
            '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}, each its own index'
        ) from error
    return Cluster(tuple(workers), before + index)


def from_slurm(variables: Mapping[str, str]) -> Cluster:
    """Returns what a SLURM step says: one worker a task, in blocks, as `srun` distributes them if not told otherwise.

    Args:
        variables: The environment.

    Raises:
        UserError: Where the variables contradict each other.
    """
    rank, count, nodes, tasks = (variables[name] for name in SLURM)
    hosts = expand(nodes)
    counts: list[int] = []
    for number, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", tasks):
        counts += [int(number)] * int(times or 1)
    # Of the job and the step, so that two of them on one node do not meet; below the ports that systems hand out.
    first = 10000 + (int(variables.get("SLURM_JOB_ID", 0)) * 64 + int(variables.get("SLURM_STEP_ID", 0))) % 20000
    workers = [f"{host}:{first + n}" for host, number in zip(hosts, counts, strict=False) for n in range(number)]
    if len(hosts) != len(counts) or len(workers) != int(count) or int(rank) >= len(workers):
        raise UserError(
            f"SLURM: task {rank} of {count} on {nodes} ({tasks} each) cannot be understood: set TF_CONFIG for each task"
        )
    return Cluster(tuple(workers), int(rank))


def expand(nodes: str) -> list[str]:
    """Returns the hosts of SLURM's list: `gpu[08-10,12],login` -> gpu08, gpu09, gpu10, gpu12, login.

    Args:
        nodes: The list; at most one bracket in a name.
    """
    hosts: list[str] = []
    for prefix, ranges in re.findall(r"([^,\[\]]+)(?:\[([^\]]+)\])?", nodes):
        for part in ranges.split(","):
            first, _, last = part.partition("-")
            numbers = range(int(first), int(last or first) + 1) if first else ()
            hosts += [f"{prefix}{number:0{len(first)}}" for number in numbers] or [prefix]
    return hosts


def gather(cluster: Cluster) -> None:
    """Waits until all workers have started: each calls worker 0, which answers once all have called.

    TensorFlow waits for them too, but for an hour, in which it heeds neither Ctrl-C nor SIGTERM.

    Args:
        cluster: Who they are.

    Raises:
        UserError: Where one of them does not come.
        OSError: Where this one cannot listen at its address.
    """
    until = time.monotonic() + WAIT_SECONDS
    port, dual = int(cluster.workers[cluster.rank].rpartition(":")[2]), socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    # Whoever only calls listens too: that its address is taken must be found before TensorFlow waits.
    with socket.create_server(("", port), family=family, dualstack_ipv6=dual) as server:
        missing = _call(cluster, until) if cluster.rank else _answer(server, len(cluster.workers), until)
    if missing:
        raise UserError(
            f"train.strategy: {missing} of {', '.join(cluster.workers)} did not come within {WAIT_SECONDS / 60:g} "
            "minutes: start all of them; does each reach the others?"
        )


def _answer(server: socket.socket, count: int, until: float) -> str:
    """Answers all workers once all have called.

    Returns:
        Who has not called, or nothing.
    """
    ranks: dict[socket.socket, int] = {}  # 0 until it is known; whoever hangs up is not there any more
    with contextlib.ExitStack() as calls:
        while missing := set(range(1, count)) - set(ranks.values()):
            left = max(until - time.monotonic(), 0)
            if not (ready := select.select([server, *ranks], [], [], left)[0]):
                return f"worker {', '.join(map(str, sorted(missing)))}"
            for caller in ready:
                if caller is server:
                    ranks[calls.enter_context(server.accept()[0])] = 0
                    continue
                said = b""
                with contextlib.suppress(ConnectionError):
                    said = caller.recv(4)
                ranks[caller] = int.from_bytes(said)
                if not said:
                    del ranks[caller]
        server.close()  # TensorFlow will listen here
        for caller in filter(ranks.get, ranks):
            caller.sendall(ALL_HERE)
    return ""


def _call(cluster: Cluster, until: float) -> str:
    """Calls worker 0, again where it is not there yet or starts anew, until it answers.

    Returns:
        Who is missing, or nothing.
    """
    host, _, port = cluster.workers[0].rpartition(":")
    missing = "worker 0"
    while (left := until - time.monotonic()) > 0:
        with contextlib.suppress(OSError), socket.create_connection((host.strip("[]"), port), min(left, 10)) as call:
            call.settimeout(left)
            call.sendall(cluster.rank.to_bytes(4))
            missing = "another worker"
            if call.recv(1) == ALL_HERE:  # and not TensorFlow of an earlier start, or this call itself
                return ""
        time.sleep(RETRY_SECONDS)
    return missing
