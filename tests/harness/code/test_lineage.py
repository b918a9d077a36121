"""Lineage: a training is identified by its inputs, as dvc.lock records them."""

import copy
import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
import pytest
import yaml
from my_experiment.harness.core import errors
from my_experiment.harness import lineage
from my_experiment.harness.packaging import bento
from my_experiment.harness.tracking import git
from my_experiment.harness.tracking import labels
from my_experiment.harness.tracking import lockfile
from my_experiment.harness.tracking import log
from my_experiment.harness.tracking import store as tracking_store

LOCK: dict[str, Any] = {
    "schema": "2.0",
    "stages": {
        "prepare": {
            "cmd": "python -m x.stages.prepare",
            "deps": [{"path": "data/raw", "hash": "md5", "md5": "aa.dir"}, {"path": "src/x/images.py", "md5": "bb"}],
            "params": {"params.yaml": {"prepare": {"seed": 0}}},
            "outs": [{"path": "data/prepared", "md5": "cc.dir"}],
        },
        "train": {
            "cmd": "python -m x.stages.train",
            "deps": [{"path": "data/prepared", "md5": "cc.dir"}, {"path": "src/x/training.py", "md5": "dd"}],
            "params": {"params.yaml": {"train": {"epochs": 3}, "model": {"units": [8, 4]}}},
            "outs": [{"path": "models/model.json", "md5": "ee"}, {"path": "models/model.onnx", "md5": "ff"}],
        },
    },
}
PACKED = sorted(lockfile.PACKED)


def git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", "-c", "user.name=A", "-c", "user.email=a@b.c", *arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()



def record(epochs: int = 3, evaluated: bool = True) -> dict[str, Any]:
    """Writes what a pipeline leaves: files whose content depends on `epochs`, and the dvc.lock that records them."""
    lock = copy.deepcopy(LOCK)
    outs: dict[str, list[dict[str, str]]] = {"train": [], "evaluate": []}
    for name in PACKED:
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(json.dumps({"sha256": str(epochs), "of": name}))
        stage = "train" if name.startswith("models/model") else "evaluate"
        outs[stage].append({"path": name, "md5": hashlib.md5(Path(name).read_bytes()).hexdigest()})
    model = next(out for out in outs["train"] if out["path"] == "models/model.onnx")
    lock["stages"]["train"]["outs"] = outs["train"]
    lock["stages"]["train"]["params"]["params.yaml"]["train"]["epochs"] = epochs
    read = model if evaluated else model | {"md5": "00"}
    lock["stages"]["evaluate"] = {"deps": [read], "outs": outs["evaluate"]}
    Path("dvc.lock").write_text(yaml.safe_dump(lock))
    return lock



def training(lock: dict[str, Any]) -> Any:
    """The training in a dvc.lock of that content."""
    return lockfile.training(yaml.safe_dump(lock))



def test_a_training_is_read() -> None:
    found = training(LOCK)
    assert found.model == "ff"
    assert found.inputs == {
        "data/raw": "aa.dir",
        "src/x/images.py": "bb",
        "data/prepared": "cc.dir",
        "src/x/training.py": "dd",
    }
    assert found.parameters == {"prepare.seed": 0, "train.epochs": 3, "model.units": [8, 4]}
    assert len(found.key) == 64



def test_the_key_follows_the_inputs() -> None:
    changed = [copy.deepcopy(LOCK) for _ in range(3)]
    changed[0]["stages"]["train"]["deps"][0]["md5"] = "c2.dir"
    changed[1]["stages"]["train"]["deps"][1]["md5"] = "d2"
    changed[2]["stages"]["train"]["params"]["params.yaml"]["train"]["epochs"] = 4
    assert len({training(lock).key for lock in (LOCK, *changed)}) == 4



def test_the_key_follows_nothing_else() -> None:
    lock = copy.deepcopy(LOCK)
    stage = lock["stages"]["train"]
    stage["deps"].reverse()
    stage["cmd"] = "python -m y.stages.train"
    stage["outs"][1]["md5"] = "f2"
    stage["params"]["params.yaml"] = dict(reversed(stage["params"]["params.yaml"].items()))
    assert training(lock).key == training(LOCK).key



def test_without_a_training_it_says_what_to_run(workspace: Path) -> None:
    with pytest.raises(errors.UserError, match="dvc repro"):
        lockfile.read_lock()
    lock = copy.deepcopy(LOCK)
    del lock["stages"]["train"]
    with pytest.raises(errors.UserError, match="dvc repro"):
        training(lock)



def test_nested_values_become_dotted_keys() -> None:
    from my_experiment.harness.core import config
    assert config.flatten({"a": {"b": 1, "c": {"d": [2]}}, "e": None}) == {"a.b": 1, "a.c.d": [2], "e": None}



def test_what_dvc_lock_does_not_record_is_not_passed_on(workspace: Path) -> None:
    record()
    lockfile.check(PACKED)
    Path("models/page.json").write_text("the examples of before")
    Path("reports/metrics.json").unlink()
    with pytest.raises(errors.UserError, match=r"models/page.json, reports/metrics.json: `dvc checkout`"):
        lockfile.check(PACKED)
    with pytest.raises(errors.UserError, match=r"models/page\.json"):
        labels.labels()
    with pytest.raises(errors.UserError, match=r"reports/history\.csv, models/page\.json"):
        log.log()



def test_the_evaluation_of_another_model_is_not_passed_on(workspace: Path) -> None:
    record(evaluated=False)  # `dvc repro train`
    assert lockfile.stale(PACKED) == ["models/page.json", "reports/metrics.json"]



def test_a_commit_is_all_of_the_workspace_or_that_is_said(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = workspace / "one of several"
    project.mkdir()
    monkeypatch.chdir(project)
    record()
    git("init", "--quiet", str(workspace))
    git("add", "--all", str(workspace))
    git("commit", "--quiet", "--message", "First")
    first = git("rev-parse", "HEAD")
    (workspace / "another").write_text("")  # a project beside this one
    assert not git.dirty() and not lockfile.uncommitted(first)
    record(epochs=4)  # `dvc exp run`, whose commit was removed
    assert git.dirty() and not git.dirty("dvc.lock", "models", "reports")
    assert lockfile.committed(training(yaml.safe_load(Path("dvc.lock").read_text()))) == first
    assert lockfile.uncommitted(first)
    git("commit", "--quiet", "--all", "--message", "Second")
    assert not lockfile.uncommitted(git("rev-parse", "HEAD"))



@pytest.fixture
def told(
    workspace: Path, empty_store: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str | None], dict[str, str]]:
    """Gives the chain from a name, of a project with two trainings: one committed, the other's run is elsewhere.

    The Bentos are not built, which would take seconds and a service: their labels are what is looked at. Nor are
    container engines asked.
    """
    (program := tmp_path_factory.mktemp("bin") / "git").symlink_to(str(shutil.which("git")))
    monkeypatch.setenv("PATH", str(program.parent))
    store = tmp_path_factory.mktemp("store") / "mlflow.db"
    shutil.copy(empty_store, store)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}")
    git("init", "--quiet")
    bentos = {}
    for epochs in (3, 4):
        found = training(record(epochs))
        git("add", "--all")
        if epochs == 3:
            git("commit", "--quiet", "--message", "Three")
            client = tracking_store.client()
            tags = log.tags(found) | {"model_sha256": "33abcdef" * 8}
            run = client.create_run(tracking_store.experiment(client), tags=tags)
            for key, value in found.parameters.items():
                client.log_param(run.info.run_id, key, str(value))
        labels = {"git_commit": git("rev-parse", "HEAD"), "git_dirty": str(epochs == 4).lower()}
        labels |= {"training_key": found.key, "model_md5": found.model, "model_sha256": f"{epochs}{epochs}abcdef" * 8}
        bentos[f"x:{epochs}"] = labels
    monkeypatch.setattr(bento, "stored_bentos", lambda: bentos)
    return lambda name: dict(lineage.chain(name))



def test_any_link_leads_to_the_others(told: Callable[[str | None], dict[str, str]]) -> None:
    lock = yaml.safe_load(git("show", "HEAD:dvc.lock"))
    found = training(lock)
    first = told("HEAD")
    names = (found.key, found.model, "33abcdef33ab", "cc", "aa.dir", "train.epochs=3", "model.units = [8,4]", "x:3")
    for name in (*names, first["run"]):
        assert told(name) == first, name
    assert first["commit"] == git("rev-parse", "HEAD") and first["bento"] == "x:3" and first["image"] == "none here"
    for name in ("train.epochs=5", "=", "'", "33abcd", "ff"):
        with pytest.raises(errors.UserError, match="is no commit, MLflow run"):
            told(name)



def test_uncommitted_changes_of_a_bento_or_the_workspace_are_said(
    told: Callable[[str | None], dict[str, str]],
) -> None:
    commit, found = git("rev-parse", "HEAD"), training(yaml.safe_load(Path("dvc.lock").read_text()))
    for name in ("x:4", "44abcdef44ab", found.key, found.model):
        chain = told(name)
        assert chain["commit"] == f"{commit} (and uncommitted changes)"
        # No commit and no run has its inputs: those of the commit are another training's.
        assert chain["training"] == found.key and "parameter" not in chain and chain["data"].startswith("unknown")
        assert chain["bento"] == "x:4" and chain["run"].startswith("none recorded")
    assert told(None)["commit"] == f"{commit} (and uncommitted changes)"



def test_several_trainings_are_listed(told: Callable[[str | None], dict[str, str]]) -> None:
    store = tracking_store.client()
    found = training(yaml.safe_load(Path("dvc.lock").read_text()))
    store.create_run(tracking_store.experiment(store), tags=log.tags(found) | {"model_sha256": "4" * 64})
    listed = lineage.chain("cc.dir")
    assert [link for link, _ in listed] == ["run", "run"]
    assert "model 444444444444" in listed[0][1] and "model 33abcdef33ab" in listed[1][1]



