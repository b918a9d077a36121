"""The READMEs: a project is made, tested and served by the commands that they tell people to type."""

import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import pytest
from conftest import ROOT, VENV, BakedProject, digests, execute, free_port, template, wait_until_ready
from processes import kill, running
from programs import blocks as blocks
from test_pythons import others

pytestmark = pytest.mark.pipeline

Copy = Callable[[BakedProject], BakedProject]


def serve(project: BakedProject, command: str, port: int) -> AbstractContextManager["subprocess.Popen[str]"]:
    """Runs a command that serves, with the project's tools, until the end of the block."""
    return running(
        "env", f"PATH={VENV / 'bin'}:{Path('/usr/bin')}:{Path('/bin')}", f"PORT={port}", "bash", "-c", command,
        cwd=project.path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def stop(server: "subprocess.Popen[str]") -> str:
    """Ends a server as Ctrl-C does and gives what it printed."""
    kill(server, signal.SIGINT)
    return server.communicate(timeout=60)[0]


def test_make_mlflow_serves_the_runs(reproduced_project: BakedProject) -> None:
    port = free_port()
    with serve(reproduced_project, "make mlflow", port) as server:
        wait_until_ready(f"http://127.0.0.1:{port}/health", server)
        found = httpx.post(
            f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/search", json={"max_results": 10}
        ).json()
        assert "my_experiment" in {experiment["name"] for experiment in found["experiments"]}
        stop(server)


def test_tests_and_lint_pass_after_the_pipeline(reproduced_project: BakedProject, copy: Copy) -> None:
    project = copy(reproduced_project)
    done = project.run("make", "test")
    assert "skipped" not in done.stdout.splitlines()[-1] and "warning" not in done.stdout.splitlines()[-1]
    project.run("make", "lint")
    assert project.git_status() == ""


def test_make_demo_in_a_clean_clone(reproduced_project: BakedProject, tmp_path: Path) -> None:
    """Another folder, environment, hash seed and, if there is one, Python than the other tests have: the same bytes."""
    # The clone gets the environment that runs this test; the generated project makes its own, from its lock.
    clone = tmp_path / "clone"
    execute("git", "clone", "--quiet", template(), clone, cwd=tmp_path)
    (clone / ".venv").symlink_to(VENV, target_is_directory=True)
    (VENV / ".installed").touch()
    try:
        python = {"PYTHON": others()[0]} if others() else {}
        done = execute("make", "demo", cwd=clone, env={"PYTHONHASHSEED": "4711", **python})
        assert re.search(r"an example of the test split, \d: answered \{'label': '\d', 'probabilities'", done.stdout)
        assert "Traceback" not in done.stdout + done.stderr
        project = BakedProject(clone / "build/demo/image-classification/my-experiment")
        assert "accuracy" in project.run("dvc", "metrics", "show").stdout
        assert digests(project) == digests(reproduced_project)
        assert project.read("dvc.lock") == reproduced_project.read("dvc.lock")
        # A second run finds everything done.
        assert "Running stage" not in execute("make", "demo", cwd=clone).stdout
    finally:
        shutil.rmtree(clone, ignore_errors=True)


def test_the_template_readme_names_only_what_is_run(tmp_path: Path) -> None:
    told = [command for commands in blocks((ROOT / "README.md").read_text(encoding="utf-8")) for command in commands]
    # `make demo` is the test above; `make test` is what runs this.
    assert told[:2] == ["make demo", "make test"]
    (command,) = told[2:]
    execute("bash", "-c", command.replace("path/to/this/clone", str(template())), cwd=tmp_path)
    assert (tmp_path / "leaf-classifier/src/leaf_classifier").is_dir()
