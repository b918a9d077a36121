"""Actual values of earlier answers at /feedback, which the environment variable SERVICE_FEEDBACK=on switches on.

It is off by default, because who may tell the actual values may teach the next model anything. The name of who tells
them is in the header x-forwarded-user, which a proxy sets after it has checked who asks, and does not pass on from
outside.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import pydantic
from annotated_types import Len

from ..capture.contracts import Feedback
from ..drift import verdicts
from ..inputs.contracts import JsonLimits
from .body import check_size
from .metrics import FEEDBACK, counter
from .refusal import Refusal, first_error
from .switches import is_on

if TYPE_CHECKING:
    from ..capture.answered import Answered
    from ..capture.log import Log
    from .model import ModelInfo
    from .rows import Rows

ID = "^[0-9a-f]{32}$"
CONTRIBUTOR = "x-forwarded-user"  # header
MOST_ANSWERS = 4096  # that are remembered
MOST_BYTES = 16 * 2**20  # of their outputs
RIGHT, WRONG, UNMATCHED, REPEATED = OUTCOMES = ("right", "wrong", "unmatched", "repeated")


def enabled() -> bool:
    """Whether feedback is taken: SERVICE_FEEDBACK is `on`."""
    return is_on("SERVICE_FEEDBACK")


class Item(pydantic.BaseModel, extra="forbid", strict=True):
    """Feedback on one prediction."""

    id: Annotated[str, pydantic.Field(pattern=ID)]
    index: Annotated[int, pydantic.Field(ge=0)] = 0
    actual: Any


class Receiver:
    """Receiver of feedback, with the outputs of the last answers."""

    def __init__(self, info: ModelInfo, most: int, log: Log | None, rows: Rows) -> None:
        """Begins without answers.

        Args:
            info: The model.
            most: Maximum number of items in a request.
            log: The log, which keeps feedback; None if nothing is kept.
            rows: What counts outcomes.
        """
        self._description, self._target, self._version = info.model_dump(), info.answers, info.version
        self._verdicts = verdicts(self._description)
        # All at 0: Prometheus does not see the first increase of a counter that appears with it.
        self._counters = {outcome: counter(FEEDBACK, self._version, outcome) for outcome in OUTCOMES}
        self._rows = rows
        config = pydantic.ConfigDict(extra="forbid", strict=True)
        items: Any = Annotated[list[Item], Len(1, most), pydantic.FailFast()]
        self._body: Any = pydantic.create_model("Body", __config__=config, feedback=(items, ...))
        self._limits = JsonLimits(most, 1024 * most + 1024, 8 * most + 8)
        self._log = log
        self._answers: OrderedDict[str, tuple[Any, set[int]]] = OrderedDict()  # id -> output, indices with feedback
        self._bytes = 0
        self._lock = threading.Lock()

    def append(self, answered: Answered) -> None:
        """Remembers an answer, and forgets the oldest if there are too many."""
        with self._lock:
            self._answers[answered.id] = answered.output, set()
            self._bytes += answered.output.nbytes
            while len(self._answers) > MOST_ANSWERS or self._bytes > MOST_BYTES:
                _, (output, _) = self._answers.popitem(last=False)
                self._bytes -= output.nbytes

    def take(self, body: bytes, headers: Mapping[str, str]) -> list[str]:
        """Counts and keeps feedback: all items of a body, or none.

        Args:
            body: JSON.
            headers: Headers of the request.

        Returns:
            The outcome of each item, one of OUTCOMES.

        Raises:
            Refusal: If the body is malformed or too large, an actual value impossible, or an answer has no prediction
                with an index.
        """
        check_size(body, self._limits)
        try:
            items: list[Item] = self._body.model_validate_json(body).feedback
        except pydantic.ValidationError as invalid:
            raise Refusal(400, first_error(invalid)[0]) from None
        outcomes = self._judged(items)
        for outcome in outcomes:
            self._counters[outcome].inc()
        self._rows.add_outcomes(outcomes.count(RIGHT), outcomes.count(WRONG))
        if self._log:
            self._log.take_feedback(time.time(), contributor(headers), [self._kept(item) for item in items])
        return outcomes

    def _kept(self, item: Item) -> Feedback:
        is_class = "classes" in self._description
        return Feedback(item.id, item.index, str(item.actual) if is_class else float(item.actual))

    def _judged(self, items: Sequence[Item]) -> list[str]:
        with self._lock:
            outcomes = [self._judge(place, item) for place, item in enumerate(items)]
            for place, item in enumerate(items):
                _, seen = self._answers.get(item.id, (None, set()))
                outcomes[place] = REPEATED if item.index in seen else outcomes[place]
                seen.add(item.index)
        return outcomes

    def _judge(self, place: int, item: Item) -> str:
        import numpy as np

        try:
            actual = self._target.actual(item.actual, self._description)
        except ValueError as error:
            raise Refusal(400, f"feedback[{place}].actual: {error}") from None
        output, _ = self._answers.get(item.id, (None, set()))
        if output is None:
            return UNMATCHED
        if item.index >= len(output):
            raise Refusal(400, f"feedback[{place}].index: the answer has {len(output)} prediction(s), from 0")
        row = output[item.index : item.index + 1]
        right = self._verdicts.right(row, np.array([actual]), self._description)
        return UNMATCHED if right is None else RIGHT if right[0] else WRONG


def contributor(headers: Mapping[str, str]) -> str:
    """Who gives feedback, as a proxy says; empty if none does.

    Args:
        headers: Headers of the request.
    """
    # Starlette decodes every header as Latin-1: of names in UTF-8, two could become one.
    return printable(headers.get(CONTRIBUTOR, "").encode("latin-1", "replace"))


def printable(value: bytes) -> str:
    """A name as a proxy tells it, for logs and headers.

    Args:
        value: The value of a header.
    """
    return "".join(filter(str.isprintable, value.decode(errors="replace")))[:64].strip()
