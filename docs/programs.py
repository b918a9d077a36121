"""Programs that a script starts, and the commands that a page names."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx


def blocks(text: str) -> list[list[str]]:
    """Gives the commands of each shell block of a Markdown text."""
    found = re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S)
    return [[line for line in block.strip().splitlines() if not line.startswith("#")] for block in found]


def free_port() -> int:
    """Gives a port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
    """Waits until a condition holds.

    Args:
        condition: The condition.
        what: What is waited for, for a person.
        seconds: How long.

    Raises:
        SystemExit: If it does not hold in time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"error: not within {seconds:g} s: {what}")
        time.sleep(0.05)  # between two looks at the condition


@contextlib.contextmanager
def answering(
    *command: str | Path, url: str, cwd: Path, log: Path, env: Mapping[str, str] | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """Runs a program until the end of the block, which begins when it answers; gives its process.

    Args:
        *command: The program and its arguments.
        url: An address that answers 200 as soon as the program is ready.
        cwd: Where it runs.
        log: File for what it prints.
        env: Its environment; None for that of this process.

    Raises:
        SystemExit: If it does not get ready.
    """
    words = [str(word) for word in command]
    with (
        log.open("wb") as file,
        subprocess.Popen(
            words,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process,
    ):
        # What it prints ends when all processes have ended that it has started.
        printed = threading.Thread(target=shutil.copyfileobj, args=(process.stdout, file))
        printed.start()
        try:
            until(lambda: process.poll() is not None or _answers(url), f"`{' '.join(words)}` answers", 120)
            if process.poll() is not None:
                printed.join()
                file.flush()
                raise SystemExit(f"error: `{' '.join(words)}` has ended:\n{log.read_text(errors='replace')}")
            yield process
        finally:
            for sent in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, sent)
                printed.join(30)
                if not printed.is_alive():
                    break


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False
