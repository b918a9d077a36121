"""The process of a worker: environment, entry point, reason of a loss."""

import itertools
import os
import re
import shlex
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from ...core.errors import UserError, one_line
from ...core.paths import SOURCES

Work = Callable[[], None]  # a worker's loop
POLL_SECONDS = 1.0


def train_variables() -> dict[str, str]:
    """The environment variables of the stage `train`, as dvc.yaml sets them.

    Python and glibc read them when a process starts. PYTHONPATH is left out: it is relative to the project.
    """
    from yaml import safe_load

    command = safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"]["train"]["cmd"]
    assignments = itertools.takewhile(lambda word: "=" in word, shlex.split(command))
    variables = dict(word.split("=", 1) for word in assignments)
    variables.pop("PYTHONPATH", None)
    return variables


def train_environment() -> dict[str, str]:
    """The variables of the stage `train`, with an absolute PYTHONPATH."""
    inherited = os.environ.get("PYTHONPATH")
    paths = [str(SOURCES), inherited] if inherited else [str(SOURCES)]
    return {"PYTHONPATH": os.pathsep.join(paths), **train_variables()}


def environment() -> dict[str, str]:
    """The environment of the stage `train`, without progress bars."""
    return train_environment() | {"TQDM_DISABLE": "1"}


def run(work: Work, root: Path, parent: int | None = None) -> str | None:
    """The entry point of a worker's process.

    Args:
        work: The worker's loop.
        root: The project's root.
        parent: ID of the parent process, with which the worker ends; None if its launcher ends it.

    Returns:
        None, or the reason why the worker ended early, in one line.
    """
    os.chdir(root)
    # Ctrl-C reaches every process of the terminal, but the parent stops its workers itself. submitit ignores SIGTERM,
    # so that a cancelled job would run until SLURM kills it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    return loss(work)


def _end_with(parent: int) -> None:
    """Ends this process when its parent has ended, even by `kill -9`."""
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    os._exit(1)


def loss(result: Callable[[], str | None]) -> str | None:
    """The reason why a worker was lost, in one line, or None.

    Args:
        result: Function that returns the result of `run`, or raises if the worker raised or its process was lost.
    """
    try:
        return result()
    except Exception as error:  # any class: each engine has its exceptions for a dead process or a lost node
        return reason(error)


def reason(error: Exception) -> str:
    """The message of an error in one line; unexpected errors with class."""
    if signals := re.search(r"exit codes of the workers are {(.+?)}", str(error)):  # the useful part of loky's text
        return f"ended by {signals[1]}; the system sends SIGKILL to a process when memory runs out"
    return one_line(error) if isinstance(error, UserError) else f"{type(error).__name__}: {one_line(error)}"
