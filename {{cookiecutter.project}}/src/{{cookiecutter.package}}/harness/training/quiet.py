"""Keras and TensorFlow, imported without the messages that they print while they load.

Every module that needs them at its top imports them from here; whatever imports them first decides what is printed.
"""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator

__all__ = ["keras", "tf"]


@contextlib.contextmanager
def quiet_import() -> Iterator[None]:
    """Holds back file descriptor 2 during an import, and shows what was written if the import fails.

    TensorFlow's C++ side prints there before its log level can be set, on every machine without a GPU.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # errors are raised as exceptions as well
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

    tf.config.list_physical_devices()  # looks for a GPU now, while the message that there is none is held back
