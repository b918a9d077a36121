"""Executors: where batch prediction, and the preparation of tables, compute.

An executor applies a function to a stream of pieces. Whatever the executor, results and their order are the same, to
the byte. So it is no part of the configuration: it is chosen when a command is typed.
"""

import importlib
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeVar

from ..core.errors import UserError

NAMES = ("local", "ray")
VARIABLE = "EXECUTOR"  # environment variable, because DVC gives a stage no arguments

P = TypeVar("P")
R = TypeVar("R")


class Executor(Protocol):
    """Where a function is applied to a stream of pieces."""

    def __call__(self, work: Callable[[Iterable[P]], Iterator[R]], pieces: Iterable[P]) -> Iterator[R]:
        """Yields the results of all pieces, in order.

        Args:
            work: Function of consecutive pieces; the results of a piece do not depend on those beside it. It can be
                pickled, as can pieces and results.
            pieces: The pieces, read one by one, in this process.

        Raises:
            UserError: If the executor cannot be reached, or lacks something.
        """


def executor(name: str | None = None) -> Executor:
    """An executor.

    Args:
        name: Name of the executor; None for the one that the environment variable names, or `local`.

    Raises:
        UserError: If there is no such executor.
    """
    chosen = name or os.environ.get(VARIABLE) or NAMES[0]
    if chosen not in NAMES:
        raise UserError(f"{VARIABLE}: there is no executor {chosen!r}: set it to {' or '.join(NAMES)}, or remove it")
    run: Executor = importlib.import_module(f".{chosen}", __package__).run
    return run


def engine(package: str, setting: str) -> Any:
    """A package that runs work on other machines.

    Args:
        package: Name of the package.
        setting: What has chosen it, for the message.

    Raises:
        UserError: If it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise UserError(f"{setting}: {error.name} is not installed: run `uv pip install {package}`") from error
