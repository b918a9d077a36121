"""The image that `make image` builds, run by a real container engine as an operations team would: locked down."""

import asyncio
import collections
import json
import shutil
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from certificates import authority
from conftest import ROOT, BakedProject, execute, free_port
from engine import Engine, Image, make_image
from packaging.requirements import Requirement

pytestmark = [pytest.mark.pipeline, pytest.mark.service]

Copy = Callable[[BakedProject], BakedProject]
UNWANTED = ("tensorflow", "keras", "mlflow", "dvc", "hydra", "omegaconf", "pandas", "sklearn", "uv")
INSIDE = """
import importlib.metadata, importlib.util, json, os, shutil, sys
print(json.dumps({
    "packages": sorted((d.name, d.version) for d in importlib.metadata.distributions()),
    "importable": [name for name in sys.argv[1:] if importlib.util.find_spec(name)],
    "programs": [name for name in ("gcc", "cc", "g++", "make", "git", "curl", "uv") if shutil.which(name)],
    "user": [os.getuid(), os.getgid()],
}))
"""


@contextmanager
def running(
    engine: Engine, image: str, *arguments: str, volume: str = "", verify: ssl.SSLContext | None = None
) -> Iterator[tuple[str, int]]:
    """Runs the image locked down until the block ends; gives the container's id and port once it is ready."""
    port = free_port()
    volumes = ["--volume", volume] if volume else []
    command = ["run", "--detach", *engine.locked_down, *volumes, image, "--port", str(port), *arguments]
    container = engine(*command).stdout.strip()
    ready = f"{'https' if verify else 'http'}://127.0.0.1:{port}/readyz"
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                if httpx.get(ready, timeout=5, verify=verify or True).status_code == 200:
                    break
            except httpx.HTTPError:
                state = json.loads(engine("container", "inspect", container).stdout)[0]["State"]["Status"]
                if state == "exited" or time.monotonic() > deadline:
                    pytest.fail(f"{state}: {engine('logs', container).stderr}")
                time.sleep(0.05)  # between two looks at the condition
        yield container, port
    finally:
        engine("rm", "--force", container)


def health_check(engine: Engine, image: Image) -> list[str]:
    """The command that the image is checked with."""
    found = engine.inspect(image.tag)
    kind, *command = (found["Config"].get("Healthcheck") or found["Healthcheck"])["Test"]
    assert kind == "CMD"
    return list(map(str, command))


def test_it_shows_what_it_runs(image: Image) -> None:
    assert "+ bentoml build --output tag --version " in image.output
    assert f"bentoml containerize {image.tag} --backend " in image.output
    assert "Warning" not in image.output


# Dependencies of the serving lock that only build models and Bentos.
REMOVED = {"flatbuffers", "pip-requirements-parser", "protobuf", "rich-toolkit"}


def test_it_holds_the_serving_lock_and_nothing_else(engine: Engine, image: Image) -> None:
    command = ["run", "--rm", *engine.locked_down, "--entrypoint=python", image.tag, "-c", INSIDE, *UNWANTED]
    inside = json.loads(engine(*command).stdout)
    lines = (line.rstrip(" \\") for line in image.project.read("requirements/serve-images.lock").splitlines())
    locked = [Requirement(line) for line in lines if line and line[0] not in "# "]
    expected = {
        requirement.name.replace("_", "-"): str(requirement.specifier).removeprefix("==")
        for requirement in locked
        if requirement.marker is None or requirement.marker.evaluate()
    }
    assert expected.keys() > REMOVED
    found = {name.lower().replace("_", "-"): version for name, version in inside["packages"]}
    assert found == {name: version for name, version in expected.items() if name not in REMOVED}
    assert inside["importable"] == [] and inside["programs"] == []
    assert inside["user"] == [10001, 10001]


def test_it_is_small(engine: Engine, image: Image) -> None:
    assert engine.inspect(image.tag)["Size"] <= 350e6


def test_labels(engine: Engine, image: Image) -> None:
    found = engine.inspect(image.tag)["Config"]["Labels"]
    model = json.loads(image.project.read("models/model.json"))["sha256"]
    commit = image.project.run("git", "rev-parse", "HEAD").stdout.strip()
    committed = image.project.run("git", "show", "-s", "--format=%ct", "HEAD").stdout.strip()
    oci = {key.rpartition(".")[2]: value for key, value in found.items() if key.startswith("org.opencontainers.image.")}
    created = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(int(committed)))
    name, _, version = image.tag.partition(":")
    source = "https://git.example.org/team/experiment.git"
    assert oci == {"title": name, "version": version, "revision": commit, "created": created, "source": source}
    assert commit.startswith(version)
    assert found["model_sha256"] == model and len(found["mlflow_run"]) == 32 and found["git_dirty"] == "false"


def test_sbom(image: Image) -> None:
    bill = json.loads(image.project.read("build/sbom.cdx.json"))
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    found = {component["name"]: component for component in bill["components"] if component["type"] == "library"}
    assert {"bentoml", "numpy", "onnxruntime", "pip"} <= set(found)  # pip is the base image's
    assert found["onnxruntime"]["purl"] == f"pkg:pypi/onnxruntime@{found['onnxruntime']['version']}"
    (model,) = (component for component in bill["components"] if component["type"] == "machine-learning-model")
    assert model["hashes"][0]["content"] == json.loads(image.project.read("models/model.json"))["sha256"]


def test_provenance(engine: Engine, image: Image) -> None:
    told = json.loads(image.project.read("build/provenance.json"))
    assert told["subject"] == [{"name": image.tag, "digest": {"sha256": image.id.removeprefix("sha256:")}}]
    materials = {each["name"]: each for each in told["predicate"]["buildDefinition"]["resolvedDependencies"]}
    assert materials["commit"]["digest"]["gitCommit"].startswith(image.tag.partition(":")[2])
    lock = execute("sha256sum", "requirements/serve-images.lock", cwd=image.project.path).stdout.split()[0]
    assert materials["requirements/serve-images.lock"]["digest"] == {"sha256": lock}
    base = engine.inspect(materials["base"]["uri"])
    known = {base["Id"], *(digest.rpartition("@")[2] for digest in base.get("RepoDigests") or [])}
    assert materials["base"]["digest"]["sha256"] in {digest.removeprefix("sha256:") for digest in known}
    assert {"models/model.onnx", "model", "run", "dvc.lock"} <= set(materials)


def test_no_secret_is_in_bento_and_image(image: Image) -> None:
    told = image.project.run("make", "--silent", "scan", f"BENTO={image.tag}", env=image.env).stdout
    assert told == f"{image.tag}: no secret in the Bento and its image\n"


def test_a_secret_that_a_later_layer_deletes_is_found(engine: Engine, image: Image, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("aws_access_key_id = AKIA" + "Z7QX3M5PB2KD9R4T\n")
    remove = '["python", "-c", "import os; os.remove(\'/token\')"]'
    (tmp_path / "Dockerfile").write_text(f"FROM {image.tag}\nUSER 0\nCOPY token /token\nRUN {remove}\n")
    engine("build", "--tag", "planted:1", tmp_path)
    look = "import sys; from my_experiment.harness.packaging import secret_scan as s; print(*s.in_image(*sys.argv[1:]))"
    command = ["python", "-c", look, engine.program, "planted:1", image.tag]
    told = image.project.run(*command, env={**image.env, "PYTHONPATH": "src"}).stdout
    assert told.strip().endswith("/token:1: AWS Access Key") and told.count(":1:") == 1


def test_locked_down_it_answers_and_is_healthy(engine: Engine, image: Image) -> None:
    images = np.load(image.project.path / "data/prepared/test/images.npy")[:20]
    with running(engine, image.tag) as (container, port):
        answer = httpx.post(f"http://127.0.0.1:{port}/predict", json={"instances": images.tolist()})
        assert answer.status_code == 200 and len(answer.json()["predictions"]) == 20
        check = health_check(engine, image)
        engine("exec", container, *check)
        elsewhere = [word.replace("health.sock", "nothing.sock") for word in check]
        assert engine("exec", container, *elsewhere, check=False).returncode == 1  # nothing listens there
        if socket.has_dualstack_ipv6():
            assert httpx.get(f"http://[::1]:{port}/readyz").status_code == 200
        assert engine("exec", container, "touch", "/app/bento/x", check=False).returncode != 0
        log = engine("logs", container)
        assert "arning" not in log.stdout + log.stderr and "Traceback" not in log.stdout + log.stderr


def test_with_mutual_tls_it_is_healthy_too(engine: Engine, image: Image, tmp_path: Path) -> None:
    ours = authority(tmp_path, "ours")
    known = ssl.create_default_context(cafile=ours.file)
    known.load_cert_chain(*ours.issue("client"))
    for file in ours.issue("server"):
        file.chmod(0o644)  # the container's user is another one
    tmp_path.chmod(0o755)
    files = {"--ssl-certfile": "server.pem", "--ssl-keyfile": "server.key", "--ssl-ca-certs": "ours.pem"}
    arguments = [word for option, name in files.items() for word in (option, f"/certificates/{name}")]
    volume = f"{tmp_path}:/certificates:ro"
    with running(engine, image.tag, *arguments, volume=volume, verify=known) as (container, port):
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{port}/readyz")
        engine("exec", container, *health_check(engine, image))


async def ask(port: int, keep: bool, outcomes: collections.Counter[str]) -> None:
    """Sends one request after another until nothing listens any more; counts what became of each."""
    body = json.dumps({"instances": [[[[0.0]] * 8] * 8] * 64}).encode()
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    request = (head + ("" if keep else "Connection: close\r\n") + "\r\n").encode() + body
    writer = None
    while True:
        if writer is None:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                return
        try:
            writer.write(request)
            await writer.drain()
            answer = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(int(answer.partition(b"content-length: ")[2].split()[0]))
            outcomes[answer.split()[1].decode()] += 1
            closed = b"connection: close" in answer
        except (OSError, asyncio.IncompleteReadError) as error:
            outcomes[type(error).__name__] += 1
            closed = True
        if closed:
            writer.close()
            writer = None


def test_sigterm_drops_no_request(engine: Engine, image: Image) -> None:
    async def load(container: str, port: int) -> collections.Counter[str]:
        outcomes: collections.Counter[str] = collections.Counter()
        clients = [asyncio.create_task(ask(port, keep, outcomes)) for keep in [True, False] * 16]
        while outcomes["200"] < 50:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(engine, "kill", "--signal=TERM", container)
        await asyncio.gather(*clients)
        return outcomes

    with running(engine, image.tag) as (container, port):
        outcomes = asyncio.run(load(container, port))
        assert set(outcomes) == {"200"}, outcomes
        assert engine("wait", container).stdout.strip() == "0"


def test_an_exchanged_model_does_not_serve(engine: Engine, image: Image, tmp_path: Path) -> None:
    model = json.loads(image.project.read("models/model.json"))
    unknown = b"\x9a\x06\x00"  # an empty field of a number that ONNX does not have: still a model
    (tmp_path / "model.onnx").write_bytes((image.project.path / "models/model.onnx").read_bytes() + unknown)
    digest = execute("sha256sum", tmp_path / "model.onnx", cwd=tmp_path).stdout.split()[0]
    (tmp_path / "model.json").write_text(json.dumps(model | {"sha256": digest}))
    tmp_path.chmod(0o755)
    exchanged = ["--volume", f"{tmp_path}:/app/bento/src/models:ro"]
    done = engine("run", "--rm", *engine.locked_down, *exchanged, image.tag, "--port", str(free_port()), check=False)
    assert done.returncode == 1
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert "is not the model of this Bento" in line and digest[:12] in line and model["sha256"][:12] in line
    assert "Traceback" not in done.stderr


def test_lineage_finds_the_image_and_goes_on_from_it(engine: Engine, image: Image) -> None:
    env = {**image.env, "PYTHONPATH": "src"}
    package = image.tag.partition(":")[0]
    told = image.project.run("python", "-m", package, "lineage", env=env).stdout
    assert f"image      {image.tag} {image.id}" in told
    assert image.project.run("python", "-m", package, "lineage", image.id, env=env).stdout == told


def test_the_same_commit_gives_the_same_layers(engine: Engine, image: Image, copy: Copy, tmp_path: Path) -> None:
    elsewhere = copy(image.project)
    shutil.rmtree(elsewhere.path / "build")
    layers = engine.inspect(image.id)["RootFS"]["Layers"]
    again = make_image(elsewhere, engine, tmp_path)
    assert "+ bentoml build" in again.output
    assert again.tag == image.tag
    assert engine.inspect(again.id)["RootFS"]["Layers"] == layers
    sbom = "build/sbom.cdx.json"
    assert elsewhere.read(sbom) == image.project.read(sbom)


def test_checkov(default_project: BakedProject, tmp_path: Path) -> None:
    """In an environment of its own, from uv's cache after the first time: it does not fit beside the other tools."""
    environment, lock = tmp_path / "checkov", ROOT / "requirements/checkov.lock"
    execute("uv", "venv", "--quiet", "--python", sys.executable, environment, cwd=ROOT)
    execute("uv", "pip", "install", "--quiet", "--python", environment, "--require-hashes", "-r", lock, cwd=ROOT)
    kinds = ("dockerfile", "github_actions")
    options = ["--skip-download", "--quiet", "--compact", "--skip-path", ".venv", "--directory", "."]
    told = default_project.run(
        environment / "bin/checkov", *options, "--output", "json", "--framework", *kinds, check=False
    ).stdout
    found = {one["check_type"]: one["summary"] for one in json.loads(told)}
    assert set(found) == set(kinds)
    assert all(one["passed"] > 20 and one["failed"] == one["skipped"] == 0 for one in found.values()), told


@pytest.mark.parametrize(
    ("audit", "status", "last"),
    [
        ("echo No known vulnerabilities found >&2", 0, "No known vulnerabilities found"),
        ("echo Found 1 known vulnerability in 1 package >&2; false", 2, "Found 1 known vulnerability in 1 package"),
        ("echo requests.exceptions.ConnectionError: x >&2; false", 2, "error: not audited, no advisory source"),
    ],
)
def test_an_audit_that_was_none_says_so(
    default_project: BakedProject, copy: Copy, audit: str, status: int, last: str
) -> None:
    # The command in place of pip-audit, whose answer depends on the day and on the network.
    done = copy(default_project).run("make", "audit", f"AUDIT={audit}", check=False)
    told = [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith("make: ")]
    assert done.returncode == status
    assert len(told) == 2 and told[1].startswith(last)


def test_hadolint(default_project: BakedProject) -> None:
    told = default_project.run("hadolint", "--no-color", "Dockerfile", check=False)
    assert told.returncode == 0, told.stdout
