"""A lock in the MLflow registry, for one writer at a time."""

import contextlib
import getpass
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from .. import audit
from ..core.errors import UserError
from ..tracking import store
from .versions import MODEL

if TYPE_CHECKING:
    from mlflow import MlflowClient

LOCK = f"{MODEL}.lock"
WAIT = 30.0  # seconds to wait for the lock, which is held for less than a second


@contextlib.contextmanager
def exclusive(registry: "MlflowClient") -> Iterator[Callable[[], None]]:
    """A lock among all machines that write to the registry.

    MLflow has no compare-and-set for aliases. But the name of a registered model is a primary key: if two processes
    create `<model>.lock` at the same time, the database, SQLite or a server's, rejects one of them.

    Args:
        registry: The MLflow store.

    Yields:
        A function that raises if `unlock` removed the lock; call it just before moving an alias.

    Raises:
        UserError: If the lock is not released in time; the message names its holder.
    """
    token, deadline = uuid.uuid4().hex, time.monotonic() + WAIT
    tags = {
        "token": token,
        "holder": f"{getpass.getuser()}@{socket.gethostname()}, process {os.getpid()}",
        "since": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
    }
    while not _acquire(registry, tags):
        holder = _holder(registry)
        if time.monotonic() > deadline and holder:
            raise UserError(
                f"{MODEL} is locked since {holder.get('since')} by {holder.get('holder')}: wait for it, or, if that "
                f"process has died, run `python -m {MODEL} registry unlock`"
            )
        time.sleep(0.1)  # between two attempts

    def held() -> bool:
        return (_holder(registry) or {}).get("token") == token

    def require() -> None:
        if not held():
            raise UserError("`unlock` removed the lock meanwhile: no alias was moved")

    try:
        yield require
    finally:
        if held():
            registry.delete_registered_model(LOCK)


def _acquire(registry: "MlflowClient", tags: dict[str, str]) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        registry.create_registered_model(LOCK, tags, "Held for moments while an alias moves; see `registry unlock`.")
    except MlflowException as error:
        # DOES_NOT_EXIST: another process holds the lock, and releases it while MLflow looks it up.
        if error.error_code not in ("RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST"):
            raise
        # If a response is lost, MLflow repeats the request, which then finds the lock that the first request created.
        return (_holder(registry) or {}).get("token") == tags["token"]
    return True


def _holder(registry: "MlflowClient") -> dict[str, str] | None:
    """The lock's tags token, holder and since; None without a lock."""
    from mlflow.exceptions import MlflowException

    try:
        return dict(registry.get_registered_model(LOCK).tags)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def unlock() -> str:
    """Removes the lock of a process that died.

    Returns:
        A message with the former holder.
    """
    registry = store.client()
    holder = _holder(registry)
    if holder is None:
        return f"{MODEL} is not locked"
    audit.record("unlock", holder=holder.get("holder"))
    registry.delete_registered_model(LOCK)
    return f"{MODEL} was locked since {holder.get('since')} by {holder.get('holder')}; the lock is removed"
