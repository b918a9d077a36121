"""The environment variables SERVICE_LOG and SERVICE_LOG_*."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..core.environment import folder
from ..core.errors import UserError, closest, one_line
from .contracts import HASH

if TYPE_CHECKING:
    from pyrage.x25519 import Recipient

FOLDER, PREFIX = "SERVICE_LOG", "SERVICE_LOG_"
NAMES = ("SAMPLE", "RECIPIENT", "KEY", "DAYS", "MB")
IDENTITY = "SERVICE_LOG_IDENTITY"  # of `collect`
KEY_CHARACTERS = 32  # at least, of SERVICE_LOG_KEY: a short key can be guessed
MEGABYTE = 10**6


class Settings(NamedTuple):
    """Where and how requests are kept.

    Attributes:
        folder: Folder of the segments.
        sample: Fraction of the answers to keep.
        recipient: Public key that segments are encrypted to; None for segments that anybody can read.
        key: Key of the hashes of private columns; empty if there is none.
        days: Number of days after which a segment is removed.
        most_bytes: Maximum size of all segments in the folder.
        private: Private column -> `drop` or `hash`.
    """

    folder: Path
    sample: float = 1.0
    recipient: Recipient | None = None
    key: bytes = b""
    days: int = 30
    most_bytes: int = 10_000 * MEGABYTE
    private: Mapping[str, str] = {}

    def __str__(self) -> str:
        """What is kept, in one line."""
        how = "encrypted" if self.recipient else f"NOT encrypted: {PREFIX}RECIPIENT is not set"
        which = "all requests" if self.sample == 1 else f"{100 * self.sample:.3g} % of all requests"
        return f"{FOLDER}: {which} and answers are kept in {self.folder}, {how}"


def enabled(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether anything is kept: SERVICE_LOG is set."""
    return bool(environment.get(FOLDER))


def read(private: Mapping[str, str], environment: Mapping[str, str] = os.environ) -> Settings | None:
    """The settings in the environment; None if SERVICE_LOG is not set.

    Args:
        private: Private column -> `hash` or `drop`.
        environment: The environment variables.

    Raises:
        UserError: If a variable is unknown, has a wrong value, or the folder cannot be made.
    """
    if not enabled(environment):
        return None
    _refuse_unknown(environment)
    return Settings(
        folder(FOLDER, environment[FOLDER]),
        _number(environment, "SAMPLE", 1.0, 0.0, 1.0),
        _recipient(environment.get(f"{PREFIX}RECIPIENT", "")),
        _key(environment.get(f"{PREFIX}KEY", ""), private),
        int(_number(environment, "DAYS", 30, 1, 36_500, whole=True)),
        int(_number(environment, "MB", 10_000, 1, 1e9) * MEGABYTE),
        private,
    )


def _refuse_unknown(environment: Mapping[str, str]) -> None:
    """Rejects misspelled names: without a recipient, for instance, segments are not encrypted."""
    if IDENTITY in environment:
        raise UserError(f"{IDENTITY}: the service must not be able to read what it keeps; only `collect` needs it")
    known = [PREFIX + name for name in NAMES]
    for name in environment:
        if name.startswith(PREFIX) and name not in known:
            close = closest(name, known)
            raise UserError(f"{name}: there is no such variable" + (f"; did you mean {close}?" if close else ""))


def _number(
    environment: Mapping[str, str], name: str, default: float, low: float, high: float, whole: bool = False
) -> float:
    text = environment.get(PREFIX + name, "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = -1.0
    if not low <= value <= high or (whole and value % 1):  # also NaN
        raise UserError(f"{PREFIX}{name}={text[:40]}: a {'whole ' * whole}number from {low:g} to {high:g} is expected")
    return value


def _recipient(text: str) -> Recipient | None:
    if not text:
        return None
    from pyrage import RecipientError
    from pyrage.x25519 import Recipient

    try:
        return Recipient.from_str(text.strip())
    except RecipientError as error:
        wrong = "this is a secret key" if text.strip().startswith("AGE-SECRET-KEY") else one_line(error)
        raise UserError(f"{PREFIX}RECIPIENT: {wrong}: the public key of age is expected, age1...") from None


def _key(text: str, private: Mapping[str, str]) -> bytes:
    hashed = [column for column, treatment in private.items() if treatment == HASH]
    if hashed and len(text) < KEY_CHARACTERS:
        raise UserError(
            f"{PREFIX}KEY: the schema says `private: hash` for {hashed[0]!r}, which needs a random key of at least "
            f"{KEY_CHARACTERS} characters here: `openssl rand -hex 32` prints one"
        )
    return text.encode()
