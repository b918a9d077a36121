"""The log: what the service's observer hands on is sampled and kept."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from ..contracts import Description
from .answered import Answered
from .contracts import Feedback, Privacy
from .lines import Lines, feedback_line, sampled
from .segments import BYTES, QUEUE, SIZE, Counts, Segments
from .settings import Settings

MOST_FEEDBACK = 4096  # lines that wait


class Log:
    """The log of one process; one thread calls its methods, except that any may call `take_feedback`."""

    def __init__(self, settings: Settings, description: Description, counts: Counts) -> None:
        """Opens the log.

        Args:
            settings: Where and how requests are kept.
            description: Content of models/model.json, with `decision` if there is one.
            counts: Functions that count.
        """
        self._sample, self._counts = settings.sample, counts
        self._lines = Lines(description, Privacy(settings.private, settings.key))
        self._segments = Segments(settings, counts)
        self._feedback: deque[bytes] = deque()

    def wants(self, answered: Answered) -> bool:
        """Whether an answer is in the sample.

        Args:
            answered: The answer.
        """
        return sampled(answered.id, self._sample)

    def take(self, batch: Sequence[Answered], dropped: int) -> None:
        """Keeps requests and their answers; to be called every second, also without any.

        Args:
            batch: Requests and answers.
            dropped: Number of rows that the observer had no room for.
        """
        if dropped:
            self._counts.dropped(QUEUE, dropped)
        for answered in batch:
            if sampled(answered.id, self._sample):
                line, rows = self._lines.line(answered)
                if len(line) > BYTES:
                    self._counts.dropped(SIZE, rows)
                else:
                    self._segments.add(line, rows)
        self._add_feedback()
        self._segments.close_if_due()

    def _add_feedback(self) -> None:
        while self._feedback:
            self._segments.add(self._feedback.popleft(), 0)

    def take_feedback(self, time: float, contributor: str, items: Sequence[Feedback]) -> None:
        """Keeps feedback on answers of the sample, with the next answers.

        Args:
            time: When it came, in seconds since 1970-01-01 UTC.
            contributor: Who gave it; empty if unknown.
            items: The actual values.
        """
        kept = [item for item in items if sampled(item.id, self._sample)]
        if kept and len(self._feedback) < MOST_FEEDBACK:
            self._feedback.append(feedback_line(time, contributor, kept))
        elif kept:
            self._counts.dropped(QUEUE, len(kept))

    def close(self) -> None:
        """Writes what is still in memory, before the process ends."""
        self._add_feedback()
        self._segments.close(last=True)
