"""Determinism, threads, devices and precision of a training."""

import contextlib
import json
import sys
from collections.abc import Iterator
from typing import Any

from .. import contracts
from ..core.errors import UserError
from .quiet import keras, tf
from .strategy import Strategy


def make_deterministic(seed: int) -> None:
    """Seeds Python, NumPy and TensorFlow, and makes operations deterministic."""
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def limit_threads(count: int) -> None:
    """Sets the number of TensorFlow's threads, possible once in a process.

    Args:
        count: Number of threads.

    Raises:
        UserError: If this process has already computed with another number.
    """
    threading = tf.config.threading
    if threading.get_intra_op_parallelism_threads() == count:
        return
    try:
        threading.set_intra_op_parallelism_threads(count)
        threading.set_inter_op_parallelism_threads(count)
    except RuntimeError as error:
        raise UserError(f"train.threads: {count} cannot be set, TensorFlow has already started: {error}") from error


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


def without_xla(error: tf.errors.OpError) -> UserError:
    """The error for a model that XLA cannot compile.

    Some operations have no deterministic kernel in XLA.

    Args:
        error: The exception of TensorFlow.
    """
    lines = [line.strip() for line in str(error).splitlines()]
    reason = next((line for line in lines if "XLA" in line or "compil" in line), lines[0])
    return UserError(f"train.strategy.xla: XLA cannot compile this model's training ({reason[:200]}): set it to false")
