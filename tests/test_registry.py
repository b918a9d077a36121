"""The model registry of a generated project, in SQLite and behind a real `mlflow server` on PostgreSQL."""

import hashlib
import json
import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from certificates import authority
from clusters import wait_until
from conftest import VENV, BakedProject, free_port, package_python, wait_until_ready
from debian import apt_install
from processes import running

pytestmark = pytest.mark.pipeline

Copy = Callable[[BakedProject], BakedProject]
REGISTRY = (sys.executable, "-m", "my_experiment", "registry")
ENV = {"PYTHONPATH": "src"}
CALIBRATION = "gates.calibration=0.2"  # three epochs make no calibrated probabilities


def postgres_programs() -> Path:
    """Gives the folder of PostgreSQL's programs; installs Debian's where they are missing."""
    if on_path := shutil.which("initdb"):
        return Path(on_path).resolve().parent  # a link to one of them stands for all
    if not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        apt_install("postgresql")
    return max(Path("/usr/lib/postgresql").glob("*/bin/initdb")).parent


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Gives the address of an MLflow server whose store is PostgreSQL, reached by TLS."""
    pytest.importorskip("psycopg2")
    programs = postgres_programs()
    folder = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp"))  # a socket's path has 107 characters at most
    # PostgreSQL refuses to run as root.
    as_user: dict[str, Any] = {}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        as_user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    database, port, listening = folder / "data", free_port(), free_port()

    def run(program: str, *options: str | Path) -> None:
        with (folder / "log").open("a") as log:
            done = subprocess.run(
                [programs / program, *options], cwd=folder, stdout=log, stderr=log, check=False, **as_user
            )
        assert done.returncode == 0, (folder / "log").read_text()

    run("initdb", "--pgdata", database, "--auth=trust", "--username=mlflow", "--no-sync")
    issuer = authority(folder, "team")
    certificate, key = issuer.issue("database")
    key.chmod(0o600)
    if as_user:
        os.chown(key, as_user["user"], as_user["group"])
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
    options += f" -c ssl=on -c ssl_cert_file={certificate} -c ssl_key_file={key}"
    verified = f"sslmode=verify-full&sslrootcert={issuer.file}"  # as docs/encryption.md says
    run("pg_ctl", "start", "--pgdata", database, "--wait", "--options", options)
    try:
        run("createdb", "--host=127.0.0.1", f"--port={port}", "--username=mlflow", "mlflow")
        with running(
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(listening),
            "--workers", "1", "--backend-store-uri", f"postgresql+psycopg2://mlflow@127.0.0.1:{port}/mlflow?{verified}",
            "--artifacts-destination", folder / "artifacts",
            cwd=folder, env={**os.environ, "PATH": f"{VENV / 'bin'}:{os.environ['PATH']}", "HOME": str(folder)},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        ) as mlflow:  # fmt: skip
            wait_until_ready(f"http://127.0.0.1:{listening}/health", mlflow)
            yield f"http://127.0.0.1:{listening}"
    finally:
        run("pg_ctl", "stop", "--pgdata", database, "--mode=immediate")
        shutil.rmtree(folder)


def race(project: BakedProject, uri: str, *names: str) -> list[tuple[int, str, str]]:
    """Promotes versions in processes that all have judged before the first of them may write.

    Returns:
        Exit status, standard output and standard error of each.
    """
    from mlflow import MlflowClient

    store = MlflowClient(uri, uri)
    store.create_registered_model("my_experiment.lock", {"token": "test", "holder": "test", "since": "now"})
    outputs = [project.path / f"build/promote-{name}.txt" for name in names]
    outputs[0].parent.mkdir(exist_ok=True)
    env = {**os.environ, **ENV, "MLFLOW_TRACKING_URI": uri}
    with ExitStack() as stack:
        processes = []
        for name, output in zip(names, outputs, strict=True):
            stdout, stderr = (stack.enter_context(file.open("w")) for file in (output, output.with_suffix(".err")))
            command = [*REGISTRY, "promote", name, CALIBRATION]
            promoting = running(*command, cwd=project.path, env=env, stdout=stdout, stderr=stderr)
            processes.append(stack.enter_context(promoting))
        wait_until(lambda: all("size" in output.read_text() for output in outputs), "all have judged", 120)
        assert not store.get_registered_model("my_experiment").aliases.get("champion")
        store.delete_registered_model("my_experiment.lock")
        codes = [process.wait(120) for process in processes]
    texts = [(output.read_text(), output.with_suffix(".err").read_text()) for output in outputs]
    return [(code, *text) for code, text in zip(codes, texts, strict=True)]


@pytest.fixture(scope="module")
def project(quick_project: BakedProject, copy: Copy) -> BakedProject:
    """A project whose version 1 is its commit's model, and whose workspace holds an experiment's, better trained."""
    project = copy(quick_project)
    code = """
import os
from my_experiment.harness.release import registry
from my_experiment.harness.tracking import log
log.log()
print(registry.register())
os.environ["MODEL_SIGNING_KEY"] = "../signing.pem"
print(registry.register())
"""
    for name in ("signing", "other"):
        key = project.path.parent / f"{name}.pem"
        project.run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
        project.run("openssl", "ec", "-in", key, "-pubout", "-out", key.with_name(f"{name}.pub"))
    first, second = package_python(project, code).splitlines()[-2:]
    assert first == "my_experiment/1, alias challenger"
    assert second == "my_experiment/1 was registered before, alias challenger"
    project.run("dvc", "exp", "run", "--name", "longer", "-S", "train.epochs=12")
    return project


def test_an_experiment_is_registered_and_wins_the_race(project: BakedProject) -> None:
    done = project.run("make", "register")
    assert done.stdout.splitlines()[-1] == "my_experiment/2, alias challenger"
    (one, two) = race(project, f"sqlite:///{project.path}/mlflow.db", "1", "2")
    assert two[0] == 0, two
    assert "Traceback" not in one[2] + two[2]
    # Either was first; the other was compared with it. The better one ends as champion whichever way.
    if one[0] == 0:
        assert "my_experiment/1 has become champion meanwhile: comparing again" in two[2]
        assert two[1].endswith("my_experiment/2 is champion instead of my_experiment/1\n")
    else:
        assert two[1].endswith("my_experiment/2 is champion\n")
        assert "my_experiment/2 has become champion meanwhile: comparing again" in one[2]
        assert "error: my_experiment/1 does not pass: " in one[2]


def test_a_worse_one_is_refused_and_a_rollback_restores(project: BakedProject) -> None:
    strict = ("+gates.absolute.accuracy.min=0.999", "gates.size_mb=0.001")
    refused = project.run(*REGISTRY, "promote", "1", *strict, check=False, env=ENV)
    assert refused.returncode == 1
    failed = re.findall(r"^FAILED  (.+?)  ", refused.stdout, re.M)
    assert {"accuracy", "accuracy and champion", "size"} <= set(failed)
    assert re.search(r"^passed  latency +[\d.]+ ms +at most 100 ms$", refused.stdout, re.M)
    assert re.search(
        r"^FAILED  accuracy and champion +worse by [\d.]+ \(interval -[\d.]+ to -?[\d.]+\) ", refused.stdout, re.M
    )
    message = f"error: my_experiment/1 does not pass: {', '.join(failed)}; no alias was moved"
    assert refused.stderr.splitlines()[-1] == message
    code = """
import json
from my_experiment.harness import lineage
from my_experiment.harness.release import judge, registry, versions
from my_experiment.harness.tracking import store
client = store.client()
steps = [versions.aliases(client)]
gates = judge.read_gates(["gates.champion=null", "gates.slices=null", "gates.calibration=null"])
registry.promote("1", gates)
steps.append(versions.aliases(client))
registry.rollback()
steps.append(versions.aliases(client))
version = versions.version(client, "champion")
names = [None, "longer", "my_experiment/2", "models:/my_experiment@champion", version.run_id]
print(json.dumps({
    "steps": steps, "tags": version.tags, "card": version.description,
    "chains": [lineage.chain(name) for name in names],
}))
"""
    result = json.loads(package_python(project, code).splitlines()[-1])
    assert [step["champion"] for step in result["steps"]] == ["2", "1", "2"]
    commit = project.run("git", "for-each-ref", "--format=%(objectname)", "refs/exps/*/*/longer").stdout.strip()
    assert commit != project.run("git", "rev-parse", "HEAD").stdout.strip()
    digest = hashlib.sha256((project.path / "models/model.onnx").read_bytes()).hexdigest()
    tags = result["tags"]
    assert (tags["git_commit"], tags["model_sha256"]) == (commit, digest)
    assert tags["data_md5"] in project.read("dvc.lock")
    assert float(tags["test_accuracy"]) == json.loads(project.read("reports/metrics.json"))["accuracy"]
    assert result["card"].startswith("# Model card")
    # From the workspace, the experiment, the version and the run the same, with the experiment's own commit.
    assert all(chain == result["chains"][0] for chain in result["chains"])
    chain = dict(result["chains"][0])
    assert chain["commit"] == commit
    assert chain["version"] == "my_experiment/2 (champion)"


def test_the_bento_is_what_the_registry_says(project: BakedProject, tmp_path: Path) -> None:
    ours = (project.path / "models/model.onnx").read_bytes()
    (project.path / "src/my_experiment/service.py").write_text("this is no Python")
    env = {**ENV, "BENTOML_HOME": str(tmp_path), "MODEL_VERIFY_KEY": str(project.path.parent / "signing.pub")}
    command = (sys.executable, "-m", "my_experiment", "bento", "--from", "1")
    forged = {**env, "MODEL_VERIFY_KEY": str(project.path.parent / "other.pub")}
    refused = project.run(*command, env=forged, check=False)
    assert refused.returncode == 1 and not list(tmp_path.glob("bentos/my_experiment/*/bento.yaml"))
    assert re.search(
        r"^error: my_experiment/1: its signature does not hold for .*other\.pub: .*$", refused.stderr, re.M
    )
    # The registry follows a project that is moved, into a folder whose name has a meaning in addresses.
    moved = BakedProject(project.path.rename(project.path.with_name("a%2Fb ü?#")))
    signing = {**env, "MODEL_SIGNING_KEY": str(project.path.parent / "signing.pem")}
    built = moved.run(*command, env=signing).stdout
    keys = {"signing.pem", "signing.pub", "other.pem", "other.pub"}
    assert {path.name for path in moved.path.parent.iterdir()} == {moved.path.name, *keys}
    moved.path.rename(project.path)
    commit = project.run("git", "rev-parse", "HEAD").stdout.strip()
    assert project.run(*command, env=env).stdout == f"my_experiment:1-{commit[:12]} is built already\n"
    assert "does not hold" in project.run(*command, env=forged, check=False).stderr
    assert built == f"Built my_experiment:1-{commit[:12]}\n"
    project.run("git", "checkout", "src")
    (bento,) = (tmp_path / "bentos/my_experiment").glob("*/bento.yaml")
    verify = (*command[:-2], "--verify", f"my_experiment:1-{commit[:12]}")
    assert project.run(*verify, env=env).stdout == f"{verify[-1]}: the signature holds\n"
    (bento.parent / "src/sitecustomize.py").touch()
    refused = project.run(*verify, env=env, check=False)
    assert refused.returncode == 1 and "does not hold" in refused.stderr and "sitecustomize.py" in refused.stderr
    packed = (bento.parent / "src/models/model.onnx").read_bytes()
    assert all((bento.parent / "src/models" / name).is_file() for name in ("page.json", "decision.json"))
    assert packed != ours
    assert (
        hashlib.sha256(packed).hexdigest() == json.loads((bento.parent / "src/models/model.json").read_text())["sha256"]
    )
    text = bento.read_text()
    for label in (
        "registered_model: my_experiment/1",
        f"git_commit: {commit}",
        "git_dirty: 'false'",
        "test_accuracy: ",
    ):
        assert f"  {label}" in text
    # The workspace is as it was, and nothing is left behind.
    assert (project.path / "models/model.onnx").read_bytes() == ours
    assert len(project.run("git", "worktree", "list").stdout.splitlines()) == 1
    assert set(project.git_status().split()) == {"M", "dvc.lock", "machine.json", "params.yaml"}


def test_two_race_on_a_server_with_postgresql(project: BakedProject, server: str) -> None:
    code = f"""
import os
os.environ["MLFLOW_TRACKING_URI"] = {server!r}
from my_experiment.harness.release import registry, versions
from my_experiment.harness.tracking import log, store
log.log()
print(registry.register())
client = store.client()
first = versions.version(client, "1")
# Another version that passes every gate, without another training.
copy = client.create_model_version("my_experiment", first.source, first.run_id,
    {{**first.tags, "training_key": "another"}}, model_id=first.source.removeprefix("models:/"))
print(copy.version)
"""
    assert package_python(project, code).splitlines()[-2:] == ["my_experiment/1, alias challenger", "2"]
    results = race(project, server, "1", "2")
    assert [result[0] for result in results] == [0, 0], results
    late = next(index for index, result in enumerate(results) if "instead of" in result[1])
    winner, before = ("1", "2") if late == 0 else ("2", "1")
    assert results[late][1].endswith(f"my_experiment/{winner} is champion instead of my_experiment/{before}\n")
    assert results[1 - late][1].endswith(f"my_experiment/{before} is champion\n")
    assert f"my_experiment/{before} has become champion meanwhile" in results[late][2]
    env = {**ENV, "MLFLOW_TRACKING_URI": server}
    rolled = project.run(*REGISTRY, "rollback", env=env).stdout
    assert rolled == f"my_experiment/{before} is champion again instead of my_experiment/{winner}\n"
