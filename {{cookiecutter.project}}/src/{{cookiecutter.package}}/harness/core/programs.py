"""Other programs: git, DVC, container engines."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

from .errors import UserError


def run(*command: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None, text: str = "") -> str:
    """Runs a program.

    Args:
        *command: The program and its arguments.
        cwd: Folder to run it in; None for the present one.
        env: Its whole environment; None for that of this process.
        text: Its standard input.

    Returns:
        Its standard output, without white space at the end.

    Raises:
        UserError: If the program is missing or fails, with the first line that says why.
    """
    try:
        done = subprocess.run(
            [str(part) for part in command],
            cwd=cwd,
            env=env,
            input=text,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except FileNotFoundError:
        raise UserError(f"{command[0]} is not installed, or not on PATH") from None
    if done.returncode:
        raise UserError(f"`{' '.join(map(str, command[:2]))}` failed: {reason(done)}")
    return done.stdout.rstrip()


def answer(*command: str | Path, cwd: Path | None = None) -> str | None:
    """The standard output of a program, or None if it is missing or fails.

    Args:
        *command: The program and its arguments.
        cwd: Folder to run it in; None for the present one.
    """
    try:
        return run(*command, cwd=cwd)
    except UserError:
        return None


def reason(done: subprocess.CompletedProcess[str]) -> str:
    """The line in which a program says why it failed.

    Args:
        done: The ended program, its output captured as text.

    Returns:
        Its first line with "error" or "fatal", else its last line, else its exit status.
    """
    lines = [line.strip() for line in f"{done.stderr or ''}\n{done.stdout or ''}".splitlines() if line.strip()]
    named = next((line for line in lines if line.lower().startswith(("error", "fatal"))), None)
    return named or (lines[-1] if lines else f"exit status {done.returncode}")
