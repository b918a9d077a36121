"""Commands and stages: from any folder of the project, and into any pipe."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from my_experiment.harness.core.errors import UserError, one_line
from my_experiment.harness.core.paths import find_root
from support import PACKAGE, ROOT

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "src")}


@pytest.mark.parametrize("arguments", [["--help"], ["sweep", "--help"]])
def test_a_reader_that_ends_early_is_no_error(arguments: list[str]) -> None:
    command = [sys.executable, "-m", PACKAGE, *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stdout=pipe, stderr=pipe) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()  # as `| true`
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.parametrize("arguments", [["nothing"], ["sweep", "--nothing"]])
def test_a_wrong_command_line_ends_with_2(arguments: list[str]) -> None:
    command = [sys.executable, "-m", PACKAGE, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("Usage: ") and "Traceback" not in done.stderr


def test_a_stage_runs_in_the_root_from_any_folder_below_it(workspace: Path) -> None:
    command = [sys.executable, "-m", f"{PACKAGE}.stages.config"]
    subprocess.run(command, cwd=workspace / "conf/model", env=ENVIRONMENT, check=True, capture_output=True)
    assert (workspace / "params.yaml").is_file()
    assert not (workspace / "conf/model/params.yaml").exists()


def test_outside_a_project_it_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"is not in a project: neither it nor a folder above it has a dvc\.yaml"):
        find_root()


def test_a_message_is_cut_between_words() -> None:
    assert one_line("one two three", 12) == "one two..."
    assert one_line("x" * 400) == "x" * 297 + "..."
    assert one_line("  one\ntwo ") == "one two"
