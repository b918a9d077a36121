"""Fitting a Keras model: seeded, deterministic, from arrays that stay on disk."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .cli import UserError

if TYPE_CHECKING:
    from .stages.train import Train

Split = tuple[NDArray[np.uint8], NDArray[np.int64]]
READ_BYTES = 4 << 20


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


def make_deterministic(seed: int) -> None:
    """Seeds Python, NumPy and TensorFlow and makes every operation deterministic.

    Args:
        seed: The seed.
    """
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def batches(split: Split, batch_size: int, seed: int | None = None) -> tf.data.Dataset:
    """Reads batches straight from the memory-mapped array, the next ones while the model works on this one.

    Up to 16 batches or `READ_BYTES` are read at a time: calling back into Python for each small batch costs as much as
    a step of a cheap model.

    Args:
        split: Images, uint8 [N, H, W, C], and labels, int64 [N].
        batch_size: Rows in a batch.
        seed: Shuffles anew in every epoch; None keeps the order.

    Returns:
        A dataset of (uint8 [B, H, W, C], int64 [B]).
    """
    images, labels = split

    def take(rows: NDArray[np.int64]) -> Split:
        return images[rows], labels[rows]

    def tensors(rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # stateful=False: rows alone decide what is read, so that determinism does not forbid reading ahead.
        pixels, targets = tf.numpy_function(take, [rows], (tf.uint8, tf.int64), stateful=False)
        pixels.set_shape((None, *images.shape[1:]))
        targets.set_shape((None,))
        return pixels, targets

    rows = tf.data.Dataset.range(len(labels))
    if seed is not None:
        rows = rows.shuffle(len(labels), seed=seed, reshuffle_each_iteration=True)
    at_once = min(16, max(1, READ_BYTES // (batch_size * images[0].nbytes)))
    read = rows.batch(at_once * batch_size).map(tensors).rebatch(batch_size)
    # `rebatch` forgets how many batches there are, and Keras takes the end of an unknown number for a mistake.
    return read.apply(tf.data.experimental.assert_cardinality(-(-len(labels) // batch_size))).prefetch(2)


def class_weights(labels: NDArray[np.int64], classes: int) -> dict[int, float]:
    """Returns N / (classes * N_class) for each class (G. King, L. Zeng, Logistic Regression in Rare Events Data, 2001).

    Args:
        labels: int64 [N].
        classes: Number of classes.
    """
    counts = np.bincount(labels, minlength=classes)
    return {label: float(len(labels) / (classes * count)) for label, count in enumerate(counts)}


def fit(model: keras.Model, train: Split, validation: Split, settings: "Train") -> pd.DataFrame:
    """Trains until the monitored validation metric stops improving, and keeps the best epoch's weights.

    Args:
        model: Uncompiled; its output are probabilities. Changed in place.
        train: Images, uint8 [N, H, W, C], and labels, int64 [N].
        validation: Likewise.
        settings: Section `train` of the configuration.

    Returns:
        A row for each epoch: loss, accuracy, val_loss, val_accuracy.

    Raises:
        UserError: Where the loss is no longer a number.
    """
    from tqdm import tqdm

    model.compile(
        keras.optimizers.Adam(settings.learning_rate),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        steps_per_execution=8,  # the way back to Python after each step costs more than reading from disk
    )
    progress = tqdm(total=settings.epochs, desc="train", unit=" epochs", disable=None)

    def show(epoch: int, logs: dict[str, Any]) -> None:
        progress.set_postfix({name: f"{value:.4f}" for name, value in logs.items()}, refresh=False)
        progress.update()

    best = keras.callbacks.EarlyStopping(
        settings.monitor,
        mode="min" if settings.monitor == "val_loss" else "max",
        patience=settings.patience,
        restore_best_weights=True,
    )
    weights = class_weights(train[1], model.output_shape[-1]) if settings.class_weights == "balanced" else None
    with progress:
        history = model.fit(
            batches(train, settings.batch_size, settings.seed),
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
            f"the loss became NaN or infinite in epoch {len(epochs) - 1}: lower train.learning_rate "
            f"(now {settings.learning_rate})"
        )
    return epochs
