"""Executor `local`: this process."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

P = TypeVar("P")
R = TypeVar("R")


def run(work: Callable[[Iterable[P]], Iterator[R]], pieces: Iterable[P]) -> Iterator[R]:
    """Yields the results of all pieces, one by one; see `Executor`."""
    return work(pieces)
