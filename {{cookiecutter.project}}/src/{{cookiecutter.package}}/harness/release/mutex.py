"""A lock in the registry, held by one writer at a time."""

import contextlib
import getpass
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ..core import errors
from ..tracking import store as tracking_store
from .versions import MODEL

if TYPE_CHECKING:
    from mlflow import MlflowClient

LOCK = f"{MODEL}.lock"
WAIT = 30.0  # seconds for the lock, which others hold for moments


@contextlib.contextmanager
def exclusive(store: "MlflowClient") -> Iterator[Callable[[], None]]:
    """Lets one process at a time, of all machines that use the store, write to the registry.

    MLflow knows no "set this alias if it still is that". But the name of a registered model is a primary key: of two
    that create `<model>.lock` at once, the database refuses one, be it SQLite or the one behind a server.

    Args:
        store: The registry.

    Yields:
        Raises where the lock was taken away (`unlock`): to be called right before what must not happen twice.

    Raises:
        UserError: Naming the holder, where it is not released.
    """
    token, deadline = uuid.uuid4().hex, time.monotonic() + WAIT
    tags = {
        "token": token,
        "holder": f"{getpass.getuser()}@{socket.gethostname()}, process {os.getpid()}",
        "since": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
    }
    while not _take(store, tags):
        taken = _lock(store)
        if time.monotonic() > deadline and taken:
            raise errors.UserError(
                f"{MODEL} is locked since {taken.get('since')} by {taken.get('holder')}: wait for it, or, if that has "
                f"died, `python -m {MODEL}.registry unlock`"
            )
        time.sleep(0.1)  # between two looks at the lock
    try:

        def held() -> None:
            if (_lock(store) or {}).get("token") != token:
                raise errors.UserError("the lock was taken away by `unlock` meanwhile: nothing was moved")

        yield held
    finally:
        if (_lock(store) or {}).get("token") == token:
            store.delete_registered_model(LOCK)


def _take(store: "MlflowClient", tags: dict[str, str]) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        store.create_registered_model(LOCK, tags, "Held for moments by who moves aliases; see `registry unlock`.")
    except MlflowException as error:
        # The second: another one has it, and releases it while MLflow looks.
        if error.error_code not in ("RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST"):
            raise
        # An answer that got lost on the way is asked for again, and finds what the first has made.
        return (_lock(store) or {}).get("token") == tags["token"]
    return True


def _lock(store: "MlflowClient") -> dict[str, str] | None:
    from mlflow.exceptions import MlflowException

    try:
        return dict(store.get_registered_model(LOCK).tags)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def unlock() -> str:
    """Takes the lock away from a process that died, and returns whose it was."""
    store = tracking_store.client()
    taken = _lock(store)
    if taken is None:
        return f"{MODEL} is not locked"
    store.delete_registered_model(LOCK)
    return f"{MODEL} was locked since {taken.get('since')} by {taken.get('holder')}; it is not any more"
