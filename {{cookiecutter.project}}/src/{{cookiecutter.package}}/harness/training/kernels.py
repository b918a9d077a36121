"""The choice of TensorFlow's kernels on a processor: portable or fast."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..core.errors import UserError

if TYPE_CHECKING:
    from ..contracts import Tensor

# oneDNN generates code for the processor that it finds, also for Eigen's matrix products. Eigen's own kernels are those
# that TensorFlow was compiled with.
VARIABLES = ("TF_ENABLE_ONEDNN_OPTS", "TENSORFLOW_USE_CUSTOM_CONTRACTION_KERNEL")


def choose(portable: bool) -> None:
    """Chooses TensorFlow's kernels, possible once in a process.

    It has no effect if TensorFlow was imported by other code, as in a notebook.

    Args:
        portable: Whether to use kernels that give the same bits on every x86-64 processor.

    Raises:
        UserError: If this process has already chosen the other kernels.
    """
    value = "0" if portable else "1"
    if "tensorflow" not in sys.modules:
        os.environ |= dict.fromkeys(VARIABLES, value)
    elif os.environ.get(VARIABLES[0], value) != value:
        raise UserError(f"train.portable: {str(portable).lower()} cannot be set, TensorFlow has already started")


@contextlib.contextmanager
def exact() -> Iterator[None]:
    """Makes TensorFlow round as on other processors while a model is fitted, if the portable kernels were chosen.

    Sums get the length that they have elsewhere, and reciprocals become quotients.

    Eigen begins 1 / x and 1 / sqrt(x) with an estimate of the processor (the instructions rcpps and rsqrtps), which
    vendors make differently. Quotients and square roots have exact definitions (IEEE 754). Keras looks these functions
    up when it calls them; batch normalization and softmax are among those that depend on a reciprocal. An export
    outside of this context has the usual operators.
    """
    if os.environ.get(VARIABLES[0]) != "0":
        yield
        return
    import tensorflow as tf

    from . import blocks

    blocks.align()
    replaced: list[tuple[Any, str, Any]] = [
        (tf.math, "reciprocal", reciprocal),
        (tf.math, "rsqrt", rsqrt),
        (tf.nn, "batch_normalization", batch_normalization),
        (tf.nn, "softmax", softmax),
    ]
    earlier = [getattr(module, name) for module, name, _ in replaced]
    try:
        for module, name, function in replaced:
            setattr(module, name, function)
        yield
    finally:
        for (module, name, _), function in zip(replaced, earlier, strict=True):
            setattr(module, name, function)


def reciprocal(x: "Tensor", name: str | None = None) -> "Tensor":
    """1 / x, as a quotient.

    TensorFlow's graph optimizer would replace a plain quotient by its reciprocal again.
    """
    import tensorflow as tf

    quotient = tf.math.divide_no_nan(tf.ones_like(x), x, name=name)
    return tf.where(tf.equal(x, 0), tf.cast(float("inf"), x.dtype), quotient)


def rsqrt(x: "Tensor", name: str | None = None) -> "Tensor":
    """1 / sqrt(x), as a quotient."""
    import tensorflow as tf

    return reciprocal(tf.sqrt(x), name)


def batch_normalization(
    x: "Tensor", mean: "Tensor", variance: "Tensor", offset: Any, scale: Any, variance_epsilon: float
) -> "Tensor":
    """Normalized values, as tf.nn.batch_normalization computes them.

    Source: S. Ioffe, C. Szegedy, Batch Normalization, ICML 2015.
    """
    import tensorflow as tf

    factor = rsqrt(variance + variance_epsilon)
    factor = factor if scale is None else factor * scale
    shift = -mean * factor if offset is None else offset - mean * factor
    return x * tf.cast(factor, x.dtype) + tf.cast(shift, x.dtype)


def softmax(logits: "Tensor", axis: int = -1, name: str | None = None) -> "Tensor":
    """Softmax along an axis, as a quotient."""
    import tensorflow as tf

    powers = tf.exp(logits - tf.stop_gradient(tf.reduce_max(logits, axis, keepdims=True)))
    return tf.math.divide(powers, tf.reduce_sum(powers, axis, keepdims=True), name=name)
