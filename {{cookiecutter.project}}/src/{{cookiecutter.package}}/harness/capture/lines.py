"""The lines of a segment, in JSON: a request with its answer, or feedback.

{"time": 1796000000.123, "id": "...", "request": {...}, "answer": {..., "predictions": [...]}}
{"time": 1796000100.456, "contributor": "ward 3", "feedback": [{"id": "...", "index": 0, "actual": "benign"}]}
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Sequence
from typing import Any, cast

from .. import targets
from ..contracts import Description
from .answered import Answered
from .contracts import Feedback, Privacy, RequestWriter


def sampled(id: str, fraction: float) -> bool:
    """Whether an answer is in the sample: alike in all processes, for a request and for its feedback.

    Args:
        id: Id of the answer.
        fraction: Expected fraction of the answers in the sample.
    """
    return int.from_bytes(hashlib.blake2b(id.encode(), digest_size=8).digest(), "big") < fraction * 2**64


class Lines:
    """Lines of requests to one model."""

    def __init__(self, description: Description, privacy: Privacy) -> None:
        """Chooses the writer of requests.

        Args:
            description: Content of models/model.json, with `decision` if there is one.
            privacy: What is not kept as it is.
        """
        self._description, self._privacy = description, privacy
        self._requests = cast(RequestWriter, importlib.import_module(f".{description['input']}", __package__))
        self._target = targets.target(description)

    def line(self, answered: Answered) -> tuple[bytes, int]:
        """The line of a request and its answer, and the number of rows in it.

        Args:
            answered: The request and its answer.
        """
        request, rows = self._requests.request(answered, self._description, self._privacy)
        answer = answered.answer
        if rows < answered.rows or not answer.startswith(b"{"):  # an array, or less than all
            predictions = self._target.answers(answered.output[:rows], self._description)
            told = {"id": answered.id, "model_version": self._description["sha256"][:12], "predictions": predictions}
            answer = _compact(told)
        head = b'{"time":%.3f,"id":"%s","request":' % (answered.time, answered.id.encode())
        return b"".join((head, request, b',"answer":', answer, b"}\n")), rows


def feedback_line(time: float, contributor: str, items: Sequence[Feedback]) -> bytes:
    """The line of feedback.

    Args:
        time: When it came, in seconds since 1970-01-01 UTC.
        contributor: Who gave it; empty if unknown.
        items: The actual values.
    """
    told = [{"id": item.id, "index": item.place, "actual": item.actual} for item in items]
    return _compact({"time": round(time, 3), "contributor": contributor, "feedback": told}) + b"\n"


def _compact(content: Any) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()
