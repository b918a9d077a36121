"""Other programs: git, DVC, container engines."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from .errors import UserError

DVC = (sys.executable, "-m", "dvc")  # of this environment, whatever is on PATH
Done = subprocess.CompletedProcess[str]


def run(
    *command: str | Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    text: str = "",
    progress: bool = False,
) -> str:
    """Runs a program.

    Args:
        *command: The program and its arguments.
        cwd: Folder to run it in; None for the present one.
        env: Its whole environment; None for that of this process.
        text: Its standard input.
        progress: Whether a person at a terminal sees its standard error, which is then not captured.

    Returns:
        Its standard output, without white space at the end.

    Raises:
        UserError: If the program is missing or fails, with the first line that says why.
    """
    done = complete(*command, cwd=cwd, env=env, text=text, progress=progress)
    require(done)
    return done.stdout.rstrip()


def show(*command: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> None:
    """Runs a program whose output a person sees; for the arguments see `run`.

    Raises:
        UserError: If the program is missing or fails.
    """
    try:
        done = subprocess.run([str(part) for part in command], cwd=cwd, env=env, encoding="utf-8", check=False)
    except FileNotFoundError:
        raise _missing(command[0]) from None
    if done.returncode:
        raise UserError(f"`{_name(done)}` failed: its output above says why")


def answer(*command: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str | None:
    """The standard output of a program, or None if it is missing or fails; for the arguments see `run`."""
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
) -> Done:
    """Runs a program to its end, whatever its exit status; for the arguments see `run`.

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


def require(done: Done) -> None:
    """Rejects a failure of a program.

    Args:
        done: The ended program, its output captured as text.

    Raises:
        UserError: If its exit status is not 0, with the first line that says why.
    """
    if done.returncode:
        raise UserError(f"`{_name(done)}` failed: {reason(done)}")


def reason(done: Done) -> str:
    """The line in which a program says why it failed.

    Args:
        done: The ended program, its output captured as text.

    Returns:
        Its first line that begins as errors do, else its last line, else its exit status.
    """
    lines = [line.strip() for line in f"{done.stdout or ''}\n{done.stderr or ''}".splitlines() if line.strip()]
    marked = (line for line in lines if line.lower().startswith(("error", "fatal", "! [rejected]")))
    line = next(marked, lines[-1] if lines else f"exit status {done.returncode}")
    return line.removeprefix("ERROR: ")


def _name(done: Done) -> str:
    """What people call a command line: the program and its command, as in `git push`."""
    words = done.args[2:] if done.args[:2] == [sys.executable, "-m"] else done.args
    return " ".join([word for word in words if not word.startswith("-") and "=" not in word][:2])


def _missing(program: str | Path) -> UserError:
    return UserError(f"{program} is not installed, or not on PATH")
