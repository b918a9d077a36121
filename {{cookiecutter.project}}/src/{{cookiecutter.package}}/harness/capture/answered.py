"""A request and its answer, as the service hands them on after it has answered."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Answered(NamedTuple):
    """A request and its answer.

    Attributes:
        time: When it was answered, in seconds since 1970-01-01 UTC.
        id: Id of the answer, also in the answer itself.
        content_type: Content type of the request.
        body: Body of the request, without content encoding and byte order mark; of a form, the file.
        feeds: Inputs of the model: name -> array [N, ...].
        output: Output of the model, float32 [N, ...].
        answer: Body of the answer: JSON, or an array as numpy.save writes it; of /explain, the predictions. Empty if
            the client was told less than `output`.
    """

    time: float
    id: str
    content_type: str
    body: bytes
    feeds: Mapping[str, NDArray[Any]]
    output: NDArray[np.float32]
    answer: bytes

    @property
    def rows(self) -> int:
        """Number of instances."""
        return len(self.output)


def new_id() -> str:
    """An id of 32 hexadecimal digits: the time, by which ids sort, and 64 random bits, which cannot be guessed."""
    return f"{time.time_ns():016x}{secrets.token_hex(8)}"
