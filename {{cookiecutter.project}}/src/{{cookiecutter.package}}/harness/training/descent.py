"""Gradient descent with early stopping, in one or several phases."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from ..contracts import Inputs, Phase, Report
from ..core.errors import UserError
from .adversarial import Adversarial, Ball, harden
from .batches import WHOLE, Order, Shard, Split, batches
from .checkpoint import Checkpoint, digest
from .distributed import DistributedModel
from .quiet import keras, tf
from .strategy import Strategy
from .workers import Group

STEPS_PER_EXECUTION = 8  # returning to Python after each step costs more than reading from disk
VALIDATION_BATCH = 256  # minimum number of rows in a validation batch


class Settings(NamedTuple):
    """Section `train` of the configuration; see `fit.gradient_descent`."""

    seed: int
    epochs: int
    batch_size: int
    learning_rate: float
    monitor: str
    patience: int
    class_weights: str = "none"
    threads: int = 4
    limit: int | None = None
    profile: bool = False
    strategy: Strategy = Strategy()
    adversarial: Adversarial = Adversarial()


class Training(NamedTuple):
    """The state that all phases of a training share.

    Attributes:
        settings: Section `train` of the configuration.
        targets: Targets of the splits `train` and `validation`, [N].
        compiled: Loss and metrics, as `keras.Model.compile` takes them.
        mode: Direction of improvement of the monitored metric.
        report: Called with the losses and metrics of each epoch.
        group: The workers of the training; None for a single process.
        ball: Changes of adversarial training; None for none.
    """

    settings: Settings
    targets: Mapping[str, NDArray[Any]]
    compiled: Mapping[str, Any]
    mode: Literal["min", "max"]
    report: Report
    group: Group | None = None
    ball: Ball | None = None

    def split(self, inputs: Inputs, name: str) -> Split:
        """Rows and targets of a split."""
        return Split(inputs.array(name), self.targets[name])


def train(model: keras.Model, inputs: Inputs, training: Training) -> pd.DataFrame:
    """Trains a model in place and returns its history, by epoch.

    The model ends with the weights of the best epoch of all phases.

    Args:
        model: The untrained model; its `phases`, if it has them, are trained one after the other.
        inputs: Arrays on which the model is fitted.
        training: Settings, targets and workers.

    Raises:
        UserError: If the loss is not finite, a worker has another configuration, code or data, or adversarial
            training meets a model with phases.
    """
    settings = training.settings
    if hasattr(model, "phases"):
        if training.ball is not None:
            raise UserError(
                "train.adversarial: this model learns from features of pictures that are computed once, which cannot "
                "be changed: set epsilon to 0, or choose another model"
            )
        phases = model.phases(inputs, settings.epochs, settings.learning_rate)
    else:
        phases = [Phase(model, inputs, settings.epochs, settings.learning_rate)]
    histories: list[pd.DataFrame] = []
    best, weights = -np.inf, model.get_weights()
    sign = 1 if training.mode == "max" else -1
    for phase in phases:
        histories.append(descend(phase, training, sum(map(len, histories))))
        score = float((sign * histories[-1][settings.monitor]).max())
        if score > best:
            best, weights = score, model.get_weights()
    model.set_weights(weights)
    return pd.concat(histories, ignore_index=True)


def descend(phase: Phase, training: Training, first_epoch: int = 0) -> pd.DataFrame:
    """Trains a phase in place and returns its history, by epoch.

    Args:
        phase: The phase.
        training: Settings, targets and workers.
        first_epoch: Number of epochs of earlier phases.

    Raises:
        UserError: If the loss is not finite, or a worker has another configuration, code or data.
    """
    settings, group = training.settings, training.group
    split = training.split(phase.inputs, "train")
    model = compiled(phase, training)
    best = keras.callbacks.EarlyStopping(
        settings.monitor, mode=training.mode, patience=settings.patience, restore_best_weights=True
    )
    weights = None
    if settings.class_weights == "balanced":
        weights = class_weights(split.targets, phase.model.output_shape[-1])
    order, shard, checkpoint = Order(settings.seed, phase.inputs.augment), WHOLE, None
    if group is not None:
        shard = Shard(group.cluster.rank, len(group.cluster.workers))
        checkpoint = restored(phase, training, model, best)
        order = order._replace(consumed=2 * checkpoint.finished)  # Keras iterates twice in each epoch
    start = checkpoint.finished if checkpoint else 0
    quiet = True if group is not None and not group.chief else None  # None: quiet if stderr is not a terminal
    with tqdm(total=phase.epochs, initial=start, desc="train", unit=" epochs", disable=quiet) as bar:
        history = model.fit(
            batches(split, settings.batch_size, order, shard),
            validation_data=batches(
                training.split(phase.inputs, "validation"), max(settings.batch_size, VALIDATION_BATCH), shard=shard
            ),
            initial_epoch=phase.epochs if checkpoint and checkpoint.ended else start,
            epochs=phase.epochs,
            class_weight=weights,
            callbacks=[
                best,
                keras.callbacks.TerminateOnNaN(),
                reporting(bar, training.report, first_epoch),
                *([checkpoint] if checkpoint else []),
            ],
            shuffle=False,
            verbose=0,
        ).history
    epochs = pd.DataFrame(checkpoint.history if checkpoint else history)
    if not np.isfinite(epochs.to_numpy()).all():
        raise UserError(
            f"the loss became NaN or infinite in epoch {first_epoch + len(epochs) - 1}: lower "
            f"{phase.learning_rate_key} (now {phase.learning_rate})"
        )
    return epochs


def compiled(phase: Phase, training: Training) -> keras.Model:
    """The compiled model of a phase; with workers, a `DistributedModel`.

    Args:
        phase: The phase.
        training: Settings, targets and workers.
    """
    group, xla = training.group, training.settings.strategy.xla
    model = phase.model if group is None else DistributedModel(phase.model, group, xla)
    # New metrics: those of an earlier phase keep their counts, and Keras resets metrics only after a first step.
    metrics = [metric.from_config(metric.get_config()) for metric in training.compiled["metrics"]]
    # With several devices, Keras must return to Python after each step.
    steps = STEPS_PER_EXECUTION if group is None and not tf.distribute.has_strategy() else 1
    model.compile(
        keras.optimizers.Adam(phase.learning_rate),
        **{**training.compiled, "metrics": metrics},
        steps_per_execution=steps,
        jit_compile=False,
    )
    # Otherwise the first step creates the optimizer's variables and is traced twice, which takes seconds.
    model.optimizer.build(model.trainable_variables)
    if training.ball is not None:
        harden(model, training.ball)
    if xla and group is None:
        # Not by `jit_compile`: Keras silently ignores it if operations must be deterministic.
        model.train_step = tf.function(model.train_step, jit_compile=True)  # type: ignore[method-assign]
    return model


def restored(phase: Phase, training: Training, model: keras.Model, best: keras.callbacks.EarlyStopping) -> Checkpoint:
    """The checkpoint of a phase, with the chief's state in every worker.

    Args:
        phase: The phase.
        training: Settings, targets and workers.
        model: The compiled model.
        best: Early stopping.

    Raises:
        UserError: If a worker has another configuration, code or data.
    """
    settings, group = training.settings, training.group
    assert group is not None
    facts = (group.data, repr(settings), phase.epochs, phase.learning_rate, phase.model.to_json())
    group.require_equal(digest(*facts))
    order = Order(settings.seed, phase.inputs.augment)
    first_batch = next(iter(batches(training.split(phase.inputs, "train"), settings.batch_size, order)))
    key = digest(*facts, *map(np.asarray, first_batch), *map(np.asarray, phase.model.weights))
    checkpoint = Checkpoint(group, key, phase.model, model.optimizer, best)
    checkpoint.restore()
    return checkpoint


def reporting(bar: "tqdm[Any]", report: Report, first_epoch: int) -> keras.callbacks.Callback:
    """A callback that shows and reports the metrics of each epoch.

    Args:
        bar: Progress bar of the epochs.
        report: Called with the losses and metrics of each epoch in which they are finite.
        first_epoch: Number of epochs of earlier phases.
    """

    def show(epoch: int, logs: dict[str, float]) -> None:
        bar.set_postfix({name: f"{value:.4f}" for name, value in logs.items()}, refresh=False)
        bar.update()
        if np.isfinite(list(logs.values())).all():
            report(first_epoch + epoch, logs)

    return keras.callbacks.LambdaCallback(on_epoch_end=show)


def class_weights(labels: NDArray[np.int64], classes: int) -> dict[int, float]:
    """Label -> weight of the class, N / (classes * N_class).

    Source: G. King, L. Zeng, Logistic Regression in Rare Events Data, 2001.

    Args:
        labels: int64 [N].
        classes: Number of classes.
    """
    counts = np.bincount(labels, minlength=classes)
    return {label: float(len(labels) / (classes * count)) for label, count in enumerate(counts)}
