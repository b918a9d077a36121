"""The audit log of a service: events wait in memory for a thread that writes them."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from pathlib import Path

from ..core.errors import one_line
from . import chain
from .chain import Entry

PERIOD = 1.0  # seconds between two writings
ANCHOR = 300.0  # seconds between two heads in the ordinary log
MOST_WAITING = 10_000  # events, if nothing can be written
MOST_A_MINUTE = 600  # events of a kind; further ones are counted: refused clients must not fill the disk
OMITTED = "omitted"  # event: how many events of a kind have no line of their own
_LOG = logging.getLogger("bentoml")  # BentoML shows the messages of this one


class Trail:
    """The events of one process that wait, and the thread that writes them."""

    def __init__(self, folder: Path, anchor: float = ANCHOR) -> None:
        """Starts the thread.

        Args:
            folder: Folder of the chain.
            anchor: Seconds between two heads in the ordinary log.
        """
        self._folder, self._anchor = folder, anchor
        self._lock = threading.Lock()
        self._waiting: list[Entry] = []
        self._minute, self._of_minute = 0, Counter[str]()
        self._omitted = Counter[str]()
        self._trouble = ""
        self._next_head = 0.0  # the first writing tells it
        self._ending = threading.Event()
        # A daemon: a process that makes a service, but does not close it, ends all the same.
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()

    def append(self, entry: Entry) -> None:
        """Hands an event on; counts it if there are too many of its kind.

        Args:
            entry: The event.
        """
        with self._lock:
            self._begin_minute(entry.time)
            self._of_minute[entry.event] += 1
            if self._of_minute[entry.event] > MOST_A_MINUTE or len(self._waiting) >= MOST_WAITING:
                self._omitted[entry.event] += 1
            else:
                self._waiting.append(entry)

    def close(self) -> None:
        """Writes what waits, prints the head and ends the thread."""
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ending.wait(PERIOD):
            self._write()
        with self._lock:
            self._add_omitted(time.time())
        self._next_head = 0.0
        self._write()

    def _begin_minute(self, now: float) -> None:
        if (minute := int(now // 60)) != self._minute:
            self._add_omitted(now)
            self._minute, self._of_minute = minute, Counter()

    def _add_omitted(self, now: float) -> None:
        self._waiting += [Entry(now, OMITTED, {"of": of, "count": count}) for of, count in self._omitted.items()]
        self._omitted.clear()

    def _write(self) -> None:
        """Writes what waits; if that fails, it goes on waiting."""
        with self._lock:
            self._begin_minute(time.time())
            batch = list(self._waiting)
        try:
            if batch:
                chain.append(self._folder, batch)
                with self._lock:
                    del self._waiting[: len(batch)]
            if time.monotonic() >= self._next_head:
                _LOG.info("audit: head %s", chain.head(self._folder))
                self._next_head = time.monotonic() + self._anchor
        except Exception as error:  # the thread must live: without it, nothing would be recorded any more
            self._tell(f"{self._folder}: {getattr(error, 'strerror', None) or one_line(error)}")
        else:
            self._tell("")

    def _tell(self, trouble: str) -> None:
        """Prints a line when trouble begins, changes or ends."""
        if trouble != self._trouble:
            begun = f"nothing can be recorded now, answers go on: {trouble}"
            _LOG.warning("SERVICE_AUDIT: %s", begun if trouble else "everything is recorded again")
        self._trouble = trouble
