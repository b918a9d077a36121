"""The workers of one training, connected: sums over all of them, and errors if one is lost."""

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

# Exceptions of TensorFlow after the loss of a worker: refused connections, missed heartbeats, aborted sums.
LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)
WORD = 8  # bytes of an int64


class Group(NamedTuple):
    """The connected workers of one training.

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
        """Whether this process is the chief, which writes the results."""
        return self.cluster.rank == 0

    def total(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Sums over all workers, the same bits for each of them. All of them must call it.

        Args:
            tensors: Of the same shapes and types in every worker.
        """
        if self.connection is None:
            return list(tensors)
        return list(_total(self.connection, list(tensors)))

    def broadcast(self, content: bytes) -> bytes:
        """The bytes of the chief, in every worker. All of them must call it.

        Args:
            content: Bytes of the chief; those of the others are ignored.
        """
        (length,) = self.total([tf.constant(len(content) if self.chief else 0, tf.int64)])
        words = np.zeros((int(length) + WORD - 1) // WORD, np.int64)
        if self.chief:
            words.view(np.uint8)[: len(content)] = np.frombuffer(content, np.uint8)
        (words,) = self.total([tf.constant(words)])
        return bytes(words.numpy().tobytes()[: int(length)])

    def require_equal(self, digest: str) -> None:
        """Stops every worker if one of them trains something else. All of them must call it.

        Args:
            digest: SHA-256 that must be equal in all workers, hexadecimal.

        Raises:
            UserError: Naming the first worker that differs from the chief.
        """
        digests = np.zeros(len(self.cluster.workers), np.int64)
        digests[self.cluster.rank] = int(digest[:15], 16)
        (total,) = self.total([tf.constant(digests)])
        for rank in np.flatnonzero(total.numpy() != total.numpy()[0]):
            raise UserError(
                f"train.strategy: worker {rank} ({self.cluster.workers[rank]}) has another configuration, code or "
                "prepared data than worker 0: give all of them the same commit, and `dvc pull` or a shared folder"
            )


@tf.function
def _total(connection: "tf.distribute.Strategy", tensors: list[tf.Tensor]) -> list[tf.Tensor]:
    def add(*local: tf.Tensor) -> Any:
        # `identity` puts a constant onto this worker's device, where the sum expects it.
        placed = [tf.identity(tensor) for tensor in local]
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, placed)

    return list(connection.run(add, tuple(tensors)))


@cache  # TensorFlow can join a cluster once in a process
def connect(cluster: Cluster) -> "tf.distribute.Strategy | None":
    """The connection to all workers, once all have started; None for a single worker.

    Args:
        cluster: Addresses and ranks.

    Raises:
        UserError: If one of them does not start, or this one cannot listen at its address.
    """
    choose_gpu(cluster)
    if len(cluster.workers) == 1:
        return None
    print(f"train: worker {cluster.rank} waits for all of {', '.join(cluster.workers)}", file=sys.stderr)
    tf.get_logger().setLevel("ERROR")  # warns that `_total` is compiled for sums of several shapes: a handful
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
            f"{one_line(error, 200)}: is the port in use, and does each worker reach all the others?"
        ) from error
    # TensorFlow installs its own SIGTERM handler; restore the default so that a cancelled job exits.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return connection


def choose_gpu(cluster: Cluster) -> None:
    """Gives each worker of a machine its own GPU; a scheduler that binds them shows each worker only one.

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
        print(f"train: {host} has {len(gpus)} GPUs and {len(local)} workers: start one a GPU", file=sys.stderr)


def lost(group: Group, error: Exception) -> UserError:
    """The error for a lost worker, which names it if TensorFlow does.

    Args:
        group: The workers.
        error: The exception of TensorFlow.
    """
    tasks = {int(task) for task in re.findall(r"task:(\d+)", str(error).partition("unhealthy")[2])}
    ranks = sorted(rank for rank in tasks if rank < len(group.cluster.workers) and rank != group.cluster.rank)
    who = f"worker {', '.join(map(str, ranks))}" if ranks else "another worker"
    return UserError(
        f"train.strategy: {who} of {', '.join(group.cluster.workers)} is lost or has ended with an error: "
        "start all of them again, the training goes on after the last finished epoch"
    )
