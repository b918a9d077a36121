"""The three verdicts about a commit that is reproduced elsewhere, each made for real; nothing is cached there."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import VENV, BakedProject, clone, edit, stages_run
from debian import apt_install

pytestmark = pytest.mark.pipeline

# A stage `train` on an emulated processor without AVX: OpenBLAS takes another kernel and rounds differently, whatever
# processor runs the test. Nothing chooses the kernel by a variable, as it does in a training that is `portable`.
SHIM = """#!/bin/sh
case "$*" in
  *stages.train*)
    unset OPENBLAS_CORETYPE
    exec qemu-x86_64 -0 {python} -cpu Nehalem "$(readlink -f {python})" "$@";;
esac
exec {python} "$@"
"""


@pytest.fixture
def emulated(tmp_path: Path) -> dict[str, str]:
    """The environment in which Python trains on the emulated processor."""
    if not shutil.which("qemu-x86_64"):
        apt_install("qemu-user")
    shim = tmp_path / "bin/python"
    shim.parent.mkdir()
    shim.write_text(SHIM.format(python=VENV / "bin/python"))
    shim.chmod(0o755)
    return {"PATH": f"{shim.parent}{os.pathsep}{VENV / 'bin'}{os.pathsep}{os.environ['PATH']}"}


def test_three_verdicts(bake: Callable[..., BakedProject], emulated: dict[str, str], tmp_path: Path) -> None:
    """A linear model: NumPy and SciPy train it, so that emulation takes seconds."""
    project = bake(task="tabular-regression")
    edit(project, "conf/config.yaml", "model: mlp", "model: linear_regression")
    edit(project, "conf/config.yaml", "- explain: default", "- explain: none")
    project.run("dvc", "repro")
    project.commit("Results")
    other = clone(project, tmp_path / "other")

    def verdict(env: dict[str, str] | None = None) -> tuple[int, list[str], str]:
        """Exit code, stages that ran, and the last line."""
        command = (VENV / "bin/python", "-m", "my_experiment", "ci", "reproduced")
        done = other.run(*command, check=False, env={"PYTHONPATH": "src", **(env or {})})
        return done.returncode, stages_run(done.stdout), (done.stdout if done.returncode == 0 else done.stderr).strip()

    code, ran, said = verdict()
    assert (code, ran) == (0, ["prepare", "train", "explain", "robustness", "evaluate"])
    assert said.splitlines()[-1].startswith("identical: dvc.lock matches") and other.git_status() == ""

    shutil.rmtree(other.path / ".dvc/cache")
    for folder in ("models", "reports"):
        shutil.rmtree(other.path / folder)
    code, ran, said = verdict(emulated)
    assert (code, ran[-4:]) == (0, ["train", "explain", "robustness", "evaluate"])
    assert said.splitlines()[-1].startswith("equivalent: another machine (a processor without AVX"), said
    assert set(other.git_status().split()) == {"M", "dvc.lock", "machine.json"}
    # `dvc repro` had said it, too, and how to go back: here it works, as the first run's files could be anywhere.
    other.run("git", "checkout", "HEAD", "dvc.lock", "machine.json")
    assert other.git_status() == ""

    edit(other, "conf/config.yaml", "resamples: 1000", "resamples: 900")
    other.commit("Not reproduced")
    code, ran, said = verdict()
    assert (code, ran) == (1, [])
    assert "different: config would run (conf changed)" in said
