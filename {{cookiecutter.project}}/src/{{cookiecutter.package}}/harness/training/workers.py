"""Communication of the workers of a distributed training."""

import re
import signal
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from ..core.errors import UserError, one_line
from .quiet import tf
from .rendezvous import gather
from .strategy import Cluster

# TensorFlow's exceptions after the loss of a worker: refused connections, missed heartbeats, aborted collectives.
LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)
WORD = 8  # bytes of an int64


class Group(NamedTuple):
    """The connected workers of a training.

    Attributes:
        cluster: Addresses and ranks.
        connection: Result of `connect`.
        data: Digest of the prepared data.
    """

    cluster: Cluster
    connection: "tf.distribute.Strategy | None"
    data: str

    @property
    def chief(self) -> bool:
        """Whether this worker is the chief, which writes the results."""
        return self.cluster.rank == 0

    def total(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """All-reduce: sums over all workers, bit-identical in each.

        Every worker must call it.

        Args:
            tensors: Tensors of the same shapes and types in every worker.
        """
        if self.connection is None:
            return list(tensors)
        return list(_total(self.connection, list(tensors)))

    def broadcast(self, content: bytes) -> bytes:
        """The chief's bytes, sent to every worker.

        Every worker must call it.

        Args:
            content: Bytes of the chief; ignored in other workers.
        """
        (length,) = self.total([tf.constant(len(content) if self.chief else 0, tf.int64)])
        words = np.zeros((int(length) + WORD - 1) // WORD, np.int64)
        if self.chief:
            words.view(np.uint8)[: len(content)] = np.frombuffer(content, np.uint8)
        (words,) = self.total([tf.constant(words)])
        return bytes(words.numpy().tobytes()[: int(length)])

    def require_equal(self, digest: str) -> None:
        """Raises an error in every worker if their digests differ.

        Every worker must call it.

        Args:
            digest: Hexadecimal SHA-256 of everything that must be equal in all workers.

        Raises:
            UserError: Naming the first worker whose digest differs from the chief's.
        """
        digests = np.zeros(len(self.cluster.workers), np.int64)
        digests[self.cluster.rank] = int(digest[:15], 16)
        (total,) = self.total([tf.constant(digests)])
        for rank in np.flatnonzero(total.numpy() != total.numpy()[0]):
            raise UserError(
                f"train.strategy: worker {rank} ({self.cluster.workers[rank]}) has another configuration, code or "
                "prepared data than worker 0: give all workers the same commit, and run `dvc pull` or share the folder"
            )


@tf.function
def _total(connection: "tf.distribute.Strategy", tensors: list[tf.Tensor]) -> list[tf.Tensor]:
    def add(*local: tf.Tensor) -> Any:
        # `identity` copies a constant to this worker's device, as the collective requires.
        placed = [tf.identity(tensor) for tensor in local]
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, placed)

    return list(connection.run(add, tuple(tensors)))


@cache  # a process can join a cluster only once
def connect(cluster: Cluster) -> "tf.distribute.Strategy | None":
    """The connection of all workers; None for a single worker.

    Args:
        cluster: Addresses and ranks.

    Raises:
        UserError: If a worker does not start, or this worker cannot listen at its address.
    """
    choose_gpu(cluster)
    if len(cluster.workers) == 1:
        return None
    print(f"train: worker {cluster.rank} waits for all of {', '.join(cluster.workers)}", file=sys.stderr)
    tf.get_logger().setLevel("ERROR")  # hides the warning that `_total` is traced for several shapes
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": list(cluster.workers)}),
        task_type="worker",
        task_id=cluster.rank,
        rpc_layer="grpc",
    )
    try:
        gather(cluster)
        connection = tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
    except (tf.errors.OpError, RuntimeError, OSError) as error:
        raise UserError(
            f"train.strategy: worker {cluster.rank} cannot join as {cluster.workers[cluster.rank]}: "
            f"{one_line(error, 200)}: is the port in use, or can a worker not reach the others?"
        ) from error
    # TensorFlow installs a SIGTERM handler; restore the default so that a cancelled job exits.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return connection


def choose_gpu(cluster: Cluster) -> None:
    """Assigns a GPU of this machine to this worker.

    If a scheduler binds GPUs to workers, each sees only one GPU and nothing changes.

    Args:
        cluster: Addresses and ranks.
    """
    host = cluster.workers[cluster.rank].rpartition(":")[0]
    local = [rank for rank, worker in enumerate(cluster.workers) if worker.rpartition(":")[0] == host]
    gpus = tf.config.list_physical_devices("GPU")
    if len(gpus) < 2:
        return
    tf.config.set_visible_devices(gpus[local.index(cluster.rank) % len(gpus)], "GPU")
    if len(local) < len(gpus) and cluster.rank == local[0]:
        print(
            f"train: {host} has {len(gpus)} GPUs and {len(local)} workers: start a worker for each GPU", file=sys.stderr
        )


def lost(group: Group, error: Exception) -> UserError:
    """The error for a lost worker, naming it if TensorFlow does.

    Args:
        group: The workers.
        error: Exception of TensorFlow.
    """
    tasks = {int(task) for task in re.findall(r"task:(\d+)", str(error).partition("unhealthy")[2])}
    ranks = sorted(rank for rank in tasks if rank < len(group.cluster.workers) and rank != group.cluster.rank)
    who = f"worker {', '.join(map(str, ranks))}" if ranks else "another worker"
    return UserError(
        f"train.strategy: {who} of {', '.join(group.cluster.workers)} is lost or has ended with an error: "
        "start all workers again; training resumes after the last finished epoch"
    )
