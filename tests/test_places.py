"""A project in a folder of another repository, moved, or on a machine with global git hooks."""

import shutil
import socket
import sys
from pathlib import Path

import pytest
from conftest import BakedProject, Copy, edit, execute

# The other hooks are independent of the place, and take longer.
FEW = {"SKIP": "mypy,import-linter,deptry,zizmor,rumdl,codespell,secrets,dvc-status"}


def said(project: BakedProject) -> str:
    """Gives what the part of `make setup` that installs the hooks says."""
    return project.run("make", "hooks").stdout


def test_hooks_are_installed_without_a_word(default_project: BakedProject, copy: Copy) -> None:
    project = copy(default_project)
    assert said(project) == ""
    assert (project.path / ".git/hooks/pre-commit").is_file()


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (("git", "config", "core.hooksPath", "hooks"), "`core.hooksPath` set"),
        (("rm", "-r", ".git"), "not a git repository"),
        (("rm", ".pre-commit-config.yaml"), ""),
    ],
)
def test_what_prevents_hooks_is_one_line(
    default_project: BakedProject, copy: Copy, command: tuple[str, ...], reason: str
) -> None:
    project = copy(default_project)
    project.run(*command)
    line = said(project)
    assert reason in line and line.count("\n") <= 1
    assert not reason or line.startswith("No git hooks were installed: ")


@pytest.fixture
def inner(default_project: BakedProject, tmp_path: Path) -> BakedProject:
    """A project in a folder of another repository, which has a hook; everything is committed."""
    project = BakedProject(tmp_path / "outer/teams/ours")
    shutil.copytree(default_project.path, project.path, symlinks=True, ignore=shutil.ignore_patterns(".git"))
    outer = tmp_path / "outer"
    execute("git", "init", "--quiet", cwd=outer)
    hook = outer / ".git/hooks/pre-commit"
    hook.write_text("#!/bin/sh\necho the outer hook\n")
    hook.chmod(0o755)
    (outer / "README.md").write_text("# Outer\n")
    execute("git", "add", "--all", cwd=outer)
    execute("git", "commit", "--quiet", "--message", "Outer", cwd=outer)
    return project


def test_a_project_in_another_repository_leaves_its_hooks_alone(inner: BakedProject) -> None:
    assert said(inner) == (
        "No git hooks were installed: this is a folder of another repository, see docs/environment.md\n"
    )
    outer = inner.path.parents[1]
    (outer / "README.md").write_text("# Outer, changed\n")
    done = execute("git", "commit", "--all", "--message", "Change", cwd=outer)
    assert "the outer hook" in done.stdout + done.stderr
    inner.run("git", "status", "--porcelain")
    assert inner.git_status() == ""


def test_lint_of_a_project_in_another_repository_checks_its_files(inner: BakedProject) -> None:
    edit(inner, "conf/train/default.yaml", "batch_size: 32\n", "batch_size: 32   \n")
    (inner.path.parents[1] / "README.md").write_text("# Outer   \n")
    failed = inner.run("make", "lint", env=FEW, check=False)
    assert failed.returncode != 0
    assert "Fixing conf/train/default.yaml" in failed.stdout
    assert "README" not in failed.stdout
    passed = inner.run("make", "lint", env=FEW)
    assert "Failed" not in passed.stdout
    assert inner.git_status() == " M README.md\n"


def test_a_moved_project_gets_a_new_environment(default_project: BakedProject, copy: Copy) -> None:
    project = copy(default_project)
    (project.path / ".venv").unlink()
    project.run(sys.executable, "-m", "venv", "--without-pip", ".venv")

    def makes(made_in: str) -> str:
        (project.path / ".venv/.installed").write_text(made_in)
        return project.run("make", "--dry-run", "setup").stdout

    assert "rm -rf .venv" in makes("/home/somebody/else\n")
    assert "rm -rf .venv" not in makes(f"{project.path}\n")
    assert "rm -rf .venv" not in makes("")  # from an earlier template


def test_the_runs_of_a_server_are_on_the_server(default_project: BakedProject) -> None:
    done = default_project.run("make", "mlflow", env={"MLFLOW_TRACKING_URI": "http://mlflow.example.org"})
    assert done.stdout == "Open http://mlflow.example.org: the runs are on that server\n"
    assert done.stderr == ""


def test_a_port_in_use_is_one_line(default_project: BakedProject) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        refused = default_project.run("make", "serve", env={"PORT": str(port)}, check=False)
    assert refused.returncode != 0
    told = f"error: port {port} is in use: end that server, or take another port: PORT=3001 make serve"
    assert refused.stderr.splitlines()[0] == told and "bentoml serve" not in refused.stdout
