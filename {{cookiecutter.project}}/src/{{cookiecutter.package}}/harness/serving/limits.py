"""Limits of the service; service.py sets them."""

from typing import NamedTuple

from ..inputs.contracts import MAX_FILE_BYTES


class Limits(NamedTuple):
    """Limits of the requests to one process.

    Attributes:
        instances: Maximum number of instances in a request.
        body_bytes: Maximum size of a request's body, in bytes. JSON has a smaller limit: what so many instances need.
        body_seconds: Maximum time in which a body arrives, in seconds.
        held_bytes: Maximum sum of the bodies that are being read or answered, in bytes. Beyond it, the client that has
            sent nothing for longest is refused.
        pixels: Maximum number of pixels of a picture; `max_pixels` of the data may be less.
        pending: Maximum number of pending predictions; further ones are refused with 503.
        explained: Maximum number of instances in a request to /explain, each of which asks the model hundreds of times.
        explaining: Maximum number of pending requests to /explain; further ones are refused with 503.
    """

    instances: int = 256
    body_bytes: int = MAX_FILE_BYTES
    body_seconds: float = 60.0
    held_bytes: int = 128 * 2**20
    pixels: int = 16_000_000
    pending: int = 128
    explained: int = 16
    explaining: int = 8
