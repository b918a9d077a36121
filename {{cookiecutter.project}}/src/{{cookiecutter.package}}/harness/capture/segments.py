"""Segments: files of JSON lines, compressed, encrypted, complete or absent.

2026/11/29/<time>-<host>-<process>.jsonl.gz.age, in UTC. An open segment is in memory, so that nothing that could be
read is ever on disk; a process that is killed loses it: `SECONDS` of rows at most.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import logging
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from ..core.errors import one_line
from .settings import Settings

SECONDS = 300.0  # after which a segment is closed
BYTES = 16 * 2**20  # of lines, at which a segment is closed
RETRY = 10.0  # seconds between two attempts to write a segment
LEVEL = 3  # of the compression: half the time of 6 for a tenth more bytes
ABANDONED = 3600.0  # seconds after which an unfinished file belongs to a killed process
SUFFIX, ENCRYPTED, PART = ".jsonl.gz", ".age", ".part"
_LOG = logging.getLogger("bentoml")  # BentoML shows the messages of this one
DAYS = "[0-9][0-9][0-9][0-9]/[0-9][0-9]/[0-9][0-9]"  # pattern of the folders
REASONS = QUEUE, SIZE, DISK = "queue", "size", "disk"  # why rows are not kept


class Counts(NamedTuple):
    """Functions that count.

    Attributes:
        rows: Takes the number of rows in a segment that has been written.
        size: Takes the size of that segment in bytes.
        dropped: Takes a reason, one of REASONS, and a number of rows that are not kept.
    """

    rows: Callable[[int], object]
    size: Callable[[int], object]
    dropped: Callable[[str, int], object]


class Segments:
    """The writer of the segments of one process, used by one thread."""

    def __init__(self, settings: Settings, counts: Counts, seconds: float = SECONDS, most: int = BYTES) -> None:
        """Begins without a segment.

        Args:
            settings: Where and how segments are kept.
            counts: Functions that count.
            seconds: Age at which a segment is closed.
            most: Bytes of lines at which a segment is closed.
        """
        self._settings, self._counts, self._seconds, self._most = settings, counts, seconds, most
        self._owner = f"{re.sub('[^A-Za-z0-9.]+', '_', socket.gethostname())}-{os.getpid()}"
        self._trouble = ""
        self._begin()

    def _begin(self) -> None:
        self._start = self._opened = self._next_attempt = 0.0
        self._bytes = self._rows = 0
        self._data = io.BytesIO()
        self._member = self._new_member()

    def _new_member(self) -> gzip.GzipFile:
        return gzip.GzipFile(fileobj=self._data, mode="wb", compresslevel=LEVEL, mtime=0)

    def add(self, line: bytes, rows: int) -> None:
        """Adds a line; drops and counts its rows if the segment is full and cannot be written.

        Args:
            line: A line of JSON, with its end.
            rows: Number of rows in it.
        """
        self.close_if_due()
        if self._bytes >= self._most:
            self._counts.dropped(DISK, rows)
            return
        if not self._bytes:
            self._start, self._opened = time.time(), time.monotonic()
        self._member.write(line)
        self._bytes += len(line)
        self._rows += rows

    def close_if_due(self) -> None:
        """Closes a segment that is full or old; to be called each second."""
        if self._bytes >= self._most or (
            self._bytes and time.monotonic() - self._opened >= self._seconds  # whatever happens to the clock
        ):
            self.close()

    def close(self, last: bool = False) -> None:
        """Closes the segment; if it cannot be written, it stays open for another attempt.

        Args:
            last: Whether the process ends: there is no other attempt.
        """
        if not self._bytes or (not last and time.monotonic() < self._next_attempt):
            return
        self._member.close()
        try:
            size = self._write(self._data.getvalue())
        except OSError as error:
            self._tell(f"{self._settings.folder}: {error.strerror or one_line(error)}")
            self._next_attempt = time.monotonic() + RETRY
            self._member = self._new_member()  # gzip reads several members as one file
            if last:
                self._counts.dropped(DISK, self._rows)
            return
        self._tell("")
        self._counts.rows(self._rows)
        self._counts.size(size)
        self._begin()

    def _tell(self, trouble: str) -> None:
        """Prints a line when trouble begins, changes or ends."""
        if trouble != self._trouble:
            text = f"nothing can be kept now, answers go on: {trouble}" if trouble else "everything is kept again"
            _LOG.warning("SERVICE_LOG: %s", text)
        self._trouble = trouble

    def _write(self, data: bytes) -> int:
        """Writes a segment and returns its size.

        Raises:
            OSError: If it cannot be written, or the folder is full or gone.
        """
        folder, suffix = self._settings.folder, SUFFIX
        if not folder.is_dir():  # perhaps a volume: what is written in its place would fill another disk
            raise OSError(None, "the folder is gone")
        if self._settings.recipient is not None:
            import pyrage

            data, suffix = pyrage.encrypt(data, [self._settings.recipient]), SUFFIX + ENCRYPTED
        used = remove_old(folder, self._settings.days)
        if used + len(data) > self._settings.most_bytes:
            raise OSError(None, f"its segments take {used:,} bytes, of at most SERVICE_LOG_MB")
        start = datetime.fromtimestamp(self._start, UTC)
        day = folder / f"{start:%Y/%m/%d}"
        # Each on its own: `parents` would ignore the mode.
        for place in (day.parent.parent, day.parent, day):
            place.mkdir(mode=0o700, exist_ok=True)
        write_whole(day / f"{start:%H%M%S.%f}-{self._owner}{suffix}", data)
        return len(data)


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file that only its owner may read, complete or not at all, also if the power fails.

    Args:
        path: The file.
        data: Its content.

    Raises:
        OSError: If it cannot be written; nothing is left then.
    """
    part = path.with_name(path.name + PART)
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def remove_old(folder: Path, days: int, now: datetime | None = None) -> int:
    """Removes old segments, and what killed processes left; returns the size of all others in bytes.

    Several processes may do so at once. Other files stay, and do not count.

    Args:
        folder: Folder of the segments.
        days: Age in days from which a segment is old.
        now: The time; None for the present.
    """
    now = now or datetime.now(UTC)
    oldest = f"{now - timedelta(days=days):%Y/%m/%d}"
    size = 0
    for day in folder.glob(DAYS):
        for file in _segments(day):
            with contextlib.suppress(FileNotFoundError):  # another process was faster
                status = file.stat()
                is_part = file.suffix == PART
                if (is_part and now.timestamp() - status.st_mtime > ABANDONED) or day.relative_to(
                    folder
                ).as_posix() < oldest:
                    file.unlink()
                else:
                    size += status.st_size
    return size


def _segments(day: Path) -> Iterator[Path]:
    return (file for file in day.glob(f"*{SUFFIX}*") if file.name.endswith((SUFFIX, SUFFIX + ENCRYPTED, PART)))
