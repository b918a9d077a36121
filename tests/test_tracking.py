"""MLflow and lineage of a generated project, against real stores: SQLite files and an MLflow server."""

import json
import re
import subprocess
import sys
from collections.abc import Callable

import pytest
from certificates import authority
from conftest import BakedProject, execute, free_port, package_python, wait_until_ready
from processes import running

pytestmark = pytest.mark.pipeline

Copy = Callable[[BakedProject], BakedProject]
ENV = {"PYTHONPATH": "src"}


def runs(project: BakedProject) -> int:
    """Gives the number of runs in the project's store."""
    code = (
        "from my_experiment.harness.tracking import store; c = store.client();"
        "print(len(c.search_runs([store.experiment(c)])))"
    )
    return int(package_python(project, code).splitlines()[-1])


def test_the_run_holds_what_was_done(reproduced_project: BakedProject) -> None:
    code = """
import json
from my_experiment.harness.tracking import lockfile, runs, store
client = store.client()
run = runs.find(training_key=lockfile.training(lockfile.read_lock()).key)
history = {name: len(client.get_metric_history(run.info.run_id, name)) for name in ("loss", "val_accuracy")}
files = [f.path for f in client.list_artifacts(run.info.run_id, "reports/plots")]
print(json.dumps({"params": run.data.params, "metrics": run.data.metrics, "tags": run.data.tags, "history": history,
                  "files": files, "status": run.info.status}))
"""
    run = json.loads(package_python(reproduced_project, code).splitlines()[-1])
    epochs = len(reproduced_project.read("reports/history.csv").splitlines()) - 1
    assert run["status"] == "FINISHED"
    assert run["params"]["train.learning_rate"] == "0.001"
    assert run["history"] == {"loss": epochs, "val_accuracy": epochs}
    metrics = json.loads(reproduced_project.read("reports/metrics.json"))
    assert run["metrics"]["test_accuracy"] == metrics["accuracy"]
    intervals = json.loads(reproduced_project.read("reports/intervals.json"))
    assert run["metrics"]["test_accuracy_low"] == intervals["accuracy"][0]
    assert "reports/plots/mistakes.png" in run["files"]
    assert run["tags"]["data_md5"] in reproduced_project.read("dvc.lock")
    assert run["tags"]["git_dirty"] == "false"


def test_the_logged_model_predicts_what_the_pipeline_predicts(reproduced_project: BakedProject) -> None:
    code = """
import mlflow, numpy as np
from pathlib import Path
from my_experiment.harness.exported.inference import predict
from my_experiment.harness.prepared import images as pictures
from my_experiment.harness.tracking import lockfile, runs
run = runs.find(training_key=lockfile.training(lockfile.read_lock()).key)
images = pictures.load("test")
loaded = mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/model")
assert loaded.metadata.signature.inputs.input_names() == ["image"]
assert loaded.metadata.saved_input_example_info
served = loaded.predict({"image": np.asarray(images, np.float32)})["probabilities"]
print(float(np.abs(served - predict(Path("models/model.onnx"), pictures.feeds("test"))).max()))
"""
    assert float(package_python(reproduced_project, code).splitlines()[-1]) < 1e-6


def test_neither_repetition_nor_a_cache_hit_makes_a_second_run(reproduced_project: BakedProject, copy: Copy) -> None:
    project = copy(reproduced_project)
    (project.path / "mlflow.db").unlink()
    project.run("dvc", "config", "--local", "cache.type", "symlink")
    project.run("dvc", "checkout", "--relink")
    for _ in range(2):
        project.run(sys.executable, "-m", "my_experiment", "log", env=ENV)
    project.run("dvc", "config", "--local", "--unset", "cache.type")
    assert not [path for path in (project.path / "mlartifacts").rglob("*") if path.is_symlink()]
    project.run("dvc", "repro", "--force", "--single-item", "evaluate")
    assert runs(project) == 1
    # From DVC's run cache: nothing is executed, and the way to the run is still found.
    (project.path / "dvc.lock").unlink()
    done = project.run("dvc", "repro", "train", "evaluate")
    assert "is cached - skipping run" in done.stdout
    assert runs(project) == 1
    shown = project.run(sys.executable, "-m", "my_experiment", "lineage", env=ENV).stdout
    assert re.search(r"^run +[0-9a-f]{32}$", shown, re.MULTILINE)


def test_six_processes_may_meet_a_fresh_store(reproduced_project: BakedProject, copy: Copy) -> None:
    project = copy(reproduced_project)
    (project.path / "mlflow.db").unlink()
    results = execute(
        "bash", "-c", "for i in 1 2 3 4 5 6; do python -m my_experiment log & p+=($!); done; "
        "for i in ${p[@]}; do wait $i || exit 1; done",
        cwd=project.path, env=ENV,
    )  # fmt: skip
    assert len(set(re.findall(r"logged as run (\w+)", results.stdout))) == 1
    assert runs(project) == 1


def test_a_server_that_is_away_costs_a_warning_and_is_caught_up_with(
    reproduced_project: BakedProject, copy: Copy, tmp_path_factory: pytest.TempPathFactory
) -> None:
    project = copy(reproduced_project)
    port, store = free_port(), tmp_path_factory.mktemp("server")
    server_uri = {"MLFLOW_TRACKING_URI": f"https://127.0.0.1:{port}"}
    done = project.run("dvc", "repro", "--force", "--single-item", "evaluate", env=server_uri)
    assert "could not be reached" in done.stderr
    assert "python -m my_experiment log" in done.stderr
    assert "Traceback" not in done.stderr
    assert project.git_status() == ""
    refused = project.run(sys.executable, "-m", "my_experiment", "log", env=ENV | server_uri, check=False)
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: MLflow at") and "Traceback" not in refused.stderr
    # Over TLS, by a certificate of the team's own authority, as docs/encryption.md says.
    issuer = authority(store, "team")
    certificate, key = issuer.issue("mlflow")
    trust = {"MLFLOW_TRACKING_SERVER_CERT_PATH": str(issuer.file)}
    with running(
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{store}/server.db", "--artifacts-destination", store / "artifacts",
        "--uvicorn-opts", f"--ssl-certfile {certificate} --ssl-keyfile {key}",
        cwd=store, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as server:  # fmt: skip
        wait_until_ready(f"https://127.0.0.1:{port}/health", server, trusted=issuer.file)
        unknown = project.run(sys.executable, "-m", "my_experiment", "log", env=ENV | server_uri, check=False)
        assert unknown.returncode == 1
        assert "certificate verify failed: unable to get local issuer certificate (MLFLOW_TR" in unknown.stderr
        assert len(unknown.stderr.splitlines()) == 1
        logged = project.run(sys.executable, "-m", "my_experiment", "log", env=ENV | server_uri | trust)
        assert "logged as run" in logged.stdout


def test_lineage_from_commit_run_and_bento(reproduced_project: BakedProject, copy: Copy) -> None:
    project = copy(reproduced_project)
    env = ENV | {"BENTOML_HOME": str(project.path.parent / "bentoml")}
    # Where DVC's cache has links, a Bento holds files.
    project.run("dvc", "config", "--local", "cache.type", "symlink")
    project.run("dvc", "checkout", "--relink")
    assert (project.path / "models/model.onnx").is_symlink()
    tag = project.run("bentoml", "build", "--output", "tag", env=env).stdout.strip().removeprefix("__tag__:")
    (packed,) = project.path.parent.glob("bentoml/bentos/my_experiment/*/src/models/model.onnx")
    assert not packed.is_symlink() and packed.read_bytes() == (project.path / "models/model.onnx").read_bytes()
    assert not (project.path / "models/model.onnx").is_symlink() and not project.git_status()
    commit = project.run("git", "rev-parse", "HEAD").stdout.strip()

    def shown(*name: str) -> str:
        return project.run(sys.executable, "-m", "my_experiment", "lineage", *name, env=env).stdout

    workspace = shown()
    run = re.search(r"^run +(\w{32})$", workspace, re.MULTILINE)
    assert run is not None
    assert shown("HEAD") == shown(commit) == shown(run[1]) == shown(tag) == workspace
    for expected in (commit, tag, "data/prepared", "train.learning_rate = 0.001", "models/model.onnx md5"):
        assert expected in workspace
    refused = project.run(sys.executable, "-m", "my_experiment", "lineage", "nothing", env=env, check=False)
    assert refused.returncode == 1
    kinds = "commit, MLflow run, registered version, Bento, image, hash or parameter"
    assert refused.stderr == f"error: 'nothing' is not a {kinds} known here\n"
