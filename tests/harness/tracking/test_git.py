"""git: refusals in its own words; the end of a shallow clone is no first commit."""

import subprocess
from pathlib import Path

import pytest
from my_experiment.harness.core.errors import UserError
from my_experiment.harness.tracking import git


def commands(*lines: str) -> None:
    """Runs git in the working directory."""
    for line in lines:
        subprocess.run(["git", *line.split()], check=True, capture_output=True)


def commit(content: str) -> str:
    """Commits a dvc.lock with this content; returns the hash of the commit."""
    Path("dvc.lock").write_text(content, encoding="utf-8")
    identity = ("-c", "user.name=T", "-c", "user.email=t@example.org")
    commands("add dvc.lock", " ".join([*identity, "commit", "--quiet", "--message", "x"]))
    return git.run("rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: a repository whose second commit brings the model `m1`, the last the model `m2`."""
    (tmp_path / "origin").mkdir()
    monkeypatch.chdir(tmp_path / "origin")
    commands("init --quiet")
    for content in ("m0", "m1", "m1 and a comment", "m2"):
        commit(content)
    return tmp_path / "origin"


def test_a_folder_without_a_repository_has_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git.git("rev-parse", "HEAD") is None
    assert git.commit_named("HEAD") is None


def test_what_git_does_not_find_is_none(repository: Path) -> None:
    assert git.git("rev-parse", "--verify", "--quiet", "HEAD") is not None
    assert git.git("show", "HEAD:./nothing") is None
    assert git.commit_named("nothing") is None


@pytest.mark.parametrize("trouble", ["owner", "index", "missing"])
def test_what_git_refuses_is_told_in_its_words(repository: Path, monkeypatch: pytest.MonkeyPatch, trouble: str) -> None:
    if trouble == "owner":  # as after `chown -R`
        monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
        expected = r"^git says: fatal: detected dubious ownership in repository at .*git config --global --add safe"
    elif trouble == "index":
        (repository / ".git/index").write_bytes(b"x" * 4096)
        expected = r"^git says: .*fatal: index file corrupt$"
    else:
        monkeypatch.setenv("PATH", str(repository))
        expected = "^git is not installed, or not on PATH$"
    for ask in (lambda: git.commit_with("m1"), git.dirty, lambda: git.git("rev-parse", "HEAD")):
        with pytest.raises(UserError, match=expected) as error:
            ask()
        assert "\n" not in str(error.value)


def test_the_first_commit_of_a_model(repository: Path) -> None:
    assert git.commit_with("m1") == git.run("rev-parse", "HEAD~2")
    assert git.commit_with("m2") == git.run("rev-parse", "HEAD")
    assert git.commit_with("m3") is None


def test_the_end_of_a_shallow_clone_is_no_first_commit(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = {model: git.commit_with(model) for model in ("m1", "m2")}
    commands(f"clone --quiet --depth 2 file://{repository} ../shallow")
    monkeypatch.chdir("../shallow")
    assert git.commit_with("m2") == whole["m2"]
    with pytest.raises(UserError, match=r"this clone is shallow.*`git fetch --unshallow`") as error:
        git.commit_with("m1")
    assert "\n" not in str(error.value)
    commands("fetch --quiet --unshallow")
    assert git.commit_with("m1") == whole["m1"]
