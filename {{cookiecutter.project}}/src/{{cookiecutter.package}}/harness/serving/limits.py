"""Limits of the service; service.py sets them."""

from typing import NamedTuple

from ..inputs.contracts import MAX_FILE_BYTES


class Limits(NamedTuple):
    """Bounds of requests, for each process.

    Attributes:
        instances: The most instances in a request.
        body_bytes: The largest body of a request.
        held_bytes: The largest sum of the bodies that are being read or answered.
        pending: The most requests to the model that wait; others are refused with 503.
    """

    instances: int = 256
    body_bytes: int = MAX_FILE_BYTES
    held_bytes: int = 128 * 2**20
    pending: int = 128
