"""mypy, with the settings of the bake."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from support import ROOT

HARNESS_TESTS = Path(__file__).parents[1]


def mypy(file: str) -> tuple[int, str]:
    """Exit status and output of mypy for one file of tests."""
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), file]
    paths = os.pathsep.join(map(str, (ROOT / "src", HARNESS_TESTS, HARNESS_TESTS / "contracts")))
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "MYPYPATH": paths}, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def accepts(file: str) -> None:
    """Fails unless mypy finds no error in a file."""
    status, output = mypy(file)
    assert status == 0, output


def refuses(file: str, line: str, wrong: str) -> None:
    """Fails unless mypy finds exactly one error in a file, in a line that is replaced by a wrong one."""
    before, found, after = Path(file).read_text().partition(f"\n{line}\n")
    assert found, line
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, Path(file).name)
        copy.write_text(f"{before}\n{wrong}\n{after}")
        status, output = mypy(str(copy))
    errors = [text for text in output.splitlines() if ": error: " in text]
    number = before.count("\n") + 2
    assert status == 1 and [f"{copy.name}:{number}:" in text for text in errors] == [True], output
    assert "Incompatible types in assignment" in errors[0]
