"""The command `audit`: finds lines of an audit log that were changed, removed, moved or cut."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click

from ..core.commands import FILE as PATH
from ..core.errors import UNREADABLE, UserError
from ..core.paths import NAME
from . import FOLDER, chain
from . import folder as configured
from .chain import START, Head

HEAD = re.compile(r"(?:([1-9]\d*):)?([0-9a-f]{64})")
MOST_NUMBERS = 10**6  # of lines that are missing at one place; more are a number that somebody has written


class Line(NamedTuple):
    """A line of a chain.

    Attributes:
        number: Its number; None if the line cannot be read.
        previous: The hash of the line before, as it says.
        digest: Its own hash.
        is_cut: Whether it lacks its end.
    """

    number: int | None
    previous: str
    digest: str
    is_cut: bool


class Verdict(NamedTuple):
    """What was found in a chain.

    Attributes:
        head: The last line.
        findings: What was done to it, a line each; empty for nothing.
    """

    head: Head
    findings: list[str]


def verify(lines: Iterable[bytes], head: str = "") -> Verdict:
    """Follows a chain from its first line.

    Args:
        lines: The lines with their ends.
        head: Hash of a line, with or without its number, as the service has printed it; empty if unknown. Without one,
            the chain says nothing of lines that were removed from its end.
    """
    search = _Search(head)
    for line in map(_read, lines):
        search.follow(line)
    return search.verdict()


def _read(line: bytes) -> Line:
    digest, is_cut = hashlib.sha256(line).hexdigest(), not line.endswith(b"\n")
    try:
        content: Any = json.loads(line)
        return Line(int(content["n"]), str(content["previous"]), digest, is_cut)
    except UNREADABLE:
        return Line(None, "", digest, is_cut)


class _Search:
    """What is known of the lines so far."""

    def __init__(self, head: str) -> None:
        self._wanted, self._is_found = HEAD.fullmatch(head), not head
        self._last = Line(0, "", START, False)
        self._place = self._most = 0  # lines so far, and their highest number
        self._missing: set[int] = set()
        self._findings: list[str] = []
        self._is_ascending = True  # the last line is not out of place

    def follow(self, line: Line) -> None:
        """Takes the next line."""
        self._place += 1
        if line.number is None or line.is_cut:
            self._findings.append(f"line {self._place} is cut off or no JSON")
        number = self._most + 1 if line.number is None else line.number
        if abs(number - self._most) > MOST_NUMBERS:
            self._findings.append(f"the number of the line in place {self._place} was changed")
            number = self._most + 1
        self._compare(line, number)
        if self._wanted and line.digest == self._wanted[2] and self._wanted[1] in (None, str(number)):
            self._is_found = True
        self._last, self._most = line._replace(number=number), max(self._most, number)

    def _compare(self, line: Line, number: int) -> None:
        if number in self._missing:
            self._missing.discard(number)
            adjacent = self._last.number == number + 1
            how = f"lines {number} and {number + 1} are swapped" if adjacent else f"line {number} is out of place"
            self._findings.append(f"{how}: it stands in place {self._place}")
        elif number <= self._most:
            self._findings.append(f"line {number} is there twice, or its number was changed, in place {self._place}")
        elif number > self._most + 1:
            self._missing.update(range(self._most + 1, number))
        elif self._is_ascending and line.previous not in ("", self._last.digest):
            before = f"line {number - 1} was changed: line {number} has another hash of it"
            self._findings.append(before if number > 1 else "line 1 was changed: it is no beginning")
        self._is_ascending = number > self._most

    def verdict(self) -> Verdict:
        """What was done to the chain."""
        findings = [*_removed(sorted(self._missing)), *self._findings]
        if not self._is_found:
            wanted = f"line {self._wanted[1]}" if self._wanted and self._wanted[1] else "the line"
            findings.append(
                f"{wanted} of the given head is not there: it was changed, or lines were removed from the end, which "
                f"is line {self._most} now"
            )
        return Verdict(Head(self._most, self._last.digest), findings)


def _removed(numbers: list[int]) -> Iterator[str]:
    """A finding for each row of numbers."""
    start = 0
    for place, number in enumerate(numbers):
        if place + 1 == len(numbers) or numbers[place + 1] != number + 1:
            first = numbers[start]
            yield f"line {first} was removed" if first == number else f"lines {first} to {number} were removed"
            start = place + 1


@click.group()
def command() -> None:
    """Verify the audit log, in which the service and commands record who did what."""


@command.command("verify")
@click.argument("path", type=PATH, required=False)
@click.option("--head", default="", help="A head of the log, as the service or a command has printed it.")
def _verify(path: Path | None, head: str) -> None:
    """Find lines that were changed, removed, moved or cut.

    PATH is the log or its folder; without it, the folder that SERVICE_AUDIT names.
    """
    if head and not HEAD.fullmatch(head):
        raise UserError(f"--head {head[:80]}: NUMBER:HASH or HASH is expected, as in the line `audit: head ...`")
    place = path or configured()
    if place is None:
        raise UserError(f"{FOLDER} is not set: name the audit log, `python -m {NAME} audit verify FOLDER`")
    file = place / chain.FILE if place.is_dir() else place
    try:
        with file.open("rb") as lines:
            verdict = verify(lines, head)
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from None
    for finding in verdict.findings:
        print(finding)
    if verdict.findings:
        raise UserError(f"{file} was changed: {verdict.findings[0]}")
    print(f"{file}: {verdict.head.number:,} line(s), nothing was changed; head {verdict.head}")
    if not head:
        print("Compare the head with the last one that was printed (--head): a log that was cut at its end looks whole")
