"""News for a retraining: with the real git and DVC, on the standard library, and nothing trained."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from my_experiment.harness.automation import retrain_memory, retrain_news
from my_experiment.harness.core.errors import UserError
from my_experiment.harness.tracking import proposal
from support import ROOT, commit, git

SOMETHING = "something to train: "


@pytest.fixture
def published(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose last commit holds results, and its remote."""
    (repository / "src").mkdir()
    (repository / "src/model.py").write_text("LAYERS = 1\n")
    (repository / ".gitignore").write_text("/build/\n")
    (repository / "dvc.lock").write_text("schema: '2.0'\n")
    commit()
    origin = tmp_path_factory.mktemp("origin") / "origin.git"
    git("init", "--quiet", "--bare", str(origin))
    git("remote", "add", "origin", str(origin))
    return origin


def test_a_commit_with_its_results_has_no_news(published: Path) -> None:
    head = git("rev-parse", "HEAD")[:12]
    nothing = (False, f"nothing changed since the results of {head}")
    assert retrain_news.find() == nothing
    Path("README.md").write_text("A text beside the pipeline\n")
    commit()
    assert retrain_news.find() == nothing
    Path("src/model.py").write_text("LAYERS = 2\n")
    commit()
    assert retrain_news.find() == (True, f"{SOMETHING}src changed")
    Path("dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    commit()
    assert not retrain_news.find()[0]


def test_without_results_everything_is_news(published: Path) -> None:
    git("rm", "--quiet", "dvc.lock")
    git("commit", "--quiet", "--amend", "--message", "No results")
    assert retrain_news.find() == (True, f"{SOMETHING}conf, dvc.yaml, src changed")


def test_a_shallow_clone_knows_no_results(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its only commit holds dvc.lock, whenever that was written."""
    git("push", "--quiet", "origin", "HEAD:refs/heads/main")
    git("clone", "--quiet", "--depth=1", "--branch=main", published.as_uri(), str(tmp_path / "shallow"))
    monkeypatch.chdir(tmp_path / "shallow")
    assert retrain_news.find()[0]


def test_what_failed_is_not_trained_again(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also by the next machine, which has a fresh clone."""
    Path("src/model.py").write_text("LAYERS = 2\n")
    commit()
    git("push", "--quiet", "origin", "HEAD:refs/heads/main")
    git("config", "push.pushOption", "merge_request.create")  # the remote refuses options of a push
    version = retrain_memory.version()
    retrain_memory.remember(Path(), version, "Retraining (src changed) does NOT pass: size\n\nReport\n", "origin")
    assert git("for-each-ref", "refs/heads/retrain", "refs/retrain") == ""
    git("clone", "--quiet", "--branch=main", str(published), str(tmp_path / "clone"))
    monkeypatch.chdir(tmp_path / "clone")
    found, reason = retrain_news.find()
    assert not found
    assert reason.startswith("Retraining (src changed) does NOT pass: size (20")
    forget = f"git push origin --delete refs/retrain/{version}"
    assert reason.endswith(f"shows why, `{forget}` forgets it")
    assert not proposal.BRANCH.exists()
    git(*forget.split()[1:])
    assert retrain_news.find() == (True, f"{SOMETHING}src changed")


def test_without_a_remote_the_repository_remembers(published: Path) -> None:
    git("remote", "remove", "origin")
    Path("src/model.py").write_text("LAYERS = 2\n")
    commit()
    version = retrain_memory.version()
    retrain_memory.remember(Path(), version, "Retraining changed no result", None)
    found, reason = retrain_news.find()
    assert not found and f"`git update-ref -d refs/retrain/{version}` forgets it" in reason


def test_a_remote_that_takes_no_mark_is_a_warning(published: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(published)
    retrain_memory.remember(Path(), "0" * 12, "Failed", "origin")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: the next retraining will train these inputs again: `git push` failed: fatal: ")


def test_a_proposal_is_reported_again(published: Path) -> None:
    """The CI job of a proposal may have ended before it opened the pull request."""
    Path("src/model.py").write_text("LAYERS = 2\n")
    commit()
    branch = f"retrain/{retrain_memory.version()}"
    git("commit", "--quiet", "--allow-empty", "--message", "Retraining passes\n\nReport")
    git("push", "--quiet", "origin", f"HEAD:refs/heads/{branch}")
    git("reset", "--quiet", "--hard", "HEAD~1")
    assert retrain_news.find() == (False, f"{branch} already proposes a model for these inputs: nothing was trained")
    assert proposal.BRANCH.read_text() == f"{branch}\n"
    assert proposal.REPORT.read_text().startswith("# Retraining passes\n\nReport\n")


def dvc(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "dvc", *arguments], check=True, capture_output=True)


def test_imported_data_are_compared_with_their_source(published: Path) -> None:
    source = published.parent / "rows.csv"
    source.write_text("a\n1\n")
    dvc("init", "--quiet")
    Path("data").mkdir()
    dvc("import-url", "--quiet", str(source), "data/rows.csv")
    Path("dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    commit()
    Path("data/rows.csv").unlink()  # a fresh clone has no data
    before = git("status", "--porcelain", "--ignored")
    assert retrain_news.find() == (False, f"nothing changed since the results of {git('rev-parse', 'HEAD')[:12]}")
    source.write_text("a\n2\n")
    news = (True, f"{SOMETHING}the source of data/rows.csv.dvc changed")
    assert retrain_news.find() == news
    assert git("status", "--porcelain", "--ignored").replace("!! build/\n", "") == before, "a check changes nothing"
    # As a retraining that failed: its commit holds the update, which the branch does not.
    dvc("update", "--quiet", "data/rows.csv.dvc")
    commit()
    retrain_memory.remember(Path(), retrain_memory.version(), "Retraining does NOT pass: size", "origin")
    git("reset", "--quiet", "--hard", "HEAD~1")
    found, reason = retrain_news.find()
    assert not found and reason.startswith("Retraining does NOT pass: size")
    source.write_text("a\n3\n")
    assert retrain_news.find() == news
    source.unlink()
    with pytest.raises(UserError, match=r"^`dvc update` failed: .*rows.csv"):
        retrain_news.find()


def test_only_imports_have_a_source() -> None:
    added = "outs:\n- md5: 1\n  path: x\n"
    imported = "md5: 2\nfrozen: true\ndeps:\n- etag: '3'\n  path: s3://x\nouts:\n- path: x\n"
    assert retrain_news.dependencies(added) == ""
    assert retrain_news.dependencies(imported) == "- etag: '3'\n  path: s3://x\n"


def test_a_remote_out_of_reach_is_off(published: Path) -> None:
    """Also before credentials for git are there."""
    Path(".dvc").mkdir()
    shutil.copy(ROOT / ".dvc/config", ".dvc")
    folder = Path("../my-experiment-dvc").resolve()
    off = (
        f"retraining is off: DVC's remote is the folder {folder}, which this machine does not have (docs/retrain.md "
        "says how to switch it on)"
    )
    assert retrain_news.find() == retrain_news.find(offline=True) == (False, off)
    folder.mkdir()
    assert retrain_news.find(offline=True)[0]
    folder.rmdir()
    git("remote", "remove", "origin")  # a branch here: its data are in the cache here
    assert retrain_news.missing_storage() == folder
    assert "nothing changed" in retrain_news.find()[1]
    Path(".dvc/config").write_text("[core]\n    remote = x\n['remote \"x\"']\n    url = s3://bucket/folder\n")
    assert retrain_news.missing_storage() is None


def test_nothing_has_to_be_installed(published: Path) -> None:
    """A runner has Python and git; -S leaves out all packages."""
    command = [sys.executable, "-S", "-m", "my_experiment.harness.automation.retrain_news"]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
    assert done.stdout.startswith("nothing changed since the results of ")
    assert not retrain_news.NEWS.exists()
    Path("src/model.py").write_text("LAYERS = 2\n")
    commit()
    done = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
    assert (done.stdout, retrain_news.NEWS.read_text()) == (f"{SOMETHING}src changed\n",) * 2
