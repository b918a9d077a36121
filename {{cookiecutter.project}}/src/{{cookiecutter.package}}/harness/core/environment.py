"""Environment variables that name a folder."""

import os
from pathlib import Path

from .errors import UserError


def folder(variable: str, name: str) -> Path:
    """The folder that a variable names, made for its owner alone if it is missing.

    Args:
        variable: Name of the environment variable.
        name: Its value.

    Raises:
        UserError: If the folder cannot be made or written to, or its name is not whole.
    """
    if name.startswith("~"):  # in a file of a container or of systemd, where it would be a folder of that name
        raise UserError(f"{variable}={name}: no shell has replaced the `~`: name the whole path")
    path = Path(name)
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{variable}={name}: the folder cannot be made: {error.strerror}") from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise UserError(f"{variable}={name}: the folder cannot be written to")
    return path.resolve()
