"""Retraining: what a report says, what is refused; with the real git, and nothing trained."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from my_experiment.harness.automation import retrain, retrain_memory, retrain_report, retrain_tree
from my_experiment.harness.core.errors import UserError
from my_experiment.harness.tracking import git as commits
from my_experiment.harness.tracking import machine, proposal
from support import commit, git


def test_the_title_is_the_verdict() -> None:
    assert retrain_report.verdict(["data/raw"], []) == "Retraining (data/raw changed) passes every gate"
    assert retrain_report.verdict([], []) == "Retraining (first results) passes every gate"
    title = retrain_report.verdict(list("abcde"), ["size", "slices (4)"])
    assert title == "Retraining (a, b, c and 2 more changed) does NOT pass: size, slices (4)"


def lock(code: str, model: str, cmd: str = "python train.py") -> str:
    """Gives a dvc.lock of one stage."""
    stage = {"cmd": cmd, "deps": [{"path": "src", "md5": code}], "outs": [{"path": "models", "md5": model}]}
    return str(yaml.safe_dump({"stages": {"train": stage}}))


def test_news_are_other_results_of_other_inputs() -> None:
    assert retrain.changed_inputs(None, lock("1", "a")) == []
    assert retrain.changed_inputs(lock("1", "a"), lock("1", "a")) is None
    assert retrain.changed_inputs(lock("1", "a"), lock("2", "a")) is None
    assert retrain.changed_inputs(lock("1", "a"), lock("2", "b")) == ["src"]
    assert retrain.changed_inputs(lock("1", "a"), lock("1", "b", "python train.py --long")) == ["dvc.yaml"]


def test_other_results_of_the_same_inputs_are_no_news() -> None:
    with pytest.raises(
        UserError, match=r"^the same inputs gave other results: models; nothing is known of .*; `dvc push`"
    ):
        retrain.changed_inputs(lock("1", "a"), lock("1", "b"))


def test_equivalent_results_are_news_if_that_is_allowed(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = (lock("1", model).replace("path: models", "path: models/model.onnx") for model in ("a", "b"))
    results = {"metrics": {"accuracy": [0.9, 0.8, 1.0]}, "sketch": "1", "error": 1}
    for model, processor in (("a", "EPYC"), ("b", "Xeon")):
        machine.write({"model": model, "machine": {"processor": processor}, "results": results})
        commit()
    assert retrain.changed_inputs(before, after) is None
    assert "equivalent: another machine (processor EPYC -> Xeon)" in capsys.readouterr().err
    (repository / "conf/ci.yaml").write_text("equivalent: {checks: true, replaces: true}")
    assert retrain.changed_inputs(before, after) == ["machine.json"]


@pytest.mark.parametrize(
    ("outs", "size"),
    [
        ([{"path": "images", "size": 45067, "nfiles": 180}], "180 files, 45,067 bytes"),
        ([{"path": "table.csv", "size": 8}], "1 file, 8 bytes"),
    ],
)
def test_data_are_shown_by_their_size(outs: list[dict[str, Any]], size: str) -> None:
    assert retrain_report.size_of(yaml.safe_dump({"outs": outs})) == size


def test_a_retraining_starts_from_a_clean_commit(repository: Path) -> None:
    with pytest.raises(UserError, match="no commit here"):
        retrain.clean_commit()
    commit()
    head = retrain.clean_commit()
    git("checkout", "--quiet", "--detach")  # as CI does
    assert retrain.clean_commit() == head
    for number in range(5):
        (repository / f"{number}.txt").touch()
    with pytest.raises(UserError, match=r"^not in any commit: 0.txt, 1.txt, 2.txt and 2 more; commit"):
        retrain.clean_commit()


def test_a_commit_needs_an_author(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit()
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.delenv("EMAIL", raising=False)
    for name in ("NAME", "EMAIL"):
        monkeypatch.delenv(f"GIT_COMMITTER_{name}")
    with pytest.raises(UserError, match=r"user\.name"):
        retrain.clean_commit()


def test_a_remote_that_is_away_is_told_before_anything_is_run(repository: Path) -> None:
    commit()
    git("remote", "add", "origin", "/nowhere")
    with pytest.raises(UserError, match=r"^`git ls-remote` failed: fatal: '/nowhere' does not .*; no branch was"):
        CliRunner().invoke(retrain.command, [], catch_exceptions=False)
    assert not retrain_tree.TREES.exists()


def test_nothing_is_proposed_where_its_data_would_be_lost(repository: Path) -> None:
    """A folder is DVC's remote by default, and a runner of CI does not have it."""
    (repository / ".dvc").mkdir()
    config = repository / ".dvc" / "config"
    assert not retrain.storage_for("origin")
    config.write_text("[core]\n    remote = storage\n['remote \"storage\"']\n    url = ../storage\n")
    assert retrain.storage_for(None)  # a branch here: its data are in the cache here
    with pytest.raises(UserError, match=rf"^DVC's remote is the folder {repository}/storage, which is not on this"):
        retrain.storage_for("origin")
    commit()
    git("init", "--quiet", "--bare", "origin.git")
    git("remote", "add", "origin", "origin.git")
    (repository / ".git/info/exclude").write_text("origin.git\n")
    with pytest.raises(UserError, match="which is not on this machine"):  # before anything is trained
        retrain.retrain([])
    assert not retrain_tree.TREES.exists()
    (repository / "storage").mkdir()
    assert retrain.storage_for("origin")
    config.write_text("[core]\n    remote = storage\n['remote \"storage\"']\n    url = s3://bucket/folder\n")
    assert retrain.storage_for("origin")


def test_branches_go_to_origin_or_to_the_only_remote(repository: Path) -> None:
    assert proposal.remote() is None
    git("remote", "add", "upstream", "/nowhere")
    assert proposal.remote() == "upstream"
    git("remote", "add", "fork", "/nowhere")
    with pytest.raises(UserError, match=r"several remotes \(fork, upstream\)"):
        proposal.remote()
    git("remote", "add", "origin", "/nowhere")
    assert proposal.remote() == "origin"


def test_the_same_inputs_are_the_same_branch(repository: Path) -> None:
    """A text beside the pipeline makes no other one; its configuration does."""

    def version() -> str:
        commit()
        return str(retrain_memory.version())

    first = version()
    (repository / "README.md").write_text("Text\n")
    assert version() == first
    (repository / "conf" / "config.yaml").write_text("prepare: {}\n")
    assert version() != first


def test_one_at_a_time_and_what_was_left_is_removed(repository: Path) -> None:
    commit()
    left = retrain_tree.TREES / "left"
    left.mkdir(parents=True)
    git("worktree", "add", "--detach", str(left / "tree"), "HEAD")
    with retrain_tree.exclusive_folder() as folder:
        assert list(retrain_tree.TREES.resolve().iterdir()) == [folder]
        with pytest.raises(UserError, match="another retraining"), retrain_tree.exclusive_folder():
            pass
    assert list(retrain_tree.TREES.iterdir()) == []
    assert len(commits.run("worktree", "list").splitlines()) == 1
