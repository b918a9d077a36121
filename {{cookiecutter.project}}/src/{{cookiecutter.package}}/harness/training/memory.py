"""The memory of a process that fits one model after another."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def released() -> Iterator[None]:
    """Frees the memory that Keras and TensorFlow keep of the models of its block.

    TensorFlow never forgets the gradient of a `tf.custom_gradient` that it has traced, nor the graph around it. Keras'
    optimizers sum gradients over replicas with such a function, even of one replica: each fit left 4 MB.
    """
    before = set(_gradients())
    try:
        yield
    finally:
        gradients = _gradients()
        for name in gradients.keys() - before:
            if name.startswith("CustomGradient-"):  # others belong to operators
                del gradients[name]
        if keras := sys.modules.get("keras"):
            keras.utils.clear_session()


def _gradients() -> dict[str, Any]:
    """TensorFlow's registry: name of an operator -> gradient; empty if TensorFlow is not imported."""
    if "tensorflow" not in sys.modules:
        return {}
    from tensorflow.python.framework import ops  # no public name

    registry: dict[str, Any] = ops.gradient_registry._registry
    return registry
