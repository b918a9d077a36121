"""The provenance of an image: what it says, and what is refused. The signatures are real."""

import base64
import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from locks import git, record, training
from my_experiment.harness.core.errors import UserError
from my_experiment.harness.packaging import engines, provenance
from my_experiment.harness.release import signing

TAG, IMAGE, BASE = "experiment:0a1b2c", "ab" * 32, "cd" * 32
# By the library of in-toto, which knows the format, and no field beside it.
STRICT = """
import json, sys
from google.protobuf.json_format import ParseDict
from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.statement_pb2 import Statement as Message
content = json.load(sys.stdin)
predicate = ParseDict(content["predicate"], Provenance())
Statement.copy_from_pb(ParseDict(content, Message())).validate()
for one in predicate.build_definition.resolved_dependencies:
    ResourceDescriptor.copy_from_pb(one).validate()
print(len(predicate.build_definition.resolved_dependencies), predicate.run_details.builder.id)
"""


@pytest.fixture
def made(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> provenance.Statement:
    """The provenance of an image of a committed training.

    No engine builds it: what one tells is what matters here. It has the base image alone.
    """
    for name in (*provenance.BUILDERS, *provenance.BUILDS, "GITHUB_RUN_ID", signing.SIGNING, signing.VERIFYING):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GITHUB_WORKFLOW_REF", "someone/x/.github/workflows/ci.yml@refs/tags/v1")
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://git.example.org")
    git("init", "--quiet")
    trained = training(record())
    git("add", "--all")
    git("commit", "--quiet", "--message", "First")
    for file, text in {
        "bento/src/requirements/serve.lock": "x==1",
        "bento/env/docker/Dockerfile.template": "ARG TAG=3.11-slim\nFROM docker.io/library/python:${TAG}\n",
        "build/sbom.cdx.json": "{}",
        "docker": '#!/bin/sh\ncase "$*" in "image inspect docker.io/library/python:3.11-slim") echo "$TOLD";; '
        "--version) echo Docker version 29.1.2, build 1;; *) exit 1;; esac\n",
    }.items():
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_text(text)
    Path("docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(workspace), prepend=":")
    monkeypatch.setenv("TOLD", json.dumps([{"Id": f"sha256:{BASE}", "Config": {"Labels": None}}]))
    labels = {
        "git_commit": git("rev-parse", "HEAD"),
        "git_dirty": "false",
        "dvc_lock": hashlib.sha256(Path("dvc.lock").read_bytes()).hexdigest(),
        "training_key": trained.key,
        "mlflow_run": "1f" * 16,
        "model_sha256": "33" * 32,
        "registered_model": "experiment/3",
        "org.opencontainers.image.source": "https://git.example.org/team/x.git",
    }
    image = engines.StoredImage(f"sha256:{IMAGE}", labels, [])
    return provenance.statement("docker", TAG, image, Path("bento"), Path("build/sbom.cdx.json"))


@pytest.fixture
def keys(made: provenance.Statement, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two pairs of keys, the first of which signs and verifies."""
    for name in ("ours", "other"):
        create = ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{name}.pem"]
        subprocess.run(create, check=True)
        subprocess.run(["openssl", "ec", "-in", f"{name}.pem", "-pubout", "-out", f"{name}.pub"], check=True)
    monkeypatch.setenv(signing.SIGNING, "ours.pem")
    monkeypatch.setenv(signing.VERIFYING, "ours.pub")


def failed(*words: str) -> list[str]:
    """What does not hold."""
    done = CliRunner().invoke(provenance.command, ["verify", *words])
    assert isinstance(done.exception, UserError), done.output
    return done.stdout.splitlines()


def test_it_names_whatever_went_into_the_image(made: provenance.Statement) -> None:
    assert made["subject"] == [{"name": TAG, "digest": {"sha256": IMAGE}}]
    definition, run = made["predicate"]["buildDefinition"], made["predicate"]["runDetails"]
    materials: dict[str, Any] = {each["name"]: each for each in definition["resolvedDependencies"]}
    commit = git("rev-parse", "HEAD")
    assert materials["commit"]["digest"] == {"gitCommit": commit}
    assert materials["commit"]["uri"] == f"git+https://git.example.org/team/x.git@{commit}"
    digest = hashlib.sha256(Path("dvc.lock").read_bytes()).hexdigest()
    assert materials["dvc.lock"]["digest"] == {"sha256": digest}
    assert materials["data/raw/"]["digest"] == {"md5": "aa"} and materials["src/x/training.py"]["digest"]["md5"] == "dd"
    decision = hashlib.md5(Path("models/decision.json").read_bytes()).hexdigest()
    assert materials["models/decision.json"]["digest"] == {"md5": decision}
    assert materials["run"]["uri"] == f"runs:/{'1f' * 16}" and materials["version"]["uri"] == "models:/experiment/3"
    lock = hashlib.sha256(b"x==1").hexdigest()
    assert materials["requirements/serve.lock"]["digest"] == {"sha256": lock}
    assert materials["base"]["digest"] == {"sha256": BASE} and materials["base"]["annotations"] == {"digest": "id"}
    assert run["builder"]["id"] == "https://git.example.org/someone/x/.github/workflows/ci.yml@refs/tags/v1"
    assert run["builder"]["version"]["docker"] == "29.1.2"


def test_the_library_of_in_toto_reads_it(made: provenance.Statement) -> None:
    for each in made["predicate"]["buildDefinition"]["resolvedDependencies"]:
        if "md5" in each.get("digest", {}):  # the fixture's are too short for one
            each["digest"]["md5"] = each["digest"]["md5"].ljust(32, "0")
    command = [*signing.ENVIRONMENT, "python", "-I", "-c", STRICT]
    told = subprocess.run(command, input=json.dumps(made), capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    count = len(made["predicate"]["buildDefinition"]["resolvedDependencies"])
    assert told.stdout.split() == [str(count), made["predicate"]["runDetails"]["builder"]["id"]]


@pytest.mark.usefixtures("keys")
def test_it_holds_for_its_key_and_its_image_alone(made: provenance.Statement, monkeypatch: pytest.MonkeyPatch) -> None:
    assert provenance.write(made)
    done = CliRunner().invoke(provenance.command, ["verify", "--image", f"example.org/x@sha256:{IMAGE}"])
    assert done.exit_code == 0 and done.stdout.startswith("build/provenance.json holds for example.org/x@sha256")
    told = failed("--image", f"sha256:{BASE}")
    assert told == [f"build/provenance.json is of another image than sha256:{BASE}: of {TAG}"]
    file = Path("build/provenance.json")
    envelope = json.loads(file.read_text())
    changed = base64.b64decode(envelope["payload"]).replace(b"experiment/3", b"experiment/4")
    Path("changed.json").write_text(json.dumps(envelope | {"payload": base64.b64encode(changed).decode()}))
    refused = "its signature does not hold for ours.pub: it has another key, or was changed"
    assert failed("changed.json") == [f"changed.json: {refused}"]
    Path("empty.json").write_text(json.dumps(envelope | {"signatures": []}))
    assert failed("empty.json") == [f"empty.json: {refused}"]
    Path("torn.json").write_text('{"payload": 1}')
    assert failed("torn.json") == ["torn.json: its signature does not hold for ours.pub: it is no signed statement"]
    Path("plain.json").write_text(json.dumps(made))
    assert failed("plain.json") == ["plain.json is not signed"]
    monkeypatch.setenv(signing.VERIFYING, "other.pub")
    assert failed() == [f"{file}: {refused.replace('ours', 'other')}"]


@pytest.mark.usefixtures("keys")
def test_a_push_adds_digests_if_nobody_has_changed_it(
    made: provenance.Statement, monkeypatch: pytest.MonkeyPatch
) -> None:
    provenance.write(made)
    pushed = {"example.org/x:1": f"sha256:{BASE}"}
    assert not provenance.add_names("sha256:" + "00" * 32, pushed)  # the statement is of another image
    assert provenance.add_names(f"sha256:{IMAGE}", pushed)
    assert CliRunner().invoke(provenance.command, ["verify", "--image", f"sha256:{BASE}"]).exit_code == 0
    monkeypatch.setenv(signing.SIGNING, "other.pem")
    with pytest.raises(UserError, match=r"^build/provenance\.json: its signature does not hold for other\.pem: "):
        provenance.add_names(f"sha256:{IMAGE}", pushed)
    monkeypatch.delenv(signing.SIGNING)
    assert not provenance.add_names(f"sha256:{IMAGE}", pushed)  # it would no longer be signed
    provenance.write(made)
    assert provenance.add_names(f"sha256:{IMAGE}", pushed)
    assert [each["name"] for each in json.loads(provenance.PROVENANCE.read_text())["subject"]] == [TAG, *pushed]


def test_mistakes_are_one_line(made: provenance.Statement, monkeypatch: pytest.MonkeyPatch) -> None:
    def mistake(*words: str) -> str:
        error = CliRunner().invoke(provenance.command, ["verify", *words]).exception
        assert isinstance(error, UserError) and "\n" not in str(error)
        return str(error)

    assert mistake() == "MODEL_VERIFY_KEY is not set: it names the PEM file of the public key"
    monkeypatch.setenv(signing.VERIFYING, "dvc.lock")
    assert mistake() == "build/provenance.json: No such file or directory"
    Path("text.json").write_text("text")
    assert mistake("text.json") == "text.json: it is no JSON"
    monkeypatch.setenv(signing.SIGNING, "dvc.lock")
    with pytest.raises(UserError, match=r"^dvc\.lock: .+"):
        provenance.write(made)
