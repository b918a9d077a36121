"""Imports of large packages."""

import contextlib
import gc
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def permanent() -> Iterator[None]:
    """Imports whose objects garbage collection never looks through.

    TensorFlow makes a million of them, and none is ever garbage: to look for some takes a quarter of the CPU time of a
    short training.
    """
    enabled, before = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > before:  # not again in a process that has them already
            gc.freeze()
        if enabled:
            gc.enable()
