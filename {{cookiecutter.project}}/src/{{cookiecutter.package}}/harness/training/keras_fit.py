"""Deterministic fitting of a Keras model on memory-mapped arrays."""

import contextlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .. import contracts, prepared
from .. import targets as kinds
from ..contracts import Fitted
from ..core import config
from ..core.errors import UserError, one_line
from ..targets import monitor
from . import adversarial, checkpoint, devices, export, kernels, workers
from .descent import Settings, Training, train
from .quiet import keras, tf
from .strategy import cluster

PROFILE = "build/profile"


def fit(
    section: Mapping[str, Any],
    inputs: contracts.Inputs,
    manifest: contracts.Manifest,
    settings: Settings,
    report: contracts.Report,
) -> Fitted:
    """A Keras model, built and trained with early stopping.

    Args:
        section: Section `model` of the configuration.
        inputs: Arrays on which the model is fitted.
        manifest: Manifest of the prepared data.
        settings: Section `train` of the configuration.
        report: Called with the losses and metrics of each epoch.

    Raises:
        UserError: If the layers do not fit the data or the device, the loss is not finite, or a worker is lost.
    """
    devices.tell_unused_gpu()
    devices.limit_threads(settings.threads)
    group = connect(settings, manifest) if settings.strategy.distribution == "multi_worker" else None
    devices.make_deterministic(settings.seed)
    target = kinds.target(manifest)
    targets = {split: prepared.targets(split)[: settings.limit] for split in ("train", "validation")}
    training = Training(
        settings,
        targets,
        target.compile_arguments(manifest, targets["train"]),
        monitor.mode(settings.monitor, target),
        report,
        group,
        adversarial.ball(settings.adversarial, inputs, manifest, settings.seed),
    )
    head = target.head(manifest, targets["train"])
    with (
        devices.errors_in_one_line(settings.strategy, settings.batch_size),
        devices.scope(settings.strategy),
        devices.precision(settings.strategy.precision),
        kernels.exact(),
    ):
        model = build(section, inputs, head)
        history = supervised(model, limited(inputs, settings.limit), training)
    if group is not None and group.chief:
        checkpoint.forget()
    model = devices.exportable(model, settings.strategy)
    model(inputs.array("validation")[:1], training=False)  # Keras cannot export a model that was never called

    def predict(rows: NDArray[Any]) -> NDArray[Any]:
        with tf.device("CPU:0"):  # recent GPUs shorten float32 (TensorFloat-32): enough to learn, too little to compare
            return np.asarray(model(rows, training=False))

    return Fitted(
        lambda: export.to_onnx(model),
        predict,
        {variable.path: np.asarray(variable) for variable in model.weights},
        history,
        {"keras": json.loads(model.to_json())},
    )


def connect(settings: Settings, manifest: contracts.Manifest) -> workers.Group:
    """The connected workers of this training.

    Args:
        settings: Section `train` of the configuration.
        manifest: Manifest of the prepared data.

    Raises:
        UserError: If the environment does not name the workers, or there are more workers than rows in a batch.
    """
    members = cluster()
    count = len(members.workers)
    if count > settings.batch_size:
        raise UserError(f"train.batch_size: {settings.batch_size} rows cannot be divided among {count} workers")
    return workers.Group(members, workers.connect(members), checkpoint.digest(manifest))


def build(section: Mapping[str, Any], inputs: contracts.Inputs, head: contracts.Head) -> keras.Model:
    """The untrained model.

    Args:
        section: Section `model` of the configuration.
        inputs: Arrays on which the model is fitted.
        head: Layers from the last hidden tensor to the output.

    Raises:
        UserError: If Keras rejects the layers, for example because the images are too small.
    """
    try:
        model: keras.Model = config.instantiate(section, inputs.layers, devices.in_float32(head))
    except ValueError as error:
        raise UserError(f"model: {one_line(error)}") from error
    return model


def limited(inputs: contracts.Inputs, limit: int | None) -> contracts.Inputs:
    """The inputs, with only the first rows of training and validation split.

    Args:
        inputs: Arrays on which the model is fitted.
        limit: Maximum number of rows; None for all.
    """
    return inputs._replace(array=lambda split: inputs.array(split)[: limit if split != "test" else None])


def supervised(model: keras.Model, inputs: contracts.Inputs, training: Training) -> pd.DataFrame:
    """The history of a training, optionally profiled.

    Args:
        model: The untrained model.
        inputs: Arrays on which the model is fitted.
        training: Settings, targets and workers.

    Raises:
        UserError: If a worker is lost.
    """
    settings, group = training.settings, training.group
    profiled = settings.profile and (group is None or group.chief)
    with tf.profiler.experimental.Profile(PROFILE) if profiled else contextlib.nullcontext():
        try:
            return train(model, inputs, training)
        except workers.LOST as error:
            if group is None:
                raise
            raise workers.lost(group, error) from error
