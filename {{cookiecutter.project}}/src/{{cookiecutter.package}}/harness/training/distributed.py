"""One training in several processes: each works on its rows of every batch, and their gradients are added up.

Keras 3 does not train under TensorFlow's strategy for several workers. Here, every worker fits an ordinary model of
its own, and all that crosses the network are sums: equal weights at the start and equal sums at every step are equal
weights at every step. Method: synchronous stochastic gradient descent (J. Chen, X. Pan, R. Monga, S. Bengio,
R. Jozefowicz, Revisiting Distributed Synchronous SGD, ICLR workshop 2016), without backup workers.
"""

import hashlib
import io
import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ..core.errors import UserError
from .strategy import Cluster, gather

CHECKPOINTS = Path(".dvc/tmp/checkpoint")  # beside DVC's own temporary files, which git ignores
# What TensorFlow raises where another worker is gone: refused connections, missed heartbeats, aborted sums.
LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)


class Group(NamedTuple):
    """The workers of one training, connected.

    Attributes:
        cluster: Who they are.
        connection: What `connect` has returned.
        data: Digest of the prepared data.
    """

    cluster: Cluster
    connection: "tf.distribute.Strategy | None"
    data: str

    @property
    def chief(self) -> bool:
        """Whether this process is the one that writes."""
        return self.cluster.rank == 0

    def total(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Returns the sums over all workers, the same bits for each of them. All of them must call it.

        Args:
            tensors: Of the same shapes and types in every worker.
        """
        if self.connection is None:
            return list(tensors)

        return list(_total(self.connection, list(tensors)))

    def broadcast(self, content: bytes) -> bytes:
        """Returns what the chief has given, to every worker.

        Args:
            content: Of the chief; what the others give is not looked at.
        """
        (length,) = self.total([tf.constant(len(content) if self.chief else 0, tf.int64)])
        words = np.zeros(-(-int(length) // 8), np.int64)
        if self.chief:
            words.view(np.uint8)[: len(content)] = np.frombuffer(content, np.uint8)
        (words,) = self.total([tf.constant(words)])
        return bytes(words.numpy().tobytes()[: int(length)])

    def require_equal(self, digest: str) -> None:
        """Stops every worker where one of them trains something else.

        Args:
            digest: SHA-256 of what must be the same, hexadecimal.

        Raises:
            UserError: Naming the first worker that differs from the chief.
        """
        own = np.zeros(len(self.cluster.workers), np.int64)
        own[self.cluster.rank] = int(digest[:15], 16)
        (found,) = self.total([tf.constant(own)])
        for rank in np.flatnonzero(found.numpy() != found.numpy()[0]):
            raise UserError(
                f"train.strategy: worker {rank} ({self.cluster.workers[rank]}) has another configuration, code or "
                "prepared data than worker 0: give all of them the same commit, and `dvc pull` or a shared folder"
            )


@tf.function
def _total(connection: "tf.distribute.Strategy", tensors: list[tf.Tensor]) -> list[tf.Tensor]:
    def add(*own: tf.Tensor) -> Any:
        # `identity` puts a constant onto this worker's device, as the sum wants it.
        placed = [tf.identity(tensor) for tensor in own]
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, placed)

    return list(connection.run(add, tuple(tensors)))


@cache  # TensorFlow can join a cluster once in a process
def connect(cluster: Cluster) -> "tf.distribute.Strategy | None":
    """Waits for all workers, and connects them.

    Args:
        cluster: Who they are.

    Returns:
        What adds up tensors of all workers; None for a single one, which needs nothing of the kind.

    Raises:
        UserError: Where one of them does not come, or this one cannot listen at its address.
    """
    host = cluster.workers[cluster.rank].rpartition(":")[0]
    here = [rank for rank, worker in enumerate(cluster.workers) if worker.rpartition(":")[0] == host]
    gpus = tf.config.list_physical_devices("GPU")
    if len(gpus) > 1:  # one a worker; a scheduler that binds them shows each worker its own
        tf.config.set_visible_devices(gpus[here.index(cluster.rank) % len(gpus)], "GPU")
        if len(here) < len(gpus) and cluster.rank == here[0]:
            print(f"train: {host} has {len(gpus)} GPUs and {len(here)} workers: start one a GPU", file=sys.stderr)
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
            f"{' '.join(str(error).split())[:200]}: is the port in use, and does each worker reach all the others?"
        ) from error
    # TensorFlow has taken it, to tell of it in a way nobody asks for here: a cancelled job must end, not be killed.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return connection


def lost(group: Group, error: Exception) -> UserError:
    """Returns what to tell where a worker is gone.

    Args:
        group: The workers.
        error: What TensorFlow has raised.
    """
    tasks = re.findall(r"task:(\d+)", str(error).partition("unhealthy")[2])
    named = {int(task) for task in tasks if int(task) < len(group.cluster.workers)} - {group.cluster.rank}
    who = f"worker {', '.join(map(str, sorted(named)))}" if named else "another worker"
    return UserError(
        f"train.strategy: {who} of {', '.join(group.cluster.workers)} is lost or has ended with an error of its own: "
        "start all of them again, the training goes on after the last epoch that was finished"
    )


class Worker(keras.Model):
    """A model whose every step is that of all workers together, on the whole batch.

    It shares its layers with the model it is made of, which is trained thereby.
    """

    def __init__(self, model: keras.Model, group: Group, xla: bool) -> None:
        """Takes the model's layers.

        Args:
            model: Uncompiled.
            group: The workers.
            xla: Whether XLA compiles the gradients; the sums over the network are beyond it.
        """
        super().__init__(model.input, model.output)
        self.group = group
        self.gradients = tf.function(self._gradients, jit_compile=True) if xla else self._gradients

    def _gradients(self, x: tf.Tensor, y: tf.Tensor, weights: tf.Tensor | None) -> tuple[tf.Tensor, ...]:
        with tf.GradientTape() as tape:
            answers = self(x, training=True)
            loss = self.compute_loss(x, y, answers, weights, training=True)
            scaled = self.optimizer.scale_loss(loss)
        return answers, loss, tape.gradient(scaled, self.trainable_weights)

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Moves the weights by the gradient of the mean loss over all rows of the batch.

        sum_w n_w g_w / sum_w n_w, where worker w has the mean gradient g_w of its n_w rows; n_w may be 0.

        Args:
            data: This worker's rows of the batch, their targets and, if there are any, weights.

        Returns:
            Loss of the whole batch, the same number in every worker, and this worker's metrics.
        """
        x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
        answers, loss, gradients = self.gradients(x, y, weights)
        rows = tf.cast(tf.shape(x)[0], tf.float32)
        parts = [tf.math.multiply_no_nan(tf.convert_to_tensor(part), rows) for part in (*gradients, loss)]
        *sums, loss_sum, count = self.group.total([*parts, rows])
        self.optimizer.apply([part / count for part in sums], self.trainable_weights)
        self._measure(y, answers, loss, rows)
        return {**super().get_metrics_result(), "loss": loss_sum / count}

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Measures this worker's rows of a batch.

        Args:
            data: Rows, targets and, if there are any, weights.
        """
        x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
        answers = self(x, training=False)
        loss = self.compute_loss(x, y, answers, weights, training=False)
        self._measure(y, answers, loss, tf.cast(tf.shape(x)[0], tf.float32))
        return dict(super().get_metrics_result())

    def _measure(self, y: tf.Tensor, answers: tf.Tensor, loss: tf.Tensor, rows: tf.Tensor) -> None:
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(tf.where(rows > 0, loss, 0.0), sample_weight=rows)
            else:
                metric.update_state(y, answers)

    def get_metrics_result(self) -> dict[str, tf.Tensor]:
        """Returns the metrics over the rows of all workers; Keras asks for them at the end of an epoch.

        Every metric is a sum divided by a number of rows, which are added up. Asking again changes neither's ratio.
        """
        variables = [variable for metric in self.metrics for variable in metric.variables]
        for variable, total in zip(variables, self.group.total([v.value for v in variables]), strict=True):
            variable.assign(total)
        return dict(super().get_metrics_result())


class Checkpoint(keras.callbacks.Callback):
    """Keeps what a training needs to go on after its last finished epoch, bit for bit: see `restore`.

    Unlike keras.callbacks.BackupAndRestore it also keeps the early stopping, the history and the state of the dropout,
    one worker writes it for all, and a file of another training is never taken.
    """

    def __init__(
        self,
        group: Group,
        training: str,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        best: keras.callbacks.EarlyStopping,
    ) -> None:
        """Takes what is to be kept.

        Args:
            group: The workers.
            training: Digest of all that makes the training what it is; another one has another file.
            model: What is trained, uncompiled: its weights and random states.
            optimizer: Of the compiled model.
            best: The early stopping, in the same list of callbacks, before this one.
        """
        super().__init__()
        optimizer.build(model.trainable_variables)
        self.group, self.best = group, best
        self.file = CHECKPOINTS / f"{training}.npz"
        self.variables = [*model.variables, *optimizer.variables]
        self.history: list[dict[str, float]] = []
        self.stopping: dict[str, Any] = {}
        self.best_weights: list[NDArray[Any]] | None = None
        self.ended = False

    def restore(self) -> int:
        """Gives every worker the chief's state: the weights, or where an interrupted training has left off.

        Returns:
            The number of epochs that are finished.
        """
        content = b""
        if self.group.chief:
            content = self.file.read_bytes() if self.file.exists() else self._pack()
        with np.load(io.BytesIO(self.group.broadcast(content))) as read:
            state = json.loads(str(read["state"]))
            arrays = [read[f"arr_{index}"] for index in range(len(read.files) - 1)]
        for variable, array in zip(self.variables, arrays, strict=False):
            # With the same random numbers, all workers would drop the same units, each of its own rows.
            random = variable.path.endswith("seed_generator_state")
            variable.assign(array + np.array([self.group.cluster.rank, 0]) if random else array)
        self.history, self.stopping, self.ended = state["history"], state["stopping"], state["ended"]
        self.best_weights = arrays[len(self.variables) :] or None
        if self.history and self.group.chief:
            print(f"train: going on after epoch {len(self.history) - 1} of an interrupted training", file=sys.stderr)
        return len(self.history)

    def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:
        """Gives the early stopping, which has just forgotten everything, what it knew."""
        vars(self.best).update(self.stopping, best_weights=self.best_weights)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Writes the state, in one step: a worker may be lost at any time."""
        self.history.append({name: float(value) for name, value in (logs or {}).items()})
        finite = np.isfinite(list(self.history[-1].values())).all()  # what is not ends the training
        if not self.group.chief or not finite:
            return
        self.stopping = {name: getattr(self.best, name) for name in ("wait", "best", "best_epoch", "stopped_epoch")}
        self.best_weights, self.ended = self.best.best_weights, bool(self.model.stop_training)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.file.with_suffix(".tmp")
        temporary.write_bytes(self._pack())
        os.replace(temporary, self.file)

    def _pack(self) -> bytes:
        state = {"history": self.history, "stopping": self.stopping, "ended": self.ended}
        arrays = [*map(np.asarray, self.variables), *(self.best_weights or [])]
        written = io.BytesIO()
        np.savez(written, *arrays, state=np.array(json.dumps(state)))
        return written.getvalue()


def forget() -> None:
    """Removes the checkpoints: of the training that has succeeded, and of others that never did."""
    shutil.rmtree(CHECKPOINTS, ignore_errors=True)


def digest(*parts: Any) -> str:
    """Returns the SHA-256 of what makes a training what it is.

    Args:
        *parts: Arrays, or what JSON can hold.
    """
    found = hashlib.sha256()
    for part in parts:
        found.update(part.tobytes() if isinstance(part, np.ndarray) else json.dumps(part, sort_keys=True).encode())
    return found.hexdigest()
