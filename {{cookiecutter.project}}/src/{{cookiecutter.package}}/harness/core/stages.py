"""Entry points of commands and stages: one-line errors, locks of stages."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from .errors import UserError
from .paths import find_root


def run(main: Callable[[], None]) -> None:
    """Runs a command in the project's root; a `UserError` becomes one line and exit code 1.

    Args:
        main: The command. A `KeyboardInterrupt` from it may carry a message to print.

    Raises:
        SystemExit: Code 1 after a `UserError`, 130 after Ctrl-C, 141 if the reader of standard output has ended.
    """
    try:
        os.chdir(find_root())
        main()
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt as interrupt:
        print(f"interrupted: {str(interrupt) or 'run the same command to start again'}", file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:  # `| head`: without this, Python reports the error again when it closes the output
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None


def run_stage(name: str, main: Callable[[], None]) -> None:
    """Runs a pipeline stage under a lock.

    After `kill -9` of `dvc`, its stage is still running and would overwrite the outputs of a second `dvc repro`, which
    therefore waits for it. The operating system releases the lock when the process ends.

    Args:
        name: Name of the stage, as in dvc.yaml.
        main: Function that runs the stage.
    """
    from filelock import (  # here, not above: a Bento has no filelock
        FileLock,
        Timeout,
    )

    lock = FileLock(Path(".dvc", "tmp", f"{name}.lock"), timeout=0)

    def locked() -> None:
        Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout:
            print(f"{name}: waiting for an earlier `{name}` that is still running here", file=sys.stderr)
            lock.acquire(timeout=-1)
        try:
            main()
        except KeyboardInterrupt:
            raise KeyboardInterrupt("the next `dvc repro` runs the stage from the start") from None
        finally:
            lock.release()

    run(locked)
