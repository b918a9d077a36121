"""The file of clients: what each may do, and the hashes of its keys."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import pydantic
import yaml

from ..core.errors import UserError, one_line
from ..core.files import write_text
from ..core.paths import NAME
from ..serving.refusal import first_error

ANYBODY = "*"  # name of the client that stands for all whom a proxy names, and the file does not
CLIENT_NAME = r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}"
HEAD = f"# Clients of the service; `python -m {NAME} keys` writes this file. Only hashes of the keys are here.\n"
RATE = "^[1-9][0-9]{0,8}/(second|minute|hour)$"
TOKEN_BYTES = 32

Role = Literal["predict", "explain", "feedback", "metrics"]


class Client(pydantic.BaseModel, extra="forbid", frozen=True):
    """A client of the service.

    Attributes:
        name: Its name, in metrics and beside its feedback.
        sha256: Hashes of its keys; none if a proxy names it.
        roles: What it may do.
        rate: Number of requests in a time, `100/second` for instance; None without a limit.
        answers: Number of predictions in a day; None without a limit.
    """

    name: Annotated[str, pydantic.Field(pattern=rf"^({CLIENT_NAME}|\*)$")]
    sha256: tuple[Annotated[str, pydantic.Field(pattern="^[0-9a-f]{64}$")], ...] = ()
    roles: Annotated[tuple[Role, ...], pydantic.Field(min_length=1)]
    rate: Annotated[str, pydantic.Field(pattern=RATE)] | None = None
    answers: Annotated[int, pydantic.Field(ge=1)] | None = None


class _File(pydantic.BaseModel, extra="forbid"):
    clients: list[Client]


_EXPECTED = "a file that `keys new` writes is expected: `clients:`, and a list"


def read(file: Path) -> list[Client]:
    """The clients of a file.

    Args:
        file: The file.

    Raises:
        UserError: If it cannot be read, or its content is wrong.
    """
    try:
        content = yaml.safe_load(file.read_bytes())
        if not isinstance(content, dict):
            raise UserError(f"{file}: {_EXPECTED}")
        clients = _File.model_validate(content).clients
    except OSError as error:
        raise UserError(f"SERVICE_KEYS={file}: {error.strerror}") from None
    except pydantic.ValidationError as invalid:
        raise UserError(f"{file}: {first_error(invalid)[0]}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date without such a day; lists in lists in lists
        raise UserError(f"{file}: it is not YAML: {one_line(error)}") from None
    repeated = [*_repeated([each.name for each in clients])]
    repeated += [f"hash {hash[:8]}..." for hash in _repeated([hash for each in clients for hash in each.sha256])]
    if repeated:
        raise UserError(f"{file}: {repeated[0]} is there twice")
    return clients


def _repeated(names: Sequence[str]) -> Iterator[str]:
    return (name for name, count in Counter(names).items() if count > 1)


@contextlib.contextmanager
def exclusive(file: Path) -> Iterator[None]:
    """Keeps other commands from changing the file of clients meanwhile; the system ends it with the process.

    The folder is locked, because the file is replaced, and no other file is left there.

    Args:
        file: The file.

    Raises:
        UserError: If there is no such folder.
    """
    try:
        import fcntl  # here, because Windows has none
    except ImportError:
        yield
        return
    try:
        folder = os.open(file.parent, os.O_RDONLY)
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from None
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def write(file: Path, clients: Sequence[Client]) -> None:
    """Replaces the file of clients, which only its owner can read.

    Args:
        file: The file.
        clients: The clients.

    Raises:
        UserError: If it cannot be written.
    """
    content = {"clients": [each.model_dump(mode="json", exclude_defaults=True) for each in clients]}
    try:
        file.touch(mode=0o600)
        file.chmod(0o600)  # an older file, too; the new one takes its mode
        write_text(file, HEAD + yaml.safe_dump(content, sort_keys=False))
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from None


def new_key() -> tuple[str, str]:
    """A new key, 256 random bits, and its hash."""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    return token, hashlib.sha256(token.encode()).hexdigest()


def is_name(text: str) -> bool:
    """Whether a client can have a name."""
    return re.fullmatch(CLIENT_NAME, text) is not None
