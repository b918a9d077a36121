"""The image of the service, as far as it can be tested without a container engine."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from my_experiment.harness.core import errors
from my_experiment.harness.packaging import engines, image, sbom
from support import PACKAGE, ROOT

TAG = "experiment:0a1b2c"
DIGEST = "ab" * 32


def git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", "-c", "user.name=A", "-c", "user.email=a@b.c", *arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def program(folder: Path, name: str, status: int) -> None:
    """A program that does nothing but end so."""
    (folder / name).write_text(f"#!/bin/sh\nexit {status}\n")
    (folder / name).chmod(0o755)


def test_without_an_engine_it_names_those_that_would_do(tmp_path: Path) -> None:
    program(tmp_path, "docker", 1)  # a client whose daemon is not there
    done = subprocess.run(
        [sys.executable, "-m", PACKAGE, "image"], cwd=ROOT, capture_output=True, text=True,
        env={"PATH": str(tmp_path), "PYTHONPATH": "src"},
    )  # fmt: skip
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and all(name in line for name in ("docker", "podman", "buildah"))


def test_the_engine_is_the_first_that_works_or_the_one_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("BENTOML_CONTAINERIZE_BACKEND", raising=False)
    program(tmp_path, "docker", 1)
    program(tmp_path, "podman", 0)
    program(tmp_path, "buildah", 0)
    assert engines.engine() == "podman"
    monkeypatch.setenv("BENTOML_CONTAINERIZE_BACKEND", "buildah")
    assert engines.engine() == "buildah"
    monkeypatch.setenv("BENTOML_CONTAINERIZE_BACKEND", "docker")
    with pytest.raises(errors.UserError, match=r"docker.*podman or buildah does"):
        engines.engine()


def test_labels_say_where_the_image_comes_from_and_no_password(workspace: Path) -> None:
    git("init", "--quiet")
    git("commit", "--quiet", "--allow-empty", "--message", "First", "--date", "2026-01-02T03:04:05+00:00")
    git("remote", "add", "origin", "https://me:" + "secret@example.org/team/x.git")
    commit = git("rev-parse", "HEAD")
    carried = {"git_commit": commit, "git_dirty": "true", "model_sha256": DIGEST}
    found = image.labels(TAG, carried)
    assert carried.items() <= found.items()
    oci = {key.rpartition(".")[2]: value for key, value in found.items() if "opencontainers" in key}
    assert oci.pop("created").endswith("+00:00")
    assert oci == {
        "title": "experiment",
        "version": "0a1b2c",
        "revision": f"{commit}-dirty",
        "source": "https://example.org/team/x.git",
    }
    git("remote", "set-url", "origin", "git@example.org:team/x.git")
    assert image.labels(TAG, {})["org.opencontainers.image.source"] == "git@example.org:team/x.git"


def test_it_is_pushed_as_its_version_and_as_the_tags_of_its_commit(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    git("init", "--quiet")
    git("commit", "--quiet", "--allow-empty", "--message", "First")
    git("tag", "v1.0")
    git("tag", "team/v1")
    revision = "org.opencontainers.image.revision"
    told = [{"Id": DIGEST, "Config": {"Labels": {revision: git("rev-parse", "HEAD")}}}]
    # No engine: what it would be told is what matters here. It has that one image, and cannot push v2.
    (workspace / "told.json").write_text(json.dumps(told))
    (workspace / "docker").write_text(
        f'#!/bin/sh\ncase "$*" in "image inspect {TAG}") cat told.json;; tag*) ;; *v2) exit 1;; push*) echo "$@";; '
        "*) exit 1;; esac\n"
    )
    (workspace / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(workspace), prepend=":")
    pushed = [f"example.org/team/experiment:{version}" for version in ("0a1b2c", "team-v1", "v1.0")]
    assert image.push("docker", TAG, "example.org/Team/") == pushed
    assert [line for line in capfd.readouterr().out.splitlines() if line.startswith("push")] == [
        f"push {name}" for name in pushed
    ]
    with pytest.raises(errors.UserError, match="make image"):
        image.push("docker", "experiment:none", "example.org/team")
    git("tag", "v2")
    with pytest.raises(errors.UserError, match="docker push"):
        image.push("docker", TAG, "example.org/team")


def test_without_a_registry_it_says_how_to_name_one() -> None:
    done = subprocess.run(
        [sys.executable, "-m", PACKAGE, "image", "--push", ""], cwd=ROOT, capture_output=True, text=True,
        env={"PYTHONPATH": "src"},
    )  # fmt: skip
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: REGISTRY is empty") and "make push REGISTRY=" in line


def test_the_sbom_names_model_and_packages() -> None:
    classifiers = ["Topic :: Software Development", "License :: OSI Approved", "License :: OSI Approved :: MIT License"]
    packages = [
        ["Some_Package", "1.0+cpu", "MIT", "", *classifiers],
        ["other", "2", "", "all of " + "the text " * 20, *classifiers],
        ["words", "3", "", "BSD", "License :: OSI Approved"],
        ["unknown", "4", "", ""],
    ]
    bill = sbom.document(TAG, {"model_sha256": DIGEST}, packages)
    model, some, *others = bill["components"]
    assert model["hashes"] == [{"alg": "SHA-256", "content": DIGEST}]
    assert some["purl"] == "pkg:pypi/some-package@1.0%2Bcpu" and some["licenses"] == [{"expression": "MIT"}]
    told = [[{"license": {"name": name}}] for name in ("MIT License", "BSD")]
    assert [other["licenses"] for other in others] == [*told, []]
    assert json.dumps(bill) == json.dumps(sbom.document(TAG, {"model_sha256": DIGEST}, packages))


def test_without_what_dvc_lock_records_there_is_no_bento(workspace: Path) -> None:
    with pytest.raises(errors.UserError, match="dvc repro"):
        image.build_bento()
    (workspace / "models").mkdir()
    (workspace / "models/model.onnx").write_bytes(b"another")
    outs = [{"path": "models/model.onnx", "md5": "00"}]
    stage = {"deps": [], "params": {"params.yaml": {}}, "outs": outs}
    (workspace / "dvc.lock").write_text(json.dumps({"stages": {"train": stage}}))
    with pytest.raises(errors.UserError, match=r"models/model.onnx.*dvc checkout"):
        image.build_bento()


def test_an_image_is_found_by_the_digest_that_a_registry_gave_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No engine and no registry: what an engine tells is what matters here.
    labels = {"model_md5": "ff", "org.opencontainers.image.title": "x"}
    told = {"Id": DIGEST, "Config": {"Labels": labels}}
    pushed, own = ["example.org/x@sha256:aa"], ["localhost/x@sha256:bb", "example.org/x@sha256:bb"]
    (tmp_path / "podman").write_text(
        '#!/bin/sh\ncase "$*" in info) ;; images*) echo 0a;; "image inspect 0a") echo "$TOLD";; *) exit 1;; esac\n'
    )
    (tmp_path / "podman").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("TOLD", json.dumps([told | {"RepoDigests": pushed}]))
    assert engines.describe("ff") == [f"x:? sha256:{DIGEST} example.org/x@sha256:aa"]
    assert engines.labels_of("sha256:aa") == labels
    assert engines.labels_of("sha256:bb") is None
    monkeypatch.setenv("TOLD", json.dumps([told | {"RepoDigests": own}]))  # podman's own, not a registry's
    assert engines.describe("ff") == [f"x:? sha256:{DIGEST}"]
