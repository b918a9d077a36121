"""Files that are read again after they change, while the service runs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from ..core.errors import one_line

PERIOD = 1.0  # seconds between two looks

_LOG = logging.getLogger("bentoml")  # BentoML shows the messages of this one
Stamp = tuple[int, ...]


def watch(files: Sequence[Path], read: Callable[[], None]) -> None:
    """Reads files now, and again after each change, in a thread.

    Args:
        files: The files.
        read: Function that reads them, and keeps what it has if it raises an error, whose message is logged.

    Raises:
        UserError: By the first call of the function.
    """
    before = _stamps(files)
    read()
    # A daemon: it has nothing to end.
    threading.Thread(target=_look, args=(files, read, before), name="watch", daemon=True).start()


def _look(files: Sequence[Path], read: Callable[[], None], before: list[Stamp]) -> None:
    pause = threading.Event()
    while not pause.wait(PERIOD):
        now = _stamps(files)
        if now == before:
            continue
        before = now
        try:
            read()
        except Exception as error:  # the thread must live: without it, no later change would be seen
            _LOG.warning("%s: the service goes on with what it has read before", one_line(error))
        else:
            _LOG.info("read again: %s", ", ".join(map(str, files)))


def _stamps(files: Sequence[Path]) -> list[Stamp]:
    return [_stamp(file) for file in files]


def _stamp(file: Path) -> Stamp:
    """What another content of a file changes; () without the file."""
    try:
        facts = file.stat()  # of the file that a link leads to, which Kubernetes replaces
    except OSError:
        return ()
    return facts.st_mtime_ns, facts.st_size, facts.st_ino, facts.st_dev
