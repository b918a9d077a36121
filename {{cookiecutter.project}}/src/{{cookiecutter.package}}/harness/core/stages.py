"""What surrounds a command or a stage: errors in one line, one process a stage at a time."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from .errors import UserError


def run(main: Callable[[], None]) -> None:
    """Runs a command, and ends the process with one line for an error that a person can mend.

    Args:
        main: The command. A `KeyboardInterrupt` that it raises anew may carry a text for the person.

    Raises:
        SystemExit: Code 1 after a `UserError`, 130 after Ctrl-C, 141 if the reader of the output has gone.
    """
    try:
        main()
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt as interrupt:
        print(f"interrupted: {str(interrupt) or 'the same command starts anew'}", file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:  # `| head`: Python would complain again when it closes the output
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None


def run_stage(name: str, main: Callable[[], None]) -> None:
    """Runs a pipeline stage, alone.

    `kill -9` of `dvc` leaves the stage it started running. A second `dvc repro` waits for that process, which would
    overwrite its outputs otherwise. The operating system drops the lock with the process.

    Args:
        name: The stage's name, as in dvc.yaml.
        main: The stage's work.
    """
    from filelock import (  # here: a Bento has no stages, and no filelock
        FileLock,
        Timeout,
    )

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
        except KeyboardInterrupt:
            raise KeyboardInterrupt("the stage starts anew at the next `dvc repro`") from None
        finally:
            lock.release()

    run(alone)
