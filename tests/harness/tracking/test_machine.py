"""machine.json: the machine that trained a model, found again wherever git has it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from locks import git
from my_experiment.harness.core import files
from my_experiment.harness.tracking import machine
from support import HARNESS

MODEL = Path("model.onnx")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a model, in the working directory."""
    monkeypatch.chdir(tmp_path)
    git("init", "--quiet")
    MODEL.write_text("first")
    return tmp_path


def md5() -> str:
    return files.digest(MODEL, "md5")


def commit() -> None:
    git("add", "machine.json")
    git("commit", "--quiet", "--message", "Results")


def test_what_the_results_of_a_process_depend_on() -> None:
    """In a process of its own: what this one has imported is chance."""
    code = (
        "import json; from my_experiment.harness.tracking import machine;"
        "import numpy; print(json.dumps(machine.here(True)))"
    )
    env = {**os.environ, "PYTHONPATH": str(HARNESS.parents[1]), "OPENBLAS_CORETYPE": "Nehalem", "USER": "somebody"}
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=env)
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["processor"] and found["processors"] >= 1 and found["portable"] is True
    assert list(found["libraries"]) == ["numpy"] and "threads" not in found and "gpu" not in found
    assert found["variables"] == {"OPENBLAS_CORETYPE": "Nehalem"}
    if sys.platform == "linux" and os.uname().machine == "x86_64":
        assert "X86_V2" in found["instructions"].split() and "x86_64 glibc" in found["system"]
        assert found["blas"] == "openblas Nehalem"
    for name in ("somebody", os.uname().nodename):  # nobody and no host is named
        assert name not in done.stdout.split()


def test_another_process_here_is_no_other_machine() -> None:
    """The command that judges has no variables of the stages, and has not imported TensorFlow."""
    trained = {**machine.here(True), "blas": "openblas Nehalem", "threads": 9, "variables": {"OPENBLAS_CORETYPE": "x"}}
    assert machine.today(trained) == trained
    disabled = "X86_V3,X86_V4,AVX512_ICL,AVX512_SPR"
    code = f"import json; from {machine.__name__} import here; print(json.dumps(here(True)))"
    env = {**os.environ, machine.DISABLED: disabled, "PYTHONPATH": str(HARNESS.parents[1])}
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=env)
    trained = json.loads(done.stdout)
    assert trained["variables"][machine.DISABLED] == disabled and "X86_V3" not in trained["instructions"].split()
    assert machine.today(trained) == trained


def test_a_model_has_one_record(repository: Path) -> None:
    machine.record_training(MODEL, None)
    first = machine.read()
    assert first and first["model"] == md5() and "portable" not in first["machine"]
    first["machine"]["processor"] = "of a colleague"
    machine.write(first)
    before = machine.FILE.stat().st_ino
    machine.record_training(MODEL, True)  # the same bytes, elsewhere
    assert machine.read() == first and machine.FILE.stat().st_ino == before
    MODEL.write_text("second")
    machine.record_training(MODEL, True)
    second = machine.read()
    assert second and second["model"] == md5() and second["machine"]["processor"] != "of a colleague"


def test_a_record_is_found_in_the_history(repository: Path) -> None:
    """DVC takes a model from its cache without running a stage: the file then speaks of another one."""
    first = {"model": md5(), "machine": {"processor": "first"}}
    machine.write(first)
    commit()
    for content in ("second", "third"):
        MODEL.write_text(content)
        machine.write({"model": md5(), "machine": {"processor": content}})
        commit()
    MODEL.write_text("first")
    shutil.rmtree(machine.MADE)  # as in a clone
    assert machine.recorded(md5()) == first
    machine.record_training(MODEL, None)
    assert machine.read() == first
    assert machine.recorded("0" * 32) is None


def test_a_record_made_here_is_found_without_a_commit(repository: Path) -> None:
    """Two trainings, then the first again, from DVC's cache: no stage runs that could write the file."""
    records: list[machine.Record] = [{"model": letter * 32, "machine": {"processor": letter}} for letter in "ab"]
    for record in records:
        machine.write(record)
    assert machine.settle("a" * 32) and machine.read() == records[0]
    assert not machine.settle("a" * 32) and not machine.settle("c" * 32) and machine.read() == records[0]


@pytest.mark.parametrize(
    "text",
    [
        *(None, "", "<<<<<<< ours", "[]", "{}", '{"model": 1, "machine": {}}', '{"model": "a"}'),
        '{"model": "a", "machine": {"processor": ["x"]}}',
        '{"model": "a", "machine": {}, "results": "x"}',
        '{"model": "a", "machine": {}, "results": {"metrics": {}, "sketch": "1 x", "error": 1}}',
        '{"model": "a", "machine": {}, "results": {"metrics": {"f1": [1]}, "sketch": "1", "error": 1}}',
    ],
)
def test_an_unreadable_file_is_none(repository: Path, text: str | None) -> None:
    if text is not None:
        machine.FILE.write_text(text)
    assert machine.read() is None and machine.recorded(md5()) is None
    machine.record_training(MODEL, None)
    assert machine.recorded(md5())


def test_it_works_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    MODEL.write_text("first")
    machine.record_training(MODEL, None)
    assert machine.recorded(md5()) and machine.recorded("0" * 32) is None


def test_a_machine_in_one_line_and_in_tags(repository: Path) -> None:
    content = {"processor": "EPYC", "instructions": "X86_V3", "processors": 2, "libraries": {"numpy": "2.4"}}
    assert machine.describe(content) == "EPYC, processors 2, numpy 2.4"
    assert machine.describe(None) == machine.describe({}) == "unknown: no machine.json of git speaks of this model"
    assert machine.tags(md5()) == {}
    machine.write({"model": md5(), "machine": content})
    tags = machine.tags(md5())
    assert tags["machine.libraries.numpy"] == "2.4"
    assert machine.describe(machine.of_tags({**tags, "git_commit": "x"})) == machine.describe(content)
