"""What the READMEs tell people to type is run here, as it stands there."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
from conftest import ROOT, VENV, BakedProject, digests, execute, free_port, quiet, template, wait_until_ready

pytestmark = pytest.mark.pipeline

Copy = Callable[[BakedProject], BakedProject]


def blocks(text: str) -> list[list[str]]:
    """Gives the commands of each shell block of a Markdown text."""
    return [block.strip().splitlines() for block in re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S)]


def serve(project: BakedProject, command: str, port: int) -> subprocess.Popen[str]:
    """Starts a command that serves, with the project's tools and its own process group."""
    return subprocess.Popen(
        ["env", f"PATH={VENV / 'bin'}:{Path('/usr/bin')}:{Path('/bin')}", f"PORT={port}", "bash", "-c", command],
        cwd=project.path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


def stop(server: subprocess.Popen[str]) -> str:
    """Ends a server as Ctrl-C does and gives what it printed."""
    os.killpg(server.pid, signal.SIGINT)
    return server.communicate(timeout=60)[0]


def test_commands_of_the_generated_readme(reproduced_project: BakedProject, copy: Copy) -> None:
    project = copy(reproduced_project)
    # A short training: this is about the commands.
    conf = project.path / "conf/train/default.yaml"
    conf.write_text(conf.read_text().replace("epochs: 60", "epochs: 1"))
    project.run("git", "commit", "--quiet", "--all", "--message", "Short")
    env = {
        "PYTHONPATH": "src",
        "BENTOML_HOME": str(project.path.parent / "bentoml"),
        "PORT": str(free_port()),
    }
    servers, answers = [], []
    try:
        for commands in blocks(project.read("README.md")):
            for command in commands:
                if command == "make setup":
                    continue  # test_demo runs it for real
                if command == "make serve":
                    servers.append(serve(project, command, int(env["PORT"])))
                    wait_until_ready(f"http://127.0.0.1:{env['PORT']}/readyz", servers[-1])
                    continue
                done = project.run("bash", "-c", command.replace(":3000", f":{env['PORT']}"), env=env)
                assert "Traceback" not in done.stderr, command
                if command.startswith("curl"):
                    answers.append(done.stdout)
                if ".sweep " in command:
                    quiet(done)
                    assert "?? conf/experiment/grid-" in project.git_status()
    finally:
        told = [stop(server) for server in servers]
    assert len(told) == 1 and "Traceback" not in told[0]
    assert len(answers) == 2 and '"predictions"' in answers[0]
    assert np.load("/tmp/answers.npy").shape == (64, 10)


def test_make_targets_run_what_the_readme_says(reproduced_project: BakedProject) -> None:
    rows = re.findall(r"^\| `make (\w+)[^`]*` \| `([^`]+)`", reproduced_project.read("README.md"), re.M)
    makefiles = reproduced_project.read("Makefile") + reproduced_project.read("make/service.mk")
    targets = set(re.findall(r"^([a-z]+):.*## ", makefiles, re.M)) - {"help"}
    assert {target for target, _ in rows} == targets
    for target, command in rows:
        told = reproduced_project.run("make", "--dry-run", "--always-make", target).stdout
        program = " ".join(command.split()[:3])
        assert program in " ".join(told.split()), f"make {target} does not run {command}"
        assert re.search(rf"make {target}\b", reproduced_project.run("make", "help").stdout)


def test_make_mlflow_serves_the_runs(reproduced_project: BakedProject) -> None:
    port = free_port()
    server = serve(reproduced_project, "make mlflow", port)
    try:
        wait_until_ready(f"http://127.0.0.1:{port}/health", server)
        found = httpx.post(
            f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/search", json={"max_results": 10}
        ).json()
        assert "my_experiment" in {experiment["name"] for experiment in found["experiments"]}
    finally:
        stop(server)


def test_tests_and_lint_pass_after_the_pipeline(reproduced_project: BakedProject, copy: Copy) -> None:
    project = copy(reproduced_project)
    done = project.run("make", "test")
    assert "skipped" not in done.stdout.splitlines()[-1] and "warning" not in done.stdout.splitlines()[-1]
    project.run("make", "lint")
    assert project.git_status() == ""


def test_make_demo_in_a_clean_clone(reproduced_project: BakedProject, tmp_path: Path) -> None:
    """Another folder, environment and hash seed than the other tests have: and the same bytes."""
    # The clone gets the environment that runs this test; the generated project makes its own, from its lock.
    clone = tmp_path / "clone"
    execute("git", "clone", "--quiet", template(), clone, cwd=tmp_path)
    (clone / ".venv").symlink_to(VENV, target_is_directory=True)
    (VENV / ".installed").touch()
    try:
        done = execute("make", "demo", cwd=clone, env={"PYTHONHASHSEED": "4711"})
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
