"""dvc.lock: a training is identified by its inputs, and only the files that are recorded are published."""

import copy
from pathlib import Path

import pytest
import yaml
from locks import LOCK, PACKED, git, record, training
from my_experiment.harness.core.errors import UserError
from my_experiment.harness.tracking import git as commits
from my_experiment.harness.tracking import labels, lockfile, log, runs


def test_a_training_is_read() -> None:
    trained = training(LOCK)
    assert trained.model == "ff"
    assert trained.inputs == {
        "data/raw": "aa.dir",
        "src/x/images.py": "bb",
        "data/prepared": "cc.dir",
        "src/x/training.py": "dd",
    }
    assert trained.parameters == {"prepare.seed": 0, "train.epochs": 3, "model.units": [8, 4]}
    assert len(trained.key) == 64


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


def test_a_lock_without_stages_is_read() -> None:
    assert lockfile.stages("") == lockfile.stages("schema: '2.0'\n") == {}
    stage = lockfile.stages(yaml.safe_dump({"stages": {"download": {"cmd": "true"}}}))["download"]
    assert stage == ("true", {}, {}, {})


def test_without_a_training_it_says_what_to_run(workspace: Path) -> None:
    with pytest.raises(UserError, match="dvc repro"):
        lockfile.read_lock()
    with pytest.raises(UserError, match="git has no HEAD here: `git init` if there is no repository"):
        lockfile.read_lock("HEAD")
    lock = copy.deepcopy(LOCK)
    del lock["stages"]["train"]
    with pytest.raises(UserError, match="no stage train: run `dvc repro`"):
        training(lock)


def test_files_that_dvc_lock_does_not_record_are_not_published(workspace: Path) -> None:
    record()
    lockfile.check(PACKED)
    Path("models/page.json").write_text("the examples of before")
    Path("reports/metrics.json").unlink()
    with pytest.raises(UserError, match=r"models/page.json, reports/metrics.json: run `dvc checkout`"):
        lockfile.check(PACKED)
    with pytest.raises(UserError, match=r"models/page\.json"):
        labels.labels()
    with pytest.raises(UserError, match=r"models/page\.json, reports/metrics\.json"):
        log.log()


def test_a_stage_that_has_not_run_is_not_logged(workspace: Path) -> None:
    Path("dvc.lock").write_text(yaml.safe_dump(LOCK))
    with pytest.raises(UserError, match="no stage evaluate"):
        log.log()
    assert lockfile.files_of("prepare", "train") == ["models/model.json", "models/model.onnx"]  # no folder


def test_the_evaluation_of_another_model_is_not_published(workspace: Path) -> None:
    record(evaluated=False)  # `dvc repro train`
    assert lockfile.stale(PACKED) == [path for path in PACKED if not path.startswith("models/model")]


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
    assert not commits.dirty() and not lockfile.uncommitted(first)
    record(epochs=4)  # `dvc exp run`, whose commit was removed
    assert commits.dirty() and not commits.dirty("dvc.lock", "models", "reports")
    assert lockfile.committed(lockfile.training(lockfile.read_lock())) == first
    assert lockfile.uncommitted(first)
    git("commit", "--quiet", "--all", "--message", "Second")
    assert not lockfile.uncommitted(git("rev-parse", "HEAD"))


def test_a_commit_that_is_not_here_is_named_with_the_remedy(workspace: Path) -> None:
    git("init", "--quiet")
    git("commit", "--quiet", "--allow-empty", "--message", "First")
    with (
        pytest.raises(UserError, match=f"^x/1 belongs to commit {'0' * 40}, which .*`git fetch`"),
        commits.work_tree("0" * 40, "x/1", workspace / "tree"),
    ):
        pass


def test_a_hash_matches_a_prefix_of_the_model_alone() -> None:
    tags = {"training_key": "k", "model_md5": "m", "inputs": '{"data/raw": "d.dir"}', "model_sha256": "0123456789"}
    assert all(runs.has_hash(name, tags) for name in ("k", "m", "d", "d.dir", "0123456", "0123456789"))
    assert not any(runs.has_hash(name, tags) for name in ("012345", "x", ".dir"))


def recorded(raw: str = "a", code: str = "b", model: str = "c") -> str:
    """A dvc.lock: raw data and code are read, data/prepared and a model are written."""
    stages = {
        "config": {"deps": [], "outs": []},
        "prepare": {
            "deps": [{"path": "data/raw", "md5": raw}, {"path": "src/prepare.py", "md5": code}],
            "outs": [{"path": "data/prepared", "md5": f"prepared {raw}"}],
        },
        "train": {
            "deps": [{"path": "data/prepared", "md5": f"prepared {raw}"}, {"path": "src/prepare.py", "md5": code}],
            "outs": [{"path": "models/model.onnx", "md5": model}],
        },
    }
    return str(yaml.safe_dump({"schema": "2.0", "stages": stages}))


def test_what_differs_are_results_and_inputs_that_no_stage_writes() -> None:
    assert lockfile.differing(recorded(), recorded()) == ([], [])
    assert lockfile.differing(recorded(), recorded(code="a comment more")) == (["src/prepare.py"], [])
    changed = lockfile.differing(recorded(), recorded(raw="new", model="new"))
    assert changed == (["data/raw"], ["data/prepared", "models/model.onnx"])
    assert lockfile.differing("", recorded())[1] == ["data/prepared", "models/model.onnx"]
