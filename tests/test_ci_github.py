"""The workflows of GitHub Actions: linted, and run by `act` on this machine, without containers.

A job runs the steps of the file, in a copy of the project, with this machine's make, git, DVC and pytest. Two things
are not GitHub's: the actions that only talk to its services are stubs (see ACTIONS), and so are the programs `gh` and
`docker`. Where a workflow's own steps are what is tested, a Makefile that makes nothing stands for the project's.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import VENV, BakedProject, Result, edit, execute
from test_ci_others import STEPS

pytestmark = pytest.mark.pipeline

Copy = Callable[[BakedProject], BakedProject]

# Caches and Python are there on this machine, and GitHub's stores are not: these do nothing, or copy to a folder.
NOTHING = "name: none\ndescription: none\nruns: {using: composite, steps: [{run: 'true', shell: bash}]}\n"
UPLOAD = """
name: upload
description: into a folder
inputs: {name: {required: true}, path: {required: true}, if-no-files-found: {required: false}}
outputs: {artifact-url: {value: "${{ steps.copy.outputs.url }}"}}
runs:
  using: composite
  steps:
    - id: copy
      run: |
        mkdir -p "$ARTIFACTS/$NAME"
        if cp -r $FILES "$ARTIFACTS/$NAME"; then echo "url=https://example.org/$NAME" >> "$GITHUB_OUTPUT"; fi
      env: {NAME: "${{ inputs.name }}", FILES: "${{ inputs.path }}"}
      shell: bash
"""
ACTIONS = {"actions/setup-python": NOTHING, "actions/cache": NOTHING, "actions/upload-artifact": UPLOAD}
# A service that is not here: what is sent to it is kept. It knows no comment, and the pull requests that it was sent.
GH = """#!/bin/sh
case "$1 $2" in
  "api --paginate" | "auth setup-git") ;;
  "pr list") cat "$HOME/requests" 2>/dev/null || true ;;
  *) echo "$@" >> "$ARTIFACTS/gh" ;;
esac
if [ "$1 $2" = "pr create" ]; then echo 1 > "$HOME/requests"; cp build/body.md "$ARTIFACTS"; fi
"""
# No container engine either: what it is asked for is kept, with what it reads.
DOCKER = '#!/bin/sh\necho "docker $* $(cat)" >> "$ARTIFACTS/made"\n'
# For what is not about the content of jobs: targets that keep that they were made, and a retraining without training.
TARGETS = """
setup:

lint coverage reproduced bento image push:
\t@echo $@ $(REGISTRY) >> $$ARTIFACTS/made

report:
\t@echo $@ $(BASE) >> $$ARTIFACTS/made
\t@mkdir -p build && echo Results > build/report.md

news:
\t@rm -rf build && mkdir build
\t@test "$$NEWS" = none || touch build/news
\t@echo "news: $$NEWS"

retrain:
\t@sh -e retrained.sh
"""
DELIVERY = """
.PHONY: deploy

champion:
\t@mkdir -p build && echo model:7-0123456789ab > build/bento
\t@echo $@ >> $$ARTIFACTS/made

release:
\t@echo $@ $(ARGS) >> $$ARTIFACTS/made
\t@echo '# Release model/7' > build/report.md
\t@echo release/7 > build/branch
"""
RETRAINED = """
echo retrain >> $ARTIFACTS/made
mkdir -p build/plots
touch build/plots/index.html
printf '# Retraining "%s"\\n\\nAll & more.\\n' "$NEWS" > build/report.md
if [ "$NEWS" = worse ]; then exit 1; fi
echo retrain/1 > build/branch
"""
# Other tests run every hook and every test; these are enough to see that a job runs them, and fails with them.
QUICK = {"PYTEST_ADDOPTS": "--ignore-glob=*/tests/test_[!dw]*", "SKIP": "mypy,secrets,dvc-status"}
REPOSITORY = "someone/my-experiment"


@dataclass(frozen=True)
class Runner:
    """Runs workflows of a project as GitHub would."""

    project: BakedProject
    folder: Path

    @property
    def artifacts(self) -> Path:
        """Where uploaded files lie, each in a folder of its artifact's name."""
        return self.folder / "artifacts"

    def made(self) -> list[str]:
        """What TARGETS and the container engine kept, in order."""
        return (self.artifacts / "made").read_text().splitlines()

    def __call__(
        self,
        event: str,
        *jobs: str,
        workflow: str = "ci",
        env: Mapping[str, str] | None = None,
        secrets: Mapping[str, str] | None = None,
        **payload: object,
    ) -> Result:
        """Runs jobs, with those that they need; all that the event starts where none is named."""
        shutil.rmtree(self.artifacts, ignore_errors=True)
        self.artifacts.mkdir()
        (self.folder / "event.json").write_text(json.dumps(payload))
        used = set(re.findall(r"uses: ([\w-]+/[\w-]+)[\w/]*@(\w+)", "".join(workflows(self.project).values())))
        given = {"ARTIFACTS": str(self.artifacts), "HOME": str(self.folder), **QUICK, **(env or {})}
        passed = ("DVC_GLOBAL_CONFIG_DIR", "DVC_SYSTEM_CONFIG_DIR", "DVC_SITE_CACHE_DIR", "GIT_CONFIG_GLOBAL")
        options: list[str | Path] = [
            *("--workflows", f".github/workflows/{workflow}.yml", "--eventpath", self.folder / "event.json"),
            *("--actor", "someone"),
            *("--platform", "ubuntu-latest=-self-hosted", "--use-gitignore=false", "--no-cache-server"),
            *("--action-cache-path", self.folder / "cache", "--secret", "GITHUB_TOKEN=none"),
            *(x for name, value in (secrets or {}).items() for x in ("--secret", f"{name}={value}")),
            *(x for job in jobs for x in ("--job", job)),
            *(x for name, value in given.items() for x in ("--env", f"{name}={value}")),
            *(x for name in passed for x in ("--env", name)),
            *(
                x
                for action, ref in used
                if action in ACTIONS
                for x in ("--local-repository", f"{action}@{ref}={self.folder / action}")
            ),
        ]
        path = f"{self.folder}:{VENV / 'bin'}:{os.environ['PATH']}"
        return self.project.run("act", event, *options, env={"PATH": path, "HOME": str(self.folder)}, check=False)


def workflows(project: BakedProject) -> dict[str, str]:
    """Returns path -> text of the workflows and of what they share."""
    return {
        path.relative_to(project.path).as_posix(): path.read_text()
        for path in sorted((project.path / ".github").glob("**/*.yml"))
        if path.parent.name in ("workflows", "setup", "credentials")
    }


def ended(done: Result) -> dict[str, bool]:
    """Returns job -> whether it succeeded, of the jobs that ran."""
    return {job: how == "succeeded" for job, how in re.findall(r"^\[\w+/(\w+) *\] .*Job (\w+)$", done.stdout, re.M)}


@pytest.fixture
def runner(quick_project: BakedProject, copy: Copy, tmp_path: Path) -> Runner:
    """A project whose last commit holds its first results."""
    for action, text in ACTIONS.items():
        for folder in (tmp_path / action, tmp_path / action / "restore"):
            folder.mkdir(parents=True)
            (folder / "action.yml").write_text(text)
    for program, text in {"gh": GH, "docker": DOCKER}.items():
        (tmp_path / program).write_text(text)
        (tmp_path / program).chmod(0o755)
    project = copy(quick_project)
    # act copies the project, so that every file is as new as the run: `make setup` would install into the environment
    # that all tests share. This link leads to the same one, and says that it is newer still.
    own = tmp_path / "venv"
    own.mkdir()
    for item in VENV.iterdir():
        if item.name != ".installed":
            (own / item.name).symlink_to(item)
    execute("touch", "--date", "+1 day", own / ".installed", cwd=tmp_path)
    (project.path / ".venv").unlink()
    (project.path / ".venv").symlink_to(own, target_is_directory=True)
    project.run("git", "remote", "add", "origin", f"https://github.com/{REPOSITORY}.git")
    return Runner(project, tmp_path)


@pytest.mark.parametrize(
    ("scope", "deploy"),
    [("experiment", "none"), ("service", "none"), ("production", "puppet"), ("production", "kubernetes")],
)
def test_the_workflows_have_no_findings(bake: Callable[..., BakedProject], scope: str, deploy: str) -> None:
    project = bake(scope=scope, deploy=deploy)
    names = list(workflows(project))
    actions = [f".github/actions/{name}/action.yml" for name in ("credentials", "setup")]
    assert names[:3] == [*actions, ".github/workflows/ci.yml"]
    more = {"experiment": [], "service": ["retrain"], "production": ["deploy", "retrain"]}[scope]
    assert names[3:] == [f".github/workflows/{name}.yml" for name in more]
    project.run("actionlint")
    # Below medium: that `$/` is newer than `./`. act, and GitHub's own servers, do not know it yet.
    project.run("zizmor", "--offline", "--quiet", "--min-severity", "medium", ".github")
    for schema, files in (("github-actions", actions), ("github-workflows", names[2:])):
        project.run("check-jsonschema", "--builtin-schema", f"vendor.{schema}", *files)
    for text in workflows(project).values():
        for action in re.findall(r"uses: (?!\./)(.+)", text):
            assert re.match(r"actions/[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+\b", action), action
        assert re.search(r"^permissions: \{\}$", text, re.M) or "using: composite" in text


def test_a_good_commit_passes_and_nothing_runs_again(runner: Runner) -> None:
    done = runner("pull_request", "report", number=7, pull_request={"head": {"repo": {"full_name": REPOSITORY}}})
    assert ended(done) == dict.fromkeys(("changes", "lint", "test", "pipeline", "report"), True), done.stdout
    assert "dvc.lock matches" in done.stdout and "Running stage" not in done.stdout
    assert {path.name for path in (runner.artifacts / "tests").iterdir()} == {"junit.xml", "coverage.xml"}
    assert re.search(r"\| accuracy +\| - +\| 0\.\d+", done.stdout) and "all results are new" in done.stdout
    assert (runner.artifacts / "plots/plots/index.html").is_file()
    assert (
        f"repos/{REPOSITORY}/issues/7/comments --field body=@build/comment.md" in (runner.artifacts / "gh").read_text()
    )


def test_what_is_not_right_fails_its_job(runner: Runner) -> None:
    project = runner.project
    good = project.run("git", "rev-parse", "HEAD").stdout.strip()

    (project.path / "src/my_experiment/tests/test_wrong.py").write_text(
        "def test_wrong() -> None:\n    assert 1 == 2\n"
    )
    project.commit("A failing test")
    done = runner("pull_request", "test")
    assert ended(done) == {"changes": True, "test": False}, done.stdout
    assert "assert 1 == 2" in done.stdout and (runner.artifacts / "tests/junit.xml").is_file()

    project.run("git", "reset", "--quiet", "--hard", good)
    (project.path / "wrong.py").write_text("print(undefined)\n")
    project.commit("A lint error")
    done = runner("pull_request", "lint")
    assert ended(done) == {"lint": False} and "F821" in done.stdout, done.stdout

    project.run("git", "reset", "--quiet", "--hard", good)
    lock = yaml.safe_load(project.read("dvc.lock"))
    (out,) = (out for out in lock["stages"]["prepare"]["outs"] if out["path"] == "reports/data.json")
    out["md5"] = "a" * 32
    (project.path / "dvc.lock").write_text(yaml.safe_dump(lock))
    project.commit("Results that are not its own")
    done = runner("pull_request", "pipeline")
    assert ended(done) == {"changes": True, "lint": True, "test": True, "pipeline": False}, done.stdout
    assert len(re.findall(r"error: dvc.lock does not match .*reports/data.json", done.stdout)) == 1, done.stdout

    project.run("git", "reset", "--quiet", "--hard", good)
    edit(project, "conf/train/default.yaml", "epochs: 3", "epochs: 4")
    project.commit("Not reproduced")
    done = project.run("make", "reproduced", check=False)
    assert done.returncode and "config would run (conf changed)" in done.stderr and "Running stage" not in done.stdout


@pytest.fixture
def staged(runner: Runner) -> Runner:
    """The same with a Makefile that only keeps what was made."""
    (runner.project.path / "Makefile").write_text(TARGETS)
    (runner.project.path / "retrained.sh").write_text(RETRAINED)
    runner.project.commit("Targets")
    return runner


def test_documentation_runs_no_training(staged: Runner) -> None:
    (staged.project.path / "README.md").write_text("# Mine\n")
    staged.project.commit("Documentation")
    before = staged.project.run("git", "rev-parse", "HEAD~1").stdout.strip()
    for event in ("pull_request", "push"):
        done = staged(event, ref="refs/heads/main", before=before)
        assert ended(done) == {"changes": True, "lint": True}, done.stdout
        assert staged.made() == ["lint"]


@pytest.mark.parametrize(
    ("ref", "before", "report", "image"),
    [
        ("refs/heads/main", "HEAD~1", True, False),
        ("refs/tags/v1", "0" * 40, False, True),  # as GitHub says of what is new: there is nothing to compare with
    ],
    ids=["main", "tag"],
)
def test_a_push_runs_what_it_is_for(staged: Runner, ref: str, before: str, report: bool, image: bool) -> None:
    if report:
        before = staged.project.run("git", "rev-parse", before).stdout.strip()
    done = staged("push", ref=ref, before=before)
    jobs = {"changes", "lint", "test", "pipeline", "bento", *["report"] * report, *["image"] * image}
    assert ended(done) == dict.fromkeys(jobs, True), done.stdout
    made = staged.made()
    assert sorted(made[:2]) == ["coverage", "lint"] and made[2] == "reproduced"
    assert ("report " + before in made) == report
    login = "docker login ghcr.io --username someone --password-stdin none"
    assert [line for line in made[3:] if "report" not in line] == [
        "bento", *["image", login, "push ghcr.io/someone"] * image,
    ]  # fmt: skip


def test_a_retraining_that_passes_becomes_one_pull_request(staged: Runner) -> None:
    def retrained(news: str) -> tuple[bool, list[str]]:
        """Runs the workflow, and gives how its job ended and what GitHub was asked for."""
        done = staged("schedule", workflow="retrain", env={"NEWS": news}, repository={"default_branch": "main"})
        asked = staged.artifacts / "gh"
        return ended(done)["retrain"], asked.read_text().splitlines() if asked.exists() else []

    assert retrained("none") == (True, [])
    assert not (staged.artifacts / "plots/plots").exists()
    assert retrained("worse") == (False, [])
    assert (staged.artifacts / "plots/plots/index.html").is_file()  # why it does not pass is of interest most
    created = 'pr create --base main --head retrain/1 --title Retraining "better" --body-file build/body.md'
    assert retrained("better") == (True, [created])
    body = (staged.artifacts / "body.md").read_text()
    assert body.startswith('# Retraining "better"\n\nAll & more.\n')
    assert body.endswith("[Download the page of plots](https://example.org/plots)\n")
    assert retrained("better") == (True, [])  # proposed already


def test_without_news_nothing_is_installed(staged: Runner) -> None:
    """What is news: tests/harness/automation/test_retrain_news.py."""
    (staged.project.path / "Makefile").write_text(
        TARGETS.replace("setup:", "setup:\n\t@echo setup >> $$ARTIFACTS/made")
    )
    staged.project.commit("A setup that is seen")
    assert ended(staged("push", workflow="retrain", env={"NEWS": "none"})) == {"retrain": True}
    assert not (staged.artifacts / "made").exists()
    assert ended(staged("push", workflow="retrain", env={"NEWS": "better"})) == {"retrain": True}
    assert staged.made() == ["setup", "retrain"]


def test_jobs_wait_for_those_of_the_stages_before(default_project: BakedProject) -> None:
    """GitHub has no stages: `needs` orders the jobs as the stages of the others do."""
    needs: dict[str, set[str]] = {}
    for name, job in yaml.safe_load(default_project.read(".github/workflows/ci.yml"))["jobs"].items():
        direct = job.get("needs", [])
        needs[name] = {direct} if isinstance(direct, str) else set(direct)

    def awaited(job: str) -> set[str]:
        return needs[job].union(*map(awaited, needs[job])) - {"changes"}

    jobs = [job for stage, named in STEPS.items() if stage not in ("retrain", "deliver") for job in named]
    assert set(jobs) == needs.keys() - {"changes"}
    earlier: set[str] = set()
    for named in list(STEPS.values())[:3]:
        for job in named:
            # A report refuses nothing, and there is none where there is nothing to compare with.
            assert earlier - {"report"} <= awaited(job) <= earlier | named.keys(), job
        earlier |= named.keys()
    assert "bento" in awaited("image")


def test_a_new_model_is_proposed_as_a_release_and_a_merged_one_deployed(
    staged: Runner, bake: Callable[..., BakedProject]
) -> None:
    project, delivered = staged.project, bake(scope="production", deploy="ansible")
    for name in ("ci", "deploy"):
        shutil.copy(delivered.path / f".github/workflows/{name}.yml", project.path / ".github/workflows")
    targets = "register promote audit scan deploy status"
    (project.path / "Makefile").write_text(
        TARGETS.replace("bento image push", f"bento image push {targets}") + DELIVERY
    )
    (project.path / "dvc.lock").write_text(project.read("dvc.lock") + "# new\n")
    project.commit("A new model")
    push: dict[str, Any] = {
        "ref": "refs/heads/main",
        "before": project.run("git", "rev-parse", "HEAD~1").stdout.strip(),
    }
    edit(project, ".github/workflows/ci.yml", "needs: [changes, pipeline, bento]", "needs: changes")  # others run these
    done = staged("push", "propose", **push)
    assert ended(done) == {"changes": True}, f"without a registry of models: {done.stdout}"
    done = staged("push", "propose", secrets={"MLFLOW_TRACKING_URI": "http://127.0.0.1:5000"}, **push)
    assert ended(done) == {"changes": True, "propose": True}, done.stdout
    made = [line.split()[0] for line in staged.made() if not line.startswith("docker")]
    assert made == STEPS["deliver"]["propose"], made
    assert "push ghcr.io/someone" in staged.made()
    asked = (staged.artifacts / "gh").read_text()
    assert asked == "pr create --base main --head release/7 --title Release model/7 --body-file build/body.md\n"

    key = {"DEPLOY_SSH_KEY": "key", "DEPLOY_KNOWN_HOSTS": "host"}
    for secrets, wanted in ((None, []), (key, STEPS["deliver"]["deploy"])):
        done = staged("push", workflow="deploy", secrets=secrets, **push)
        assert ended(done) == {"deploy": True}, done.stdout
        assert (staged.made() if wanted else [*staged.artifacts.iterdir()]) == wanted
    assert (staged.folder / ".ssh/id_ed25519").read_text() == "key\n"


def test_an_image_is_made_of_a_tag_alone(default_project: BakedProject) -> None:
    jobs = yaml.safe_load(default_project.read(".github/workflows/ci.yml"))["jobs"]
    pushing = [name for name, job in jobs.items() if any("make push" in step.get("run", "") for step in job["steps"])]
    assert pushing == ["image"] and jobs["image"]["if"] == "startsWith(github.ref, 'refs/tags/')"
    writes = {name: job["permissions"] for name, job in jobs.items() if "write" in job["permissions"].values()}
    assert writes == {
        "report": {"contents": "read", "pull-requests": "write"},
        "image": {"contents": "read", "packages": "write"},
    }
