"""Determinism, threads, devices and precision of a training."""

import contextlib
import json
import os
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from .. import contracts
from ..core.errors import UserError, one_line
from . import gpu
from .gpu import ON_PROCESSOR, SETUP
from .quiet import keras, tf
from .strategy import Strategy


def make_deterministic(seed: int) -> None:
    """Seeds Python, NumPy and TensorFlow, and makes operations deterministic."""
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def limit_threads(count: int) -> None:
    """Sets the number of TensorFlow's threads, possible once in a process.

    It has no effect if other code has already computed with TensorFlow, as in a notebook.

    Args:
        count: Number of threads.

    Raises:
        UserError: If this process has already computed with another number, set here.
    """
    threading = tf.config.threading
    before = threading.get_intra_op_parallelism_threads()  # 0: not set
    if before == count:
        return
    try:
        threading.set_intra_op_parallelism_threads(count)
        threading.set_inter_op_parallelism_threads(count)
    except RuntimeError as error:
        if before:
            raise UserError(f"train.threads: {count} cannot be set, TensorFlow has started with {before}") from error


def scope(strategy: Strategy) -> contextlib.AbstractContextManager[Any]:
    """The scope for creating variables; `mirrored` places them on every GPU.

    Args:
        strategy: Section `train.strategy` of the configuration.
    """
    if strategy.distribution != "mirrored":
        return contextlib.nullcontext()
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if len(devices) == 1:
        print(
            f"train: mirrored, but {devices[0].name} is the only device: training as with `none`",
            file=sys.stderr,
        )
        return contextlib.nullcontext()
    mirrored: contextlib.AbstractContextManager[Any] = tf.distribute.MirroredStrategy().scope()
    return mirrored


@contextlib.contextmanager
def precision(policy: str) -> Iterator[None]:
    """Sets the precision of new layers.

    Source: P. Micikevicius et al., Mixed Precision Training, ICLR 2018.

    Args:
        policy: Name of a Keras dtype policy, `mixed_bfloat16` for instance.
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def in_float32(head: contracts.Head) -> contracts.Head:
    """A head in full precision, because 16 bits distort small probabilities.

    Args:
        head: Layers from the last hidden tensor to the output.
    """

    def apply(x: contracts.Tensor) -> contracts.Tensor:
        with precision("float32"):
            return head(x)

    return apply


def exportable(model: keras.Model, strategy: Strategy) -> keras.Model:
    """A trained model, converted to compute in float32 on one device.

    Args:
        model: The trained model.
        strategy: Section `train.strategy` of the configuration.
    """
    if strategy.precision == "float32" and strategy.distribution != "mirrored":
        return model
    config = json.loads(model.to_json().replace(f'"{strategy.precision}"', '"float32"')) | {"compile_config": None}
    copy = keras.models.model_from_json(json.dumps(config))
    copy.set_weights(model.get_weights())
    return copy


@contextlib.contextmanager
def errors_in_one_line(strategy: Strategy, batch_size: int) -> Iterator[None]:
    """Turns exceptions of TensorFlow that a user can do something about into a `UserError`.

    Args:
        strategy: Section `train.strategy` of the configuration.
        batch_size: Number of rows in a batch.
    """
    try:
        yield
    except tf.errors.OpError as error:
        remedy = _remedy(error, strategy, batch_size)
        if remedy is None:
            raise
        raise UserError(remedy) from error


def _remedy(error: tf.errors.OpError, strategy: Strategy, batch_size: int) -> str | None:
    """What to do about an exception; None if it is a bug."""
    text = str(error)
    device = found[0] if (found := re.search(r"[CG]PU:\d+", text)) else "the device"
    if isinstance(error, tf.errors.ResourceExhaustedError) or re.search("out of memory", text, re.IGNORECASE):
        smaller = f"lower train.batch_size (now {batch_size}), choose a smaller model"
        return f"train: {device} has not enough memory: {smaller}, or end what else uses it"
    if strategy.xla and isinstance(error, tf.errors.UnimplementedError | tf.errors.InvalidArgumentError):
        # Some operations have no deterministic kernel in XLA.
        reason = _reason(text, "XLA|compil")
        return f"train.strategy.xla: XLA cannot compile this model's training ({reason}): set it to false"
    if isinstance(error, tf.errors.UnimplementedError) and "determinis" in text.lower():
        reason = _reason(text, "[Dd]eterminis")
        return f"model: a layer has no deterministic kernel for GPUs ({reason}): choose another, or {ON_PROCESSOR}"
    if re.search(r"\bDNN library|CuDNN|libdevice|ptxas|CUDA_ERROR|no kernel image", text):
        reason = _reason(text, "DNN|libdevice|ptxas|CUDA|kernel image")
        return f"train: the GPU or its libraries failed ({reason}): unset LD_LIBRARY_PATH, `{SETUP}`, or {ON_PROCESSOR}"
    return None


def _reason(text: str, pattern: str) -> str:
    """The first line of an exception that matches a pattern, or else its first line."""
    lines = [line.strip() for line in text.splitlines()]
    return one_line(next((line for line in lines if re.search(pattern, line)), lines[0]), 200)


@cache  # a sweep trains many times in a process
def tell_unused_gpu() -> None:
    """Says why a GPU of this machine is not used; TensorFlow would silently use the processor."""
    if not tf.config.list_physical_devices("GPU") and (reason := gpu.unused(Path("/"), os.environ)):
        print(f"train: computes on the processor, not on the NVIDIA GPU: {reason}", file=sys.stderr)
