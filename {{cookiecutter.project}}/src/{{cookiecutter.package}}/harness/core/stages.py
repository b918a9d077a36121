"""What every command does around its work: errors in one line, one process a stage at a time."""

import sys
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

from .errors import UserError


def run(main: Callable[[], None], interrupted: str = "the same command starts anew") -> None:
    """Runs `main` and turns what a person can cause into one clear line instead of a traceback.

    Args:
        main: The command's work.
        interrupted: What comes of it after Ctrl-C.

    Raises:
        SystemExit: Code 1 after a `UserError`, 130 after Ctrl-C.
    """
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print(f"interrupted: {interrupted}", file=sys.stderr)
        raise SystemExit(130) from None


def run_stage(name: str, main: Callable[[], None]) -> None:
    """Runs a pipeline stage, alone.

    `kill -9` of `dvc` leaves the stage it started running. A second `dvc repro` must not have its outputs
    overwritten by that orphan, so it waits for it; the operating system drops the lock with the process.

    Args:
        name: The stage's name, as in dvc.yaml.
        main: The stage's work.
    """
    lock = FileLock(Path(".dvc", "tmp", f"{name}.lock"), timeout=0)

    def alone() -> None:
        Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout:
            print(f"{name}: waiting for an earlier `{name}` that is still running here", file=sys.stderr)
            lock.acquire(timeout=-1)
        try:
            main()
        finally:
            lock.release()

    run(alone, interrupted="the stage starts anew at the next `dvc repro`")
