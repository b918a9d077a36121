"""The audit log: who did what, in a chain of lines that nobody can change unnoticed.

`record` is all that other rooms call. It does nothing unless the environment variable SERVICE_AUDIT names a folder.
"""

from __future__ import annotations

import getpass
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from ..core import environment
from ..core.errors import UserError, one_line
from . import chain
from .chain import Entry, Fact
from .trail import Trail

FOLDER = "SERVICE_AUDIT"
_open: list[Trail] = []  # that of the service, if this process is one


def folder(variables: Mapping[str, str] = os.environ) -> Path | None:
    """The folder of the audit log; None if nothing is recorded.

    Args:
        variables: The environment variables.

    Raises:
        UserError: If the folder cannot be made or written to.
    """
    name = variables.get(FOLDER)
    return environment.folder(FOLDER, name) if name else None


def start() -> None:
    """Makes `record` return at once from now on: a thread writes, until `stop`.

    Raises:
        UserError: If the folder cannot be made or written to.
    """
    if place := folder():
        _open.append(Trail(place))


def stop() -> None:
    """Writes what waits, and prints the head."""
    while _open:
        _open.pop().close()


def record(event: str, **facts: Fact) -> None:
    """Records an event, if SERVICE_AUDIT names a folder.

    In a service, it returns at once, also if nothing can be written. Everywhere else the line is on disk when it
    returns, so that what cannot be recorded does not happen: call it right before the act.

    Args:
        event: What happens, for instance `key refused`.
        **facts: Who, and what exactly; never a payload or a secret. Text is cut to 200 characters.

    Raises:
        UserError: If the line cannot be written; never in a service.
    """
    if _open:
        _open[-1].append(Entry(time.time(), event, facts))
    elif place := folder():
        try:
            head = chain.append(place, [Entry(time.time(), event, {"by": _user(), **facts})])
        except OSError as error:
            reason = error.strerror or one_line(error)
            message = f"cannot record {event!r}, which is therefore not done: {reason}"
            raise UserError(f"{FOLDER}={place}: {message}") from None
        print(f"audit: head {head}", file=sys.stderr)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number without a name
        return str(os.getuid())
