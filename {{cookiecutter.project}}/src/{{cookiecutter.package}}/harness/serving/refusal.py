"""Refusals: requests answered with 4xx or 503 and a reason."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import bentoml
from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from prometheus_client import Counter

BUSY = "too many requests are waiting: try again in a second"
LATER = {"retry-after": "1"}


class Refusal(Exception):
    """The reason why a request is refused."""

    def __init__(self, status: int, message: str) -> None:
        """Stores the HTTP status code and the reason, in one line."""
        super().__init__(message)
        self.status = status

    def response(self) -> JSONResponse:
        """The response to send."""
        return JSONResponse({"error": str(self)}, self.status, headers=LATER if self.status == 503 else None)


@cache
def refused_total() -> Counter:
    """The counter of requests that were refused with 503."""
    counter: Counter = bentoml.metrics.Counter(
        name="refused_total", documentation="Requests refused with 503 because too many were waiting"
    )
    return counter
