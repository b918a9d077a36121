"""External programs: git, DVC, container engines."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from .errors import UserError

DVC = (sys.executable, "-m", "dvc")  # of this environment, not the one on PATH
Process = subprocess.CompletedProcess[str]


def run(
    *command: str | Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    text: str = "",
    progress: bool = False,
) -> str:
    """The standard output of a program, without trailing white space.

    Args:
        *command: The program and its arguments.
        cwd: Working directory; None for the current one.
        env: Complete environment; None for that of this process.
        text: Standard input.
        progress: Whether standard error goes to the terminal, if there is one, instead of being captured.

    Raises:
        UserError: If the program is missing or fails, with the line of its output that says why.
    """
    process = complete(*command, cwd=cwd, env=env, text=text, progress=progress)
    require(process)
    return process.stdout.rstrip()


def show(*command: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> None:
    """Runs a program with terminal output; arguments as in `run`.

    Raises:
        UserError: If the program is missing or fails.
    """
    try:
        process = subprocess.run([str(part) for part in command], cwd=cwd, env=env, encoding="utf-8", check=False)
    except FileNotFoundError:
        raise _missing(command[0]) from None
    if process.returncode:
        raise UserError(f"`{_name(process)}` failed: its output above says why")


def answer(*command: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str | None:
    """The standard output of a program; None if it fails or is missing.

    For the arguments see `run`.
    """
    try:
        return run(*command, cwd=cwd, env=env)
    except UserError:
        return None


def complete(
    *command: str | Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    text: str = "",
    progress: bool = False,
) -> Process:
    """The completed process of a program; arguments as in `run`.

    Raises:
        UserError: If the program is missing.
    """
    try:
        return subprocess.run(
            [str(part) for part in command],
            cwd=cwd,
            env=env,
            input=text,
            stdout=subprocess.PIPE,
            stderr=None if progress and sys.stderr.isatty() else subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except FileNotFoundError:
        raise _missing(command[0]) from None


def require(process: Process) -> None:
    """Raises an error if a program has failed.

    Args:
        process: The completed process, its output captured as text.

    Raises:
        UserError: If its exit status is not 0, with the line of its output that says why.
    """
    if process.returncode:
        raise UserError(f"`{_name(process)}` failed: {reason(process)}")


def reason(process: Process) -> str:
    """The line in which a program says why it failed.

    Args:
        process: The completed process, its output captured as text.

    Returns:
        The first line that begins with "error" or the like, else the last line, else the exit status.
    """
    lines = [line.strip() for line in f"{process.stdout or ''}\n{process.stderr or ''}".splitlines() if line.strip()]
    marked = (line for line in lines if line.lower().startswith(("error", "fatal", "! [rejected]")))
    line = next(marked, lines[-1] if lines else f"exit status {process.returncode}")
    return line.removeprefix("ERROR: ")


def _name(process: Process) -> str:
    """Program and subcommand of a command line, `git push` for instance."""
    words = process.args[2:] if process.args[:2] == [sys.executable, "-m"] else process.args
    return " ".join([word for word in words if not word.startswith("-") and "=" not in word][:2])


def _missing(program: str | Path) -> UserError:
    return UserError(f"{program} is not installed, or not on PATH")
