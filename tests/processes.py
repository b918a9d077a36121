"""Processes of the tests: each ends with the block that started it, and all of them with the session.

Run as a program, this is the watcher of a session: it ends what a session has left that was itself killed.
"""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

MARK = "TEMPLATE_TEST_SESSION"  # a variable in the environment of all processes that a session has started
# Helpers of this process itself, which end with it.
OWN = ("multiprocessing.resource_tracker", "loky.backend.resource_tracker")


@contextmanager
def running(*command: str | Path, **options: Any) -> Iterator["subprocess.Popen[Any]"]:
    """A process that leads a process group, all of which is killed at the end of the block.

    Args:
        *command: The program and its arguments.
        **options: Options of `subprocess.Popen`.
    """
    with subprocess.Popen([str(word) for word in command], start_new_session=True, **options) as process:
        try:
            yield process
        finally:
            kill(process)


def kill(process: "subprocess.Popen[Any]", sent: signal.Signals = signal.SIGKILL) -> None:
    """Sends a signal to the process group that a process leads, also if the process itself has ended."""
    with suppress(ProcessLookupError, PermissionError):  # macOS: the group of a zombie
        os.killpg(process.pid, sent)


def left(session: str) -> list[psutil.Process]:
    """The processes of a session that run, without the one that calls this."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # it has ended meanwhile, or is another user's
            marked = process.pid != os.getpid() and process.environ().get(MARK) == session
            if marked and not any(name in word for name in OWN for word in process.cmdline()):
                found.append(process)
    return found


def end(session: str, seconds: float) -> list[str]:
    """Kills what a session has left.

    Args:
        session: Value of `MARK`.
        seconds: How long processes have to end by themselves.

    Returns:
        The command lines of those that were killed.
    """
    killed = {}
    _, alive = psutil.wait_procs(left(session), seconds)
    while alive:  # killed ones may have started others
        for process in alive:
            with suppress(psutil.Error):
                killed[process.pid] = " ".join(process.cmdline())
                process.kill()
        psutil.wait_procs(alive, 5)
        alive = left(session)
    return [f"{pid}: {command}" for pid, command in killed.items()]


@contextmanager
def session(seconds: float = 30) -> Iterator[None]:
    """A session of tests; fails if it leaves a process, and kills it.

    Args:
        seconds: How long processes have to end by themselves, at the end.

    Raises:
        AssertionError: If processes were left.
    """
    name = uuid.uuid4().hex
    with subprocess.Popen([sys.executable, __file__, name], stdin=subprocess.PIPE, start_new_session=True) as watcher:
        os.environ[MARK] = name
        try:
            yield
        finally:
            del os.environ[MARK]
            killed = end(name, seconds)
            watcher.kill()
    assert not killed, "tests have left processes, which are killed now:\n" + "\n".join(killed)


if __name__ == "__main__":
    sys.stdin.read()  # until the session has ended, however
    end(sys.argv[1], 0)
