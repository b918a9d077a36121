"""Keras and TensorFlow, imported without their start-up messages, in half of the time.

Modules import them from here, because the first import decides what is printed and loaded.
"""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator

from ..core.imports import permanent

__all__ = ["keras", "tf"]


@contextlib.contextmanager
def quiet_import() -> Iterator[None]:
    """Hides output to file descriptor 2 during an import that succeeds.

    On machines without a GPU, TensorFlow's C++ code prints there before its log level can be set.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # errors are raised as exceptions as well
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as captured:
        os.dup2(captured.fileno(), 2)
        try:
            yield
        except BaseException:
            captured.seek(0)
            os.write(stderr, captured.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


@contextlib.contextmanager
def hidden(*names: str) -> Iterator[None]:
    """Makes packages that are not yet imported appear not installed.

    Args:
        *names: Names of top-level packages.
    """
    absent = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]  # None: the import system raises ImportError
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


# Keras imports them, if installed, for its galleries of pictures and its scikit-learn wrappers alone: a third of the
# CPU time of this import (8.9 s to 5.5 s).
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # otherwise, one process takes all memory of all GPUs
with quiet_import(), hidden("matplotlib", "sklearn"), permanent():
    import keras
    import tensorflow as tf

    tf.config.list_physical_devices()  # searches for GPUs now, while the message that there are none is captured
