"""Fitting a Keras model: seeded, deterministic, from arrays that stay on disk. The only module to import TensorFlow."""

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

from . import config, export
from .cli import UserError
from .data import prepared
from .training import Fitted, Report, mode, silent

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
    split: Split, batch_size: int, seed: int | None = None, augment: prepared.Augment | None = None
) -> tf.data.Dataset:
    """Reads batches straight from the memory-mapped array, the next ones while the model works on this one.

    Up to 16 batches or `READ_BYTES` are read at a time: calling back into Python for each small batch costs as much as
    a step of a cheap model.

    Args:
        split: Rows, [N, ...], and targets, [N].
        batch_size: Rows in a batch.
        seed: Shuffles anew in every epoch; None keeps the order.
        augment: Changes rows at random.

    Returns:
        A dataset of (rows [B, ...], targets [B]), of the arrays' types.
    """
    array, targets = split
    count = len(targets)
    at_once = batch_size * min(16, max(1, READ_BYTES // (batch_size * array[0].nbytes)))

    @lru_cache(maxsize=2)  # of this epoch, and of the next one, which is read ahead
    def order(epoch: int) -> NDArray[np.uint32]:
        # 4 bytes a row in memory; tf.data's own shuffle takes 250, and as long as the training of a small model.
        return np.random.default_rng((seed or 0, epoch)).permutation(np.arange(count, dtype=np.uint32))

    def take(start: np.int64, epoch: np.int64) -> Split:
        rows = slice(start, start + at_once) if seed is None else order(int(epoch))[start : start + at_once]
        return array[rows], targets[rows]

    def tensors(start: tf.Tensor, epoch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # stateful=False: the arguments alone decide what is read, so that determinism does not forbid reading ahead.
        x, y = tf.numpy_function(take, [start, epoch], (array.dtype, targets.dtype), stateful=False)
        x.set_shape((None, *array.shape[1:]))
        y.set_shape((None,))
        return x, y

    epochs = tf.data.Dataset.random(seed=seed or 0, rerandomize_each_iteration=True).take(1)
    starts = tf.data.Dataset.range(0, count, at_once)
    read = epochs.flat_map(lambda epoch: starts.map(lambda start: tensors(start, epoch))).rebatch(batch_size)
    # `rebatch` forgets how many batches there are, and Keras takes the end of an unknown number for a mistake.
    read = read.apply(tf.data.experimental.assert_cardinality(-(-count // batch_size)))
    if augment is not None:
        read = augment(read, seed or 0)
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
    inputs: prepared.Inputs,
    manifest: prepared.Manifest,
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
        UserError: Where the layers do not fit the data, or the loss is no longer a number.
    """
    if settings.threads is not None:
        limit_threads(settings.threads)
    make_deterministic(settings.seed)
    target, targets = prepared.target(manifest), prepared.targets("train")[: settings.limit]
    array = inputs.array
    inputs = inputs._replace(array=lambda split: array(split)[: settings.limit if split != "test" else None])
    try:
        model = config.instantiate(section, inputs.layers, target.head(manifest, targets))
    except ValueError as error:  # what Keras says of layers that do not fit the images
        raise UserError(f"model: {' '.join(str(error).split())}") from error
    with tf.profiler.experimental.Profile(PROFILE) if settings.profile else contextlib.nullcontext():
        history = train(model, inputs, targets, target.compile_arguments(manifest, targets), settings, report)
    model(inputs.array("validation")[:1], training=False)  # Keras exports no model that was never called as a whole
    return Fitted(
        lambda: export.to_onnx(model),
        lambda rows: np.asarray(model(rows, training=False)),
        {variable.path: np.asarray(variable) for variable in model.weights},
        history,
        {"keras": json.loads(model.to_json())},
    )


def train(
    model: keras.Model,
    inputs: prepared.Inputs,
    targets: NDArray[Any],
    compiled: Mapping[str, Any],
    settings: Settings,
    report: Report = silent,
) -> pd.DataFrame:
    """Trains a model in place, in phases where it asks for them (`models.transfer`), and keeps the best of all epochs.

    Args:
        model: Uncompiled.
        inputs: What it is given.
        targets: Of the training split, [N].
        compiled: Loss and metrics.
        settings: Section `train` of the configuration.
        report: Is told each epoch's number and what was measured in it.

    Returns:
        A row for each epoch of all phases.
    """
    validation = prepared.targets("validation")[: settings.limit]
    if not hasattr(model, "phases"):
        rows = inputs.array("train"), inputs.array("validation")
        return descend(model, (rows[0], targets), (rows[1], validation), compiled, settings, inputs.augment, report)
    histories: list[pd.DataFrame] = []
    best, weights = -np.inf, model.get_weights()
    for phase in model.phases(inputs, settings.epochs, settings.learning_rate):
        array = phase.inputs.array
        own = settings._replace(epochs=phase.epochs, learning_rate=phase.learning_rate)
        split = (array("train"), targets), (array("validation"), validation)
        key = "model.fine_tune_learning_rate" if histories else "train.learning_rate"
        before = sum(map(len, histories))
        told = functools.partial(_continued, report, before)
        histories.append(descend(phase.model, *split, compiled, own, phase.inputs.augment, told, key))
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
    augment: prepared.Augment | None = None,
    report: Report = silent,
    key: str = "train.learning_rate",
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

    Returns:
        A row for each epoch: loss and metric, val_loss and val_metric.

    Raises:
        UserError: Where the loss is no longer a number.
    """
    from tqdm import tqdm

    model.compile(
        keras.optimizers.Adam(settings.learning_rate),
        **compiled,
        steps_per_execution=8,  # the way back to Python after each step costs more than reading from disk
    )
    progress = tqdm(total=settings.epochs, desc="train", unit=" epochs", disable=None)

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
    with progress:
        history = model.fit(
            batches(train, settings.batch_size, settings.seed, augment),
            validation_data=batches(validation, max(settings.batch_size, 256)),
            epochs=settings.epochs,
            class_weight=weights,
            callbacks=[best, keras.callbacks.TerminateOnNaN(), keras.callbacks.LambdaCallback(on_epoch_end=show)],
            shuffle=False,
            verbose=0,
        )
    epochs = pd.DataFrame(history.history)
    if not np.isfinite(epochs.to_numpy()).all():
        raise UserError(
            f"the loss became NaN or infinite in epoch {len(epochs) - 1}: lower {key} (now {settings.learning_rate})"
        )
    return epochs
