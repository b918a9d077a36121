"""Types of the room, and the protocol of the modules that write questions."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from ..contracts import Description
from .answered import Answered

MOST_ROWS = 256  # kept of a request that is no JSON: a file may have 100,000
MOST_BYTES = 4 * 2**20  # of the pictures that are kept of a request
DROP, HASH = "drop", "hash"  # what is done with a private column


class Feedback(NamedTuple):
    """The actual value of a prediction.

    Attributes:
        id: Id of the answer.
        place: Position of the prediction in the answer, from 0.
        actual: The class, or the number.
    """

    id: str
    place: int
    actual: str | float


class Privacy(NamedTuple):
    """The columns of a table that are not kept as they are.

    Attributes:
        columns: Private column -> `drop` or `hash`.
        key: Key of the hashes.
    """

    columns: Mapping[str, str] = {}
    key: bytes = b""

    def kept(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """A row without private values.

        Args:
            row: Column -> value.
        """
        known = {name: value for name, value in row.items() if self.columns.get(name) != DROP}
        return {name: self.hash(value) if name in self.columns else value for name, value in known.items()}

    def hash(self, value: Any) -> str | None:
        """The keyed hash of a value, 32 hexadecimal digits: equal for equal values; None for a missing one.

        Without the key, a value cannot be found by trying all of them, which are few in most columns.

        Args:
            value: A value of a private column.
        """
        if value is None:
            return None
        return hmac.new(self.key, json.dumps(value).encode(), hashlib.sha256).hexdigest()[:32]


class RequestWriter(Protocol):
    """Writer of requests: `images` or `tables`."""

    def request(self, answered: Answered, description: Description, privacy: Privacy) -> tuple[bytes, int]:
        """A request as JSON in one line, and the number of its rows that are kept: the first ones.

        Args:
            answered: The request.
            description: Content of models/model.json.
            privacy: What is not kept as it is.
        """
