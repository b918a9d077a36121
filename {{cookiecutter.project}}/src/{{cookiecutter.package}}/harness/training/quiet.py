"""Keras and TensorFlow, imported without their start-up messages.

Modules import them from here, because the first import decides what is printed.
"""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator

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


with quiet_import():
    import keras
    import tensorflow as tf

    tf.config.list_physical_devices()  # searches for GPUs now, while the message that there are none is captured
