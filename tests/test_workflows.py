"""The template's own CI: linted, and what it writes itself is run against a real repository."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, Result, execute

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def read(name: str) -> dict[str, dict[str, Any]]:
    """Reads the jobs of a workflow."""
    jobs: dict[str, dict[str, Any]] = yaml.safe_load(
        (ROOT / ".github" / "workflows" / name).read_text(encoding="utf-8")
    )["jobs"]
    return jobs


def script(job: str, step: str) -> str:
    """Gives what a step of the monthly workflow runs."""
    (text,) = [each["run"] for each in read("renew.yml")[job]["steps"] if each.get("name") == step]
    return str(text)


@pytest.mark.parametrize(
    "linter",
    [
        ("actionlint",),
        ("zizmor", "--offline", "--quiet"),
        ("check-jsonschema", "--builtin-schema", "vendor.github-workflows"),
    ],
    ids=lambda linter: linter[0],
)
def test_workflows_pass_the_linters(linter: tuple[str, ...], tmp_path: Path) -> None:
    assert [path.name for path in WORKFLOWS] == ["renew.yml", "site.yml", "test.yml"]
    execute(*linter, *WORKFLOWS, *([ROOT / ".github/dependabot.yml"] if linter[0] == "zizmor" else []), cwd=ROOT)
    # And these look: an event that there is not, an action that is not pinned, a job without a machine.
    bad = tmp_path / ".github" / "workflows" / "bad.yml"
    bad.parent.mkdir(parents=True)
    bad.write_text("on: pusch\njobs: {x: {steps: [{uses: actions/checkout@main}]}}\n")
    assert execute(*linter, bad, cwd=tmp_path, check=False).returncode != 0


def test_actions_are_pinned_and_targets_are_there() -> None:
    targets = set(re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    for path in WORKFLOWS:
        text = path.read_text(encoding="utf-8")
        for action in re.findall(r"uses: (.*)", text):
            assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action
        for called in re.findall(r"run: make (.+)", text):
            assert {word for word in called.split() if "=" not in word} <= targets, called


@pytest.mark.parametrize("name", ["renew.yml", "test.yml"])
def test_make_test_finds_what_it_needs(name: str) -> None:
    """A clean machine has neither the versions that a project is updated from, nor SLURM; tests skip without."""
    steps = read(name)["test"]["steps"]
    assert steps[0]["uses"].startswith("actions/checkout@") and steps[0]["with"]["fetch-depth"] == 0
    runs = [step["run"] for step in steps if "run" in step]
    assert runs[-1] == "make test" and re.search(r"apt-get install .* slurm-wlm$", runs[-2])


# GitHub's own command line cannot be had without GitHub: this one writes down what it was asked for.
GH = """#!/bin/sh
echo "$*" >>"$0.log"
test "$1 $2" != "pr list" || cat "$0.open"
"""


def test_the_locks_become_a_pull_request(tmp_path: Path) -> None:
    origin, clone, programs = tmp_path / "origin.git", tmp_path / "clone", tmp_path / "bin"
    execute("git", "init", "--quiet", "--bare", "--initial-branch=main", origin, cwd=tmp_path)
    execute("git", "clone", "--quiet", origin, clone, cwd=tmp_path)
    lock = clone / "{{cookiecutter.project}}" / "requirements" / "dev.lock"
    lock.parent.mkdir(parents=True)
    lock.write_text("numpy==1\n")
    (clone / "README.md").write_text("Read me\n")
    execute("git", "add", "--all", cwd=clone)
    execute("git", "commit", "--quiet", "--message", "Now", cwd=clone)
    execute("git", "push", "--quiet", "origin", "HEAD:main", cwd=clone)
    programs.mkdir()
    (programs / "gh").write_text(GH)
    (programs / "gh").chmod(0o755)
    (programs / "gh.open").write_text("0\n")

    def run(job: str, step: str) -> Result:
        # As GitHub runs a script of bash.
        env = {
            "PATH": f"{programs}:/usr/bin:/bin",
            "RUNNER_TEMP": str(tmp_path),
            "GITHUB_OUTPUT": str(tmp_path / "output"),
            "BASE": "main",
            "RUN": "https://example.org/run",
        }
        return execute("bash", "-e", "-o", "pipefail", "-c", script(job, step), cwd=clone, env=env)

    run("test", "What has changed")
    assert (tmp_path / "output").read_text() == "changed=false\n"
    lock.write_text("numpy==2\n")
    (clone / "README.md").write_text("Read something else\n")
    run("test", "What has changed")
    assert (tmp_path / "output").read_text() == "changed=false\nchanged=true\n"
    (clone / "locks.patch").rename(tmp_path / "locks.patch")
    execute("git", "checkout", "--quiet", ".", cwd=clone)

    opens = "Open the pull request, or renew the one that is open"
    run("pull-request", opens)
    shown = execute("git", "show", "--format=%s", "--name-only", "renew-locks", cwd=origin).stdout.split("\n\n")
    assert shown == ["Renew the locks", "{{cookiecutter.project}}/requirements/dev.lock\n"]
    asked = (programs / "gh.log").read_text()
    assert "pr create --base main --head renew-locks" in asked and "https://example.org/run" in asked
    # A month later, where nobody has merged it: the branch is renewed, and no second pull request opened.
    execute("git", "reset", "--quiet", "--hard", "origin/main", cwd=clone)
    (programs / "gh.open").write_text("1\n")
    run("pull-request", opens)
    assert (programs / "gh.log").read_text().count("pr create") == 1
    assert "pr edit renew-locks" in (programs / "gh.log").read_text()
    assert execute("git", "rev-list", "--count", "main..renew-locks", cwd=origin).stdout == "1\n"
