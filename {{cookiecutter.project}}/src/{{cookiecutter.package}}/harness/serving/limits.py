"""Limits of the service; service.py sets them."""

from typing import NamedTuple

from ..inputs.contracts import MAX_FILE_BYTES


class Limits(NamedTuple):
    """Limits of the requests to one process.

    Attributes:
        instances: Maximum number of instances in a request.
        body_bytes: Maximum size of a request's body, in bytes.
        held_bytes: Maximum sum of the bodies that are being read or answered, in bytes.
        pending: Maximum number of pending predictions; further ones are refused with 503.
    """

    instances: int = 256
    body_bytes: int = MAX_FILE_BYTES
    held_bytes: int = 128 * 2**20
    pending: int = 128
