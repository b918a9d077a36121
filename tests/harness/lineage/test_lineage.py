"""Lineage: from any link of the chain to all others."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from locks import git, record, training
from my_experiment.harness import lineage
from my_experiment.harness.core.errors import UserError
from my_experiment.harness.packaging import bento
from my_experiment.harness.release import versions
from my_experiment.harness.tracking import lockfile, log, machine, store

Chain = Callable[[str | None], dict[str, str]]


@pytest.fixture
def chain(
    workspace: Path, empty_store: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Chain:
    """The chain from a name, in a project with two trainings: one committed, the other's run is elsewhere.

    The Bentos are not built, which would take seconds and a service: only their labels matter. No container engine is
    on PATH.
    """
    (program := tmp_path_factory.mktemp("bin") / "git").symlink_to(str(shutil.which("git")))
    monkeypatch.setenv("PATH", str(program.parent))
    database = tmp_path_factory.mktemp("store") / "mlflow.db"
    shutil.copy(empty_store, database)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    git("init", "--quiet")
    bentos = {}
    for epochs in (3, 4):
        trained = training(record(epochs))
        git("add", "--all")
        if epochs == 3:
            git("commit", "--quiet", "--message", "Three")
            client = store.client()
            tags = log.tags(trained) | {"model_sha256": "33abcdef" * 8}
            run = client.create_run(store.experiment(client), tags=tags)
            for key, value in trained.parameters.items():
                client.log_param(run.info.run_id, key, str(value))
        bentos[f"x:{epochs}"] = {
            "git_commit": git("rev-parse", "HEAD"),
            "git_dirty": str(epochs == 4).lower(),
            "training_key": trained.key,
            "model_md5": trained.model,
            "model_sha256": f"{epochs}{epochs}abcdef" * 8,
        }
    monkeypatch.setattr(bento, "stored_bentos", lambda: bentos)
    return lambda name: dict(lineage.chain(name))


def test_any_link_leads_to_the_others(chain: Chain) -> None:
    trained = lockfile.training(git("show", "HEAD:dvc.lock"))
    first = chain("HEAD")
    names = (trained.key, trained.model, "33abcdef33ab", "cc", "aa.dir", "train.epochs=3", "model.units = [8,4]", "x:3")
    for name in (*names, first["run"]):
        assert chain(name) == first, name
    assert first["commit"] == git("rev-parse", "HEAD") and first["bento"] == "x:3" and first["image"] == "none here"
    assert first["model"] == f"models/model.onnx md5 {trained.model} sha256 {'33abcdef' * 8}"
    for name in ("train.epochs=5", "=", "'", "33abcd", "ff"):
        with pytest.raises(UserError, match="is not a commit, MLflow run"):
            chain(name)


def test_a_deployment_is_a_link(chain: Chain) -> None:
    client, first = store.client(), chain("HEAD")
    assert "deployed" not in first
    client.create_registered_model(versions.MODEL)
    tags = {"model_md5": lockfile.training(git("show", "HEAD:dvc.lock")).model}
    client.create_model_version(versions.MODEL, "file:///1", first["run"], tags)
    for name, value in {"deployed": "2026-11-30 16:00:00 UTC", "release": "0123456789ab"}.items():
        client.set_model_version_tag(versions.MODEL, "1", name, value)
    found = chain("0123456789ab")
    assert found["run"] == first["run"]
    assert found["deployed"] == f"{versions.MODEL}/1 2026-11-30 16:00:00 UTC, release 0123456789ab"
    client.set_model_version_tag(versions.MODEL, "1", "rolled_back", "errors bad: 12 of 300")
    assert [value for link, value in lineage.chain("HEAD") if link == "deployed"][1] == (
        f"{versions.MODEL}/1 rolled back: errors bad: 12 of 300"
    )


def test_uncommitted_changes_of_a_bento_or_the_workspace_are_said(chain: Chain) -> None:
    commit, trained = git("rev-parse", "HEAD"), lockfile.training(lockfile.read_lock())
    for name in ("x:4", "44abcdef44ab", trained.key, trained.model):
        links = chain(name)
        assert links["commit"] == f"{commit} (and uncommitted changes)"
        # No commit and no run has its inputs: those of the commit are another training's.
        assert links["training"] == trained.key and "parameter" not in links and links["data"].startswith("unknown")
        assert links["bento"] == "x:4" and links["run"].startswith("none recorded")
    assert chain(None)["commit"] == f"{commit} (and uncommitted changes)"


def test_a_commit_holds_a_model_that_no_run_here_recorded(chain: Chain) -> None:
    git("commit", "--quiet", "--all", "--message", "Four")
    trained = lockfile.training(lockfile.read_lock())
    bento.stored_bentos().clear()
    links = chain(trained.model)
    assert links["commit"] == git("rev-parse", "HEAD") and links["run"].startswith("none recorded")


def test_a_run_that_was_trained_with_uncommitted_changes_says_so(chain: Chain) -> None:
    client, trained = store.client(), lockfile.training(lockfile.read_lock())
    client.create_run(store.experiment(client), tags=log.tags(trained) | {"git_dirty": "true"})
    git("commit", "--quiet", "--all", "--message", "Four")
    assert chain("HEAD")["commit"] == f"{git('rev-parse', 'HEAD')} (trained with uncommitted changes)"


def test_several_trainings_are_listed(chain: Chain) -> None:
    client = store.client()
    trained = lockfile.training(lockfile.read_lock())
    client.create_run(store.experiment(client), tags=log.tags(trained) | {"model_sha256": "4" * 64})
    listed = lineage.chain("cc.dir")
    assert [link for link, _ in listed] == ["run", "run"]
    assert "model 444444444444" in listed[0][1] and "model 33abcdef33ab" in listed[1][1]


def test_a_trial_of_a_sweep_names_the_way_to_a_model(chain: Chain) -> None:
    client = store.client()
    run = client.create_run(store.experiment(client), tags={"sweep": "wide"})
    with pytest.raises(UserError, match=r"a run of the sweep wide, which stores no model: .*conf/experiment/"):
        chain(run.info.run_id)


def test_the_command_prints_a_link_in_each_line(chain: Chain) -> None:
    done = CliRunner().invoke(lineage.command, ["x:3"], catch_exceptions=False)
    assert [line.split(maxsplit=1) for line in done.output.splitlines()] == [list(row) for row in lineage.chain("x:3")]


def test_the_machine_is_that_of_the_record_or_of_the_run(chain: Chain) -> None:
    trained = lockfile.training(git("show", "HEAD:dvc.lock"))
    assert chain("HEAD")["machine"] == "unknown: no machine.json of git speaks of this model"
    store.client().set_tag(chain("HEAD")["run"], "machine.processor", "EPYC")
    assert chain("HEAD")["machine"] == "EPYC" and chain(None)["machine"].startswith("unknown")
    machine.write({"model": trained.model, "machine": {"processor": "Xeon", "processors": 4}})
    assert chain("HEAD")["machine"] == "Xeon, processors 4" and chain(None)["machine"].startswith("unknown")
