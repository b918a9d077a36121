"""Other programs: what a person reads if one fails."""

import subprocess
import sys
from pathlib import Path

import pytest
from my_experiment.harness.core import programs
from my_experiment.harness.core.errors import UserError

FAILS = "import sys; print('one\\n'); print('ERROR: two', file=sys.stderr); sys.exit(3)"


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("WARNING: cache\nERROR: failed to push - no network\nWhat to do...\n", "failed to push - no network"),
        ("fatal: '/x' is no repository\nfatal: Could not read\n\nPlease make sure\n", "fatal: '/x' is no repository"),
        ("To /x\n ! [rejected] HEAD -> retrain/1\nerror: failed\n", "! [rejected] HEAD -> retrain/1"),
        ("one\ntwo\n", "two"),
        ("", "exit status 1"),
    ],
)
def test_a_failure_is_one_line(output: str, reason: str) -> None:
    assert programs.reason(subprocess.CompletedProcess(["x"], 1, "", output)) == reason
    assert programs.reason(subprocess.CompletedProcess(["x"], 1, output, None)) == reason  # if it was shown


def test_output_is_returned_without_the_last_line_end(tmp_path: Path) -> None:
    assert programs.run("cat", text=" a\nb \n\n") == " a\nb"
    assert Path(programs.run("pwd", cwd=tmp_path)) == tmp_path
    assert programs.run(sys.executable, "-c", "import os; print(os.environ['X'])", env={"X": "1"}) == "1"


def test_a_program_that_fails_is_named_as_people_type_it(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match=r"^`git push` failed: "):
        programs.run("git", "-c", "core.hooksPath=/dev/null", "push", "--quiet", "/nowhere")
    with pytest.raises(UserError, match=r"^`dvc nothing` failed: "):
        programs.run(*programs.DVC, "nothing")
    with pytest.raises(UserError, match=r"failed: two$"):
        programs.run(sys.executable, "-c", FAILS)
    assert programs.answer(sys.executable, "-c", FAILS) is None
    assert programs.complete(sys.executable, "-c", FAILS).returncode == 3
    capfd.readouterr()
    with pytest.raises(UserError, match=r"failed: its output above says why$"):
        programs.show(sys.executable, "-c", FAILS)
    assert "two" in capfd.readouterr().err


def test_a_program_that_is_missing_is_one_line() -> None:
    for run in (programs.run, programs.show, programs.complete):
        with pytest.raises(UserError, match=r"^no-such-program is not installed, or not on PATH$"):
            run("no-such-program")
    assert programs.answer("no-such-program") is None
