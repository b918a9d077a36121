"""The observer: what answers are counted and kept for, after they are sent.

A request only appends to a list, which takes microseconds. One thread takes the list every second.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

from ..core.errors import one_line

if TYPE_CHECKING:
    from ..capture.answered import Answered

PERIOD = 1.0  # seconds
MOST_ANSWERS = 4096  # that wait
MOST_BYTES = 32 * 2**20  # of the answers that wait
CELL = 64  # bytes of a value of a column, which may be text

_LOG = logging.getLogger("bentoml")  # BentoML shows the messages of this one


class Consumer(Protocol):
    """One use of the answers."""

    def wants(self, answered: Answered) -> bool:
        """Whether it has a use for an answer; called for each, while clients wait.

        Args:
            answered: The answer.
        """

    def take(self, batch: Sequence[Answered], dropped: int) -> None:
        """Uses the answers of a second, in the order in which they were given; called every second.

        What another consumer wants is in the batch, too.

        Args:
            batch: The answers; perhaps none.
            dropped: Number of rows for which the list had no room.
        """

    def close(self) -> None:
        """Ends; called once, after the last answers."""


class Observer:
    """A list of answers with a bound, and the thread that takes it."""

    def __init__(self, consumers: Sequence[Consumer]) -> None:
        """Starts the thread.

        Args:
            consumers: What the answers are handed to, in this order.
        """
        self._consumers = consumers
        self._lock = threading.Lock()
        self._waiting: list[Answered] = []
        self._bytes = self._dropped = 0
        self._ending = threading.Event()
        self._failed: set[type[Exception]] = set()
        # A daemon: a process that makes a service, but does not close it, ends all the same.
        self._thread = threading.Thread(target=self._run, name="observer", daemon=True)
        self._thread.start()

    def append(self, answered: Answered) -> None:
        """Hands an answer on, if it is wanted; drops it if too many wait."""
        # A list, not a generator: each consumer is asked about each answer.
        if not any([consumer.wants(answered) for consumer in self._consumers]):
            return
        first = next(iter(answered.feeds.values()))
        inputs = len(answered.feeds) * max(first.nbytes, CELL * len(first))
        size = inputs + len(answered.body) + len(answered.answer)
        with self._lock:
            full = len(self._waiting) >= MOST_ANSWERS or self._bytes + size > MOST_BYTES
            if full and self._waiting:  # a single answer has always room: the limits of requests bound it
                self._dropped += answered.rows
            else:
                self._waiting.append(answered)
                self._bytes += size

    def close(self) -> None:
        """Hands on all that waits, and ends the thread."""
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ending.wait(PERIOD):
            self._hand_on()
        self._hand_on()
        for consumer in self._consumers:
            self._attempt(consumer.close)

    def _hand_on(self) -> None:
        with self._lock:
            batch, dropped = self._waiting, self._dropped
            self._waiting, self._bytes, self._dropped = [], 0, 0
        for consumer in self._consumers:
            self._attempt(partial(consumer.take, batch, dropped))

    def _attempt(self, step: Callable[[], None]) -> None:
        """Runs a step of a consumer; the service goes on whatever happens, and each kind of error is told once."""
        try:
            step()
        except Exception as error:
            if type(error) not in self._failed:
                self._failed.add(type(error))
                _LOG.warning("answers cannot be counted or kept: %s: %s", type(error).__name__, one_line(error))
