"""The chain: a file of JSON lines, each with the SHA-256 of the line before.

{"n":2,"time":"2026-11-30T11:50:27.123Z","event":"feedback",...,"host":"a","process":7,"previous":"9f86d081..."}

All processes append to one file, one at a time, so that one hash vouches for everything before it. The hash is that of
a line with its end: `tail --lines=1 audit.jsonl | sha256sum` prints the head.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from ..core.errors import UNREADABLE

FILE = "audit.jsonl"
START = "0" * 64  # stands in the first line for the hash of a line before
TAIL = 2**16  # bytes that are read to find the last line
TEXT = 200  # characters of a fact
Fact = str | int | float | bool | None


class Entry(NamedTuple):
    """What is to be recorded.

    Attributes:
        time: When it happened, in seconds since 1970-01-01 UTC.
        event: What happened.
        facts: Who did it, and what exactly.
    """

    time: float
    event: str
    facts: Mapping[str, Fact]


class Head(NamedTuple):
    """The last line of a chain, which vouches for all lines before it.

    Attributes:
        number: Its number, from 1; 0 for an empty chain.
        digest: Its SHA-256.
    """

    number: int
    digest: str

    def __str__(self) -> str:
        """Number and hash, as `audit verify --head` takes them."""
        return f"{self.number}:{self.digest}"


def append(folder: Path, entries: Sequence[Entry]) -> Head:
    """Appends lines, all or none, and returns the new head after they are on disk.

    Args:
        folder: Folder of the chain; it must exist.
        entries: What is to be recorded.

    Raises:
        OSError: If the file cannot be written.
    """
    with _locked(folder, os.O_RDWR | os.O_APPEND | os.O_CREAT) as file:
        size = os.fstat(file).st_size
        head, cut = _head(file, size)
        lines = [b"\n"] if cut else []  # a power failure has left a part of a line: it stays, for `verify` to name
        for entry in entries:
            line = _line(head, entry)
            head = Head(head.number + 1, hashlib.sha256(line).hexdigest())
            lines.append(line)
        try:
            _write(file, b"".join(lines))
            os.fsync(file)
        except OSError:
            with contextlib.suppress(OSError):  # not allowed if the file has the attribute `a`
                os.ftruncate(file, size)
            raise
    return head


def head(folder: Path) -> Head:
    """The head of a chain.

    Args:
        folder: Folder of the chain.

    Raises:
        OSError: If there is no chain, or it cannot be read.
    """
    with _locked(folder, os.O_RDONLY) as file:
        return _head(file, os.fstat(file).st_size)[0]


@contextlib.contextmanager
def _locked(folder: Path, flags: int) -> Iterator[int]:
    """The file, open for this process alone; the system releases the lock of a killed one."""
    import fcntl  # here, because Windows has none

    file = os.open(folder / FILE, flags, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file
    finally:
        os.close(file)


def _head(file: int, size: int) -> tuple[Head, bool]:
    """The head, and whether its line lacks its end."""
    if not size:
        return Head(0, START), False
    start = max(0, size - TAIL)
    block = os.pread(file, TAIL, start)
    before, _, last = block.removesuffix(b"\n").rpartition(b"\n")
    if start and not before:  # no line is as long, unless somebody has written it
        block = os.pread(file, size, 0)
        last = block.removesuffix(b"\n").rpartition(b"\n")[2]
    line = last + b"\n"
    try:
        number = int(json.loads(line)["n"])
    except UNREADABLE:
        number = os.pread(file, size, 0).removesuffix(b"\n").count(b"\n") + 1
    return Head(number, hashlib.sha256(line).hexdigest()), not block.endswith(b"\n")


def _line(head: Head, entry: Entry) -> bytes:
    moment = datetime.fromtimestamp(entry.time, UTC).replace(tzinfo=None)
    content = dict(
        n=head.number + 1,
        time=f"{moment.isoformat(timespec='milliseconds')}Z",
        event=entry.event,
        **{name: _short(value) for name, value in entry.facts.items()},
        host=socket.gethostname(),
        process=os.getpid(),
        previous=head.digest,
    )
    # In ASCII: no text of a client can end the line, or move a terminal's cursor.
    return json.dumps(content, separators=(",", ":")).encode() + b"\n"


def _short(value: Fact) -> Any:
    return value if value is None or isinstance(value, bool | int | float) else str(value)[:TEXT]


def _write(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]
