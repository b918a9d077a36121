"""The command `release`, with a real registry of images and a real engine."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from images import registry
from my_experiment.harness.core.errors import UserError
from my_experiment.harness.delivery import description, release
from my_experiment.harness.delivery.description import PATH
from my_experiment.harness.release import versions
from my_experiment.harness.tracking import proposal, store
from support import ROOT, commit, git

Client = Any  # mlflow.MlflowClient
MODELS = {"1": "11" * 32, "2": "22" * 32, "3": "33" * 32}  # version -> SHA-256 of its model
COMMIT = "c0ffee" * 7


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry on this machine with the images of versions 1 and 2; that of 3 holds the model of 2."""
    folder = tmp_path_factory.mktemp("registry")
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    with pytest.MonkeyPatch.context() as patch, registry(folder) as (place, env):
        for variable, value in env.items():
            patch.setenv(variable, value)
        wait(f"http://{place}/v2/")
        for version, model in {**MODELS, "3": MODELS["2"]}.items():
            name = f"{place}/my_experiment:{version}-{COMMIT[:12]}"
            build_and_push("podman", name, model, folder)
        yield f"{place}/my_experiment"


def build_and_push(builder: str, name: str, model: str, folder: Path) -> None:
    """Builds an image of a model and pushes it."""
    label = f"--label=model_sha256={model}"
    for words in (
        ["build", "--quiet", "--format=docker", label, f"--tag={name}", str(folder)],
        ["push", "--quiet", name],
    ):
        done = subprocess.run([builder, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def digest_in_registry(repository: str, tag: str) -> str:
    """The digest that a registry gives for a tag."""
    place, name = repository.split("/")
    accepted = {"Accept": "application/vnd.docker.distribution.manifest.v2+json"}
    answer = httpx.get(f"http://{place}/v2/{name}/manifests/{tag}", headers=accepted)
    return str(answer.headers["docker-content-digest"])


def wait(url: str) -> None:
    """Waits until a server answers."""
    end = time.monotonic() + 30
    while True:
        try:
            httpx.get(url)
        except httpx.HTTPError:
            assert time.monotonic() < end, url
            time.sleep(0.05)
        else:
            return


@pytest.fixture
def client(repository: str, empty_store: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Client:
    """A registry of models with three versions, and a configuration that names the registry of images."""
    shutil.copy(empty_store, workspace / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{workspace / 'mlflow.db'}")
    monkeypatch.setenv("SERVICE_AUDIT", str(workspace / "audit"))
    (workspace / "audit").mkdir()
    settings = (ROOT / "conf/delivery.yaml").read_text()
    (workspace / "conf/delivery.yaml").write_text(settings.replace("registry.example.org/my_experiment", repository))
    registered = store.client()
    registered.create_registered_model(versions.MODEL)
    for number, model in MODELS.items():
        registered.create_model_version(
            versions.MODEL, f"file:///{number}", None, {"git_commit": COMMIT, "model_sha256": model}
        )
    registered.set_registered_model_alias(versions.MODEL, versions.CHAMPION, "1")
    return registered


def test_the_digest_is_that_of_the_registry(client: Client, repository: str) -> None:
    told = release.release(versions.CHAMPION)
    assert "describes my_experiment/1, release " in told
    spec = description.require().spec
    assert spec.image == f"{repository}@{digest_in_registry(repository, f'1-{COMMIT[:12]}')}"
    assert (spec.model.version, spec.model.sha256, spec.replicas) == ("1", MODELS["1"], 2)
    events = [json.loads(line) for line in Path(os.environ["SERVICE_AUDIT"], "audit.jsonl").read_text().splitlines()]
    assert [(each["event"], each["version"], each["release"]) for each in events] == [
        ("release", "my_experiment/1", spec.release)
    ]
    before = PATH.stat()
    assert release.release("1").endswith("nothing changed")
    assert PATH.stat() == before
    assert "my_experiment/1 and my_experiment/2 were not compared: " in release.release("2")


def test_the_digest_of_what_buildah_has_built_is_that_of_the_registry(
    client: Client, repository: str, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its manifest here has another digest: layers are compressed on their way to a registry."""
    monkeypatch.setenv("BENTOML_CONTAINERIZE_BACKEND", "buildah")
    model = "55" * 32
    (workspace / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    client.create_model_version(versions.MODEL, "file:///4", None, {"git_commit": "cd" * 20, "model_sha256": model})
    build_and_push("buildah", f"{repository}:4-cdcdcdcdcdcd", model, workspace)
    release.release("4")
    found = description.require().spec.image
    assert found == f"{repository}@{digest_in_registry(repository, '4-cdcdcdcdcdcd')}"


def test_a_release_is_proposed_on_a_branch(client: Client, workspace: Path) -> None:
    """Without a git remote, then with one; the workspace stays as it is, and the same is not proposed twice."""
    git("init", "--quiet", "--initial-branch=main")
    (workspace / ".gitignore").write_text("/*\n!/conf\n!/deploy\n")
    commit()
    told = release.release("1", proposes=True)
    branch = proposal.BRANCH.read_text().strip()
    assert (
        told == f"{branch} is a branch here (git has no remote), and describes my_experiment/1: merge it, then deploy"
    )
    assert not PATH.exists() and git("status", "--porcelain") == ""
    git("init", "--quiet", "--bare", "origin.git")
    git("remote", "add", "origin", str(workspace / "origin.git"))
    git("branch", "--delete", "--force", branch)
    assert f"{branch} is on origin, and describes" in release.release("1", proposes=True)
    pushed = git("ls-remote", "origin", f"refs/heads/{branch}")
    proposal.BRANCH.unlink()
    assert f"{branch} is on origin already" in release.release("1", proposes=True)
    assert git("ls-remote", "origin", f"refs/heads/{branch}") == pushed and proposal.BRANCH.exists()
    git("pull", "--quiet", "--ff-only", "origin", branch)
    found = description.require().spec
    assert branch == f"release/1-{found.release}"
    report = proposal.REPORT.read_text()
    assert report.startswith(f"# Release my_experiment/1\n\nImage `{found.image}`") and "# Release" not in git(
        "log", "-1"
    )
    assert release.release("1", proposes=True).endswith("nothing changed") and not proposal.BRANCH.exists()


def test_an_image_of_another_model_is_refused(client: Client) -> None:
    with pytest.raises(UserError, match="holds 222222222222, and my_experiment/3 is 333333333333"):
        release.release("3")
    assert not PATH.exists()


def test_an_image_that_was_not_pushed_is_one_line(client: Client) -> None:
    tags = {"git_commit": "ab" * 20, "model_sha256": "44" * 32}
    client.create_model_version(versions.MODEL, "file:///4", None, tags)
    with pytest.raises(UserError, match=r"no image of my_experiment/4 .* `make push REGISTRY=127\.0\.0\.1:") as caught:
        release.release("4")
    assert "\n" not in str(caught.value) and not PATH.exists()


@pytest.mark.parametrize(
    ("repository_set", "message"),
    [
        (
            None,
            r"example\.org/my_experiment is an example: set `repository` in conf/delivery\.yaml to REGISTRY/",
        ),
        (
            "another",
            r"would put it into 127\.0\.0\.1:\d+/my_experiment; set `repository` in conf/",
        ),
    ],
    ids=["shipped", "another"],
)
def test_a_repository_that_push_does_not_fill_is_named(
    client: Client, repository: str, workspace: Path, repository_set: str | None, message: str
) -> None:
    """The shipped one, and one of another name than the image's."""
    settings = (ROOT / "conf/delivery.yaml").read_text()
    if repository_set:
        place = f"{repository.rpartition('/')[0]}/{repository_set}"
        settings = settings.replace("registry.example.org/my_experiment", place)
    (workspace / "conf/delivery.yaml").write_text(settings)
    with pytest.raises(UserError, match=message):
        release.release("1")
    assert not PATH.exists()
