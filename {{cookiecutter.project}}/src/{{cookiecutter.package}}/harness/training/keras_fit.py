"""Fitting a Keras model: seeded, deterministic, from arrays that stay on disk. TensorFlow is loaded here."""

import contextlib
import functools
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .. import contracts, prepared
from .. import targets as harness_targets
from ..contracts import Fitted, Report
from ..core import config
from ..core.errors import UserError
from . import export
from .epochs import mode, silent
from .strategy import Strategy, cluster

Split = tuple[NDArray[Any], NDArray[Any]]
READ_BYTES = 4 << 20
PROFILE = "build/profile"


@contextlib.contextmanager
def quiet_import() -> Iterator[None]:
    """Holds back what TensorFlow's C++ side prints while it loads; shown after all where loading fails.

    It prints to file descriptor 2 before its log level can be set, on every machine without a GPU.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # what matters is raised as an exception as well
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


with quiet_import():
    import keras
    import tensorflow as tf

    tf.config.list_physical_devices()  # looks for a GPU now, while the complaint that there is none is held back

from . import distributed  # noqa: E402  imports TensorFlow, which is quiet by now


class Settings(NamedTuple):
    """Section `train` of the configuration; see `training.gradient_descent`."""

    seed: int
    epochs: int
    batch_size: int
    learning_rate: float
    monitor: str
    patience: int
    class_weights: str
    threads: int | None = None
    limit: int | None = None
    profile: bool = False
    strategy: Strategy = Strategy()


class Share(NamedTuple):
    """Which rows of a batch a worker takes: consecutive ones, as many as the others do, or one more or less.

    Attributes:
        rank: Of the worker, from 0.
        size: The number of workers.
    """

    rank: int = 0
    size: int = 1

    def of(self, start: int, stop: int) -> slice:
        """Returns the worker's part of a batch, which may be empty.

        Args:
            start: Of the batch.
            stop: Its end.
        """
        first, last = ((stop - start) * part // self.size for part in (self.rank, self.rank + 1))
        return slice(start + first, start + last)


ALL = Share()


def make_deterministic(seed: int) -> None:
    """Seeds Python, NumPy and TensorFlow and makes every operation deterministic.

    Args:
        seed: The seed.
    """
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def limit_threads(count: int) -> None:
    """Lets TensorFlow compute with this many threads; a process can say so once.

    Args:
        count: Number of threads.

    Raises:
        UserError: Where this process has already computed with another number.
    """
    threading = tf.config.threading
    if threading.get_intra_op_parallelism_threads() == count:
        return
    try:
        threading.set_intra_op_parallelism_threads(count)
        threading.set_inter_op_parallelism_threads(count)
    except RuntimeError as error:
        raise UserError(f"train.threads: {count} comes too late, TensorFlow has already started: {error}") from error


def batches(
    split: Split,
    batch_size: int,
    seed: int | None = None,
    augment: contracts.Augment | None = None,
    share: Share = ALL,
    begun: int = 0,
) -> tf.data.Dataset:
    """Reads batches straight from the memory-mapped array, the next ones while the model works on this one.

    Up to 16 batches or `READ_BYTES` are read at a time: calling back into Python for each small batch costs as much as
    a step of a cheap model.

    Args:
        split: Rows, [N, ...], and targets, [N].
        batch_size: Rows in a batch.
        seed: Shuffles anew in every epoch; None keeps the order.
        augment: Changes rows at random.
        share: Which part of every batch is read, and no other; it may be empty in the last batch.
        begun: How many iterations an earlier process has begun, whose random numbers are not to come again.

    Returns:
        A dataset of (rows [B, ...], targets [B]), of the arrays' types.
    """
    array, targets = split
    count = len(targets)
    at_once = batch_size
    if share.size == 1:
        at_once *= min(16, max(1, READ_BYTES // (batch_size * array[0].nbytes)))

    @lru_cache(maxsize=2)  # of this epoch, and of the next one, which is read ahead
    def order(epoch: int) -> NDArray[np.uint32]:
        # 4 bytes a row in memory; tf.data's own shuffle takes 250, and as long as the training of a small model.
        return np.random.default_rng((seed or 0, epoch)).permutation(np.arange(count, dtype=np.uint32))

    def take(start: np.int64, epoch: np.int64) -> Split:
        own = share.of(int(start), min(int(start) + at_once, count))
        rows = own if seed is None else order(int(epoch))[own]
        return array[rows], targets[rows]

    def tensors(start: tf.Tensor, epoch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # stateful=False: the arguments alone decide what is read, so that determinism does not forbid reading ahead.
        x, y = tf.numpy_function(take, [start, epoch], (array.dtype, targets.dtype), stateful=False)
        x.set_shape((None, *array.shape[1:]))
        y.set_shape((None,))
        return x, y

    epochs = tf.data.Dataset.random(seed=seed or 0, rerandomize_each_iteration=True).take(1)
    starts = tf.data.Dataset.range(0, count, at_once)
    read = epochs.flat_map(lambda epoch: starts.map(lambda start: tensors(start, epoch)))
    if at_once > batch_size:
        read = read.rebatch(batch_size)
    # `rebatch` forgets how many batches there are, and Keras takes the end of an unknown number for a mistake.
    read = read.apply(tf.data.experimental.assert_cardinality(-(-count // batch_size)))
    if augment is not None:
        read = augment(read, (seed or 0) + share.rank)
    for _ in range(begun):  # random numbers are drawn when an iteration begins
        next(iter(read))
    return read.prefetch(2)


def class_weights(labels: NDArray[np.int64], classes: int) -> dict[int, float]:
    """Returns N / (classes * N_class) for each class (G. King, L. Zeng, Logistic Regression in Rare Events Data, 2001).

    Args:
        labels: int64 [N].
        classes: Number of classes.
    """
    counts = np.bincount(labels, minlength=classes)
    return {label: float(len(labels) / (classes * count)) for label, count in enumerate(counts)}


def fit(
    section: Mapping[str, Any],
    inputs: contracts.Inputs,
    manifest: contracts.Manifest,
    settings: Settings,
    report: Report = silent,
) -> Fitted:
    """Builds the model, trains it until the monitored metric stops improving, and keeps the best epoch's weights.

    Args:
        section: Section `model` of the configuration.
        inputs: What the model is given.
        manifest: Of the prepared data.
        settings: Section `train` of the configuration.
        report: Is told each epoch's number and what was measured in it.

    Raises:
        UserError: Where the layers do not fit the data, the loss is no longer a number, or a worker is lost.
    """
    if settings.threads is not None:
        limit_threads(settings.threads)
    group = connect(settings, manifest) if settings.strategy.distribution == "multi_worker" else None
    make_deterministic(settings.seed)
    target, targets = harness_targets.target(manifest), prepared.targets("train")[: settings.limit]
    array = inputs.array
    inputs = inputs._replace(array=lambda split: array(split)[: settings.limit if split != "test" else None])
    head, compiled = target.head(manifest, targets), target.compile_arguments(manifest, targets)
    with devices(settings.strategy), precision(settings.strategy.precision):
        try:
            model = config.instantiate(section, inputs.layers, in_float32(head))
        except ValueError as error:  # what Keras says of layers that do not fit the images
            raise UserError(f"model: {' '.join(str(error).split())}") from error
        profiled = settings.profile and (group is None or group.chief)
        with tf.profiler.experimental.Profile(PROFILE) if profiled else contextlib.nullcontext():
            try:
                history = train(model, inputs, targets, compiled, settings, report, group)
            except distributed.LOST as error:
                if group is None:
                    raise
                raise distributed.lost(group, error) from error
            except (tf.errors.UnimplementedError, tf.errors.InvalidArgumentError) as error:
                if not settings.strategy.xla:
                    raise
                raise without_xla(error) from error
    if group is not None and group.chief:
        distributed.forget()
    model = plain(model, settings.strategy)
    model(inputs.array("validation")[:1], training=False)  # Keras exports no model that was never called as a whole
    return Fitted(
        lambda: export.to_onnx(model),
        lambda rows: np.asarray(model(rows, training=False)),
        {variable.path: np.asarray(variable) for variable in model.weights},
        history,
        {"keras": json.loads(model.to_json())},
    )


def without_xla(error: tf.errors.OpError) -> UserError:
    """Returns what to tell where XLA cannot compile the model; of some operations it has no deterministic form.

    Args:
        error: What TensorFlow has raised.
    """
    lines = [line.strip() for line in str(error).splitlines()]
    reason = next((line for line in lines if "XLA" in line or "compil" in line), lines[0])
    return UserError(f"train.strategy.xla: XLA cannot compile this model's training ({reason[:200]}): set it to false")


def connect(settings: Settings, manifest: contracts.Manifest) -> distributed.Group:
    """Connects the workers of this training.

    Args:
        settings: Section `train` of the configuration.
        manifest: Of the prepared data.

    Raises:
        UserError: Where the environment does not name them, or there are more of them than rows in a batch.
    """
    found = cluster()
    if len(found.workers) > settings.batch_size:
        raise UserError(
            f"train.batch_size: {settings.batch_size} rows cannot be divided among {len(found.workers)} workers"
        )
    return distributed.Group(found, distributed.connect(found), distributed.digest(manifest))


def devices(strategy: Strategy) -> contextlib.AbstractContextManager[Any]:
    """Returns where variables live: on every GPU of this machine if `mirrored`, otherwise where TensorFlow puts them.

    Args:
        strategy: Section `train.strategy` of the configuration.
    """
    if strategy.distribution != "mirrored":
        return contextlib.nullcontext()
    found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if len(found) == 1:
        print(f"train: mirrored, but there is one device, {found[0].name}: it trains as `none` does", file=sys.stderr)
        return contextlib.nullcontext()
    scope: contextlib.AbstractContextManager[Any] = tf.distribute.MirroredStrategy().scope()
    return scope


@contextlib.contextmanager
def precision(policy: str) -> Iterator[None]:
    """Makes new layers compute in a precision (P. Micikevicius et al., Mixed Precision Training, ICLR 2018).

    Args:
        policy: As Keras calls it.
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def in_float32(head: contracts.Head) -> contracts.Head:
    """Returns a model's last layers in full precision: half of it has no room for small probabilities.

    Args:
        head: Makes the answer from the last hidden layer.
    """

    def apply(x: contracts.Tensor) -> contracts.Tensor:
        with precision("float32"):
            return head(x)

    return apply


def plain(model: keras.Model, strategy: Strategy) -> keras.Model:
    """Returns a trained model as one that computes in float32 on one device, which is what is exported.

    Its weights are float32 in any case, and processors that serve it may know nothing less.

    Args:
        model: Trained.
        strategy: How.
    """
    if strategy.precision == "float32" and strategy.distribution != "mirrored":
        return model
    described = json.loads(model.to_json().replace(f'"{strategy.precision}"', '"float32"')) | {"compile_config": None}
    copied = keras.models.model_from_json(json.dumps(described))
    copied.set_weights(model.get_weights())
    return copied


def train(
    model: keras.Model,
    inputs: contracts.Inputs,
    targets: NDArray[Any],
    compiled: Mapping[str, Any],
    settings: Settings,
    report: Report = silent,
    group: distributed.Group | None = None,
) -> pd.DataFrame:
    """Trains a model in place, in phases where it asks for them (`models.transfer`), and keeps the best of all epochs.

    Args:
        model: Uncompiled.
        inputs: What it is given.
        targets: Of the training split, [N].
        compiled: Loss and metrics.
        settings: Section `train` of the configuration.
        report: Is told each epoch's number and what was measured in it.
        group: Who trains it together.

    Returns:
        A row for each epoch of all phases.
    """
    validation = prepared.targets("validation")[: settings.limit]
    if not hasattr(model, "phases"):
        rows = inputs.array("train"), inputs.array("validation")
        split = (rows[0], targets), (rows[1], validation)
        return descend(model, *split, compiled, settings, inputs.augment, report, group=group)
    histories: list[pd.DataFrame] = []
    best, weights = -np.inf, model.get_weights()
    for phase in model.phases(inputs, settings.epochs, settings.learning_rate):
        array = phase.inputs.array
        own = settings._replace(epochs=phase.epochs, learning_rate=phase.learning_rate)
        split = (array("train"), targets), (array("validation"), validation)
        key = "model.fine_tune_learning_rate" if histories else "train.learning_rate"
        before = sum(map(len, histories))
        told = functools.partial(_continued, report, before)
        histories.append(descend(phase.model, *split, compiled, own, phase.inputs.augment, told, key, group))
        score = float((histories[-1][settings.monitor] * (1 if mode(settings.monitor) == "max" else -1)).max())
        if score > best:
            best, weights = score, model.get_weights()
    model.set_weights(weights)
    return pd.concat(histories, ignore_index=True)


def _continued(report: Report, before: int, epoch: int, measured: Mapping[str, float]) -> None:
    report(before + epoch, measured)


def descend(
    model: keras.Model,
    train: Split,
    validation: Split,
    compiled: Mapping[str, Any],
    settings: Settings,
    augment: contracts.Augment | None = None,
    report: Report = silent,
    key: str = "train.learning_rate",
    group: distributed.Group | None = None,
) -> pd.DataFrame:
    """Trains a model in place.

    Args:
        model: Uncompiled.
        train: Rows, [N, ...], and targets, [N].
        validation: Likewise.
        compiled: Loss and metrics.
        settings: Section `train` of the configuration.
        augment: Changes training batches at random.
        report: Is told each epoch's number and what was measured in it.
        key: Where the configuration has the learning rate.
        group: Who trains it together; then it goes on where an interrupted training of the same has left off.

    Returns:
        A row for each epoch: loss and metric, val_loss and val_metric.

    Raises:
        UserError: Where the loss is no longer a number, or a worker is lost or trains something else.
    """
    from tqdm import tqdm

    fitted = model if group is None else distributed.Worker(model, group, settings.strategy.xla)
    # Fresh metrics: one keeps its counts, and Keras does not reset those of a model before it has met them in a step.
    metrics = [metric.from_config(metric.get_config()) for metric in compiled["metrics"]]
    fitted.compile(
        keras.optimizers.Adam(settings.learning_rate),
        **{**compiled, "metrics": metrics},
        # The way back to Python after each step costs more than reading from disk, but Keras needs it between devices.
        steps_per_execution=8 if group is None and not tf.distribute.has_strategy() else 1,
        jit_compile=False,
    )
    # A step that makes variables when it is traced, of the optimizer or of a metric's name, is traced once more: half a
    # second for a small model, many for a large one.
    fitted.optimizer.build(fitted.trainable_variables)
    if settings.strategy.xla and group is None:
        # Not by `jit_compile`: Keras silently ignores it as soon as operations must be deterministic.
        fitted.train_step = tf.function(fitted.train_step, jit_compile=True)  # type: ignore[method-assign]
    follows = group is not None and not group.chief
    progress = tqdm(total=settings.epochs, desc="train", unit=" epochs", disable=follows or None)

    def show(epoch: int, logs: dict[str, Any]) -> None:
        progress.set_postfix({name: f"{value:.4f}" for name, value in logs.items()}, refresh=False)
        progress.update()
        if np.isfinite(list(logs.values())).all():  # what is not ends below, with a line that says why
            report(epoch, logs)

    best = keras.callbacks.EarlyStopping(
        settings.monitor,
        mode=mode(settings.monitor),
        patience=settings.patience,
        restore_best_weights=True,
    )
    weights = class_weights(train[1], model.output_shape[-1]) if settings.class_weights == "balanced" else None
    callbacks = [best, keras.callbacks.TerminateOnNaN(), keras.callbacks.LambdaCallback(on_epoch_end=show)]
    begun, share = 0, ALL
    if group is not None:
        share = Share(group.cluster.rank, len(group.cluster.workers))
        what = repr(settings), model.to_json()
        group.require_equal(distributed.digest(group.data, *what))
        rows = map(np.asarray, next(iter(batches(train, settings.batch_size, settings.seed, augment))))
        state = distributed.digest(group.data, *what, *rows, *map(np.asarray, model.weights))
        checkpoint = distributed.Checkpoint(group, state, model, fitted.optimizer, best)
        begun = checkpoint.restore()
        callbacks.append(checkpoint)
    with progress:
        progress.update(begun)
        history = fitted.fit(
            batches(train, settings.batch_size, settings.seed, augment, share, 2 * begun),  # Keras begins each twice
            validation_data=batches(validation, max(settings.batch_size, 256), share=share),
            initial_epoch=begun if group is None or not checkpoint.ended else settings.epochs,
            epochs=settings.epochs,
            class_weight=weights,
            callbacks=callbacks,
            shuffle=False,
            verbose=0,
        )
    epochs = pd.DataFrame(history.history if group is None else checkpoint.history)
    if not np.isfinite(epochs.to_numpy()).all():
        raise UserError(
            f"the loss became NaN or infinite in epoch {len(epochs) - 1}: lower {key} (now {settings.learning_rate})"
        )
    return epochs
