"""The store of runs in moved, copied and interrupted projects."""

import multiprocessing
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
from my_experiment.harness.core.errors import UserError
from my_experiment.harness.tracking import store

Enter = Callable[[Path], None]


@pytest.fixture
def project(workspace: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: a project's folder with an empty default store."""
    folder = workspace / "p"
    folder.mkdir()
    shutil.copy(empty_store, folder / "mlflow.db")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def enter(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Makes a folder the working directory, as in a new process."""

    def enter(folder: Path) -> None:
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # MLflow sets it to the address of its store
        monkeypatch.chdir(folder)

    return enter


def run(text: str) -> str:
    """Makes a run with a file; returns its id."""
    client: Any = store.client()
    run_id: str = client.create_run(store.experiment(client)).info.run_id
    client.log_text(run_id, text, "sub/note.txt")
    return run_id


def note(run_id: str) -> str:
    """Reads the file of a run."""
    store.client()
    return mlflow.artifacts.load_text(f"runs:/{run_id}/sub/note.txt")


def notes(folder: Path) -> set[str]:
    return {file.read_text(encoding="utf-8") for file in (folder / "mlartifacts").rglob("note.txt")}


def opens(folder: Path) -> None:
    """Opens the default store of a folder, as a new process."""
    os.chdir(folder)
    store.client()


def test_a_killed_first_use_leaves_no_half_made_store(workspace: Path, enter: Enter) -> None:
    (workspace / "p").mkdir()
    enter(workspace / "p")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mlflow"])
    process = context.Process(target=opens, args=(workspace / "p",))
    process.start()
    deadline = time.monotonic() + 120
    while not any(os.path.exists(name) and os.path.getsize(name) for name in ("mlflow.db", "mlflow.db.new")):
        assert process.is_alive() and time.monotonic() < deadline
        time.sleep(0.001)  # between two looks at the condition
    process.kill()
    process.join()
    assert not Path("mlflow.db").exists()
    run_id = run("after")
    assert note(run_id) == "after"
    assert not Path("mlflow.db.new").exists()


def test_a_moved_project_reads_and_writes_where_it_lies(project: Path, enter: Enter) -> None:
    first = run("before")
    moved = project.rename(project.parent / "elsewhere q")
    enter(moved)
    assert note(first) == "before"
    assert note(run("after")) == "after"
    assert notes(moved) == {"before", "after"}
    assert not project.exists()


def test_a_copy_has_its_own_runs(project: Path, enter: Enter) -> None:
    first = run("both")
    copy = Path(shutil.copytree(project, project.parent / "copy"))
    enter(copy)
    assert note(run("copy")) == "copy"
    (copy / "mlartifacts" / first / "artifacts/sub/note.txt").write_text("changed in the copy", encoding="utf-8")
    enter(project)
    assert note(first) == "both"
    assert notes(project) == {"both"} and notes(copy) == {"changed in the copy", "copy"}


def test_runs_that_went_to_the_earlier_folder_are_still_found(project: Path, enter: Enter) -> None:
    first = run("before")
    moved = project.rename(project.parent / "q")
    # As it was before: a moved project wrote into the earlier folder, made anew.
    (project / "mlartifacts").mkdir(parents=True)
    lost = run_in_earlier_folder(moved, project)
    enter(moved)
    assert (note(first), note(lost), note(run("after"))) == ("before", "in the earlier folder", "after")
    assert notes(project) == {"in the earlier folder"}


def test_a_restore_beside_the_original_does_not_read_its_files(project: Path, enter: Enter) -> None:
    first = run("both")
    restored = project.parent / "restored"
    restored.mkdir()
    shutil.copy(project / "mlflow.db", restored)
    enter(restored)
    with pytest.raises(mlflow.MlflowException, match=r"Failed to download artifacts from path 'note\.txt'"):
        note(first)
    shutil.copytree(project / "mlartifacts", restored / "mlartifacts")
    (project / "mlartifacts" / first / "artifacts/sub/note.txt").write_text("changed in the original", encoding="utf-8")
    assert note(first) == "both"


def test_files_that_come_back_later_are_found(project: Path, enter: Enter) -> None:
    first = run("before")
    moved = project.parent / "q"
    moved.mkdir()
    (project / "mlflow.db").rename(moved / "mlflow.db")  # without the artifacts, which stay
    enter(moved)
    assert note(first) == "before"
    shutil.copytree(project / "mlartifacts", moved / "mlartifacts")
    (project / "mlartifacts" / first / "artifacts/sub/note.txt").write_text("changed there", encoding="utf-8")
    enter(moved)
    assert note(first) == "before"


def run_in_earlier_folder(moved: Path, project: Path) -> str:
    mlflow.set_tracking_uri(f"sqlite:///{moved / 'mlflow.db'}")
    client: Any = mlflow.MlflowClient()
    run_id: str = client.create_run(store.experiment(client)).info.run_id
    client.log_text(run_id, "in the earlier folder", "sub/note.txt")
    assert (project / "mlartifacts" / run_id).is_dir()
    return run_id


@pytest.mark.parametrize("name", ["a%2Fb", "qu?ery#and", "sp ace ünï %20", "a'\"&b=c;d+e@f:g"])
def test_a_folder_may_have_any_name(project: Path, enter: Enter, name: str) -> None:
    place = project.rename(project.parent / name)
    enter(place)
    assert note(run(name)) == name
    assert notes(place) == {name}
    assert {path.name for path in place.parent.iterdir()} == {"conf", "dvc.yaml", name}
    assert {path.name for path in place.iterdir()} == {"mlflow.db", "mlflow.db.lock", "mlartifacts"}


def test_a_server_that_is_away_and_a_store_that_refuses_are_told_apart(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {}
    for uri in ("http://127.0.0.1:9", "nothing://here"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with pytest.raises(UserError) as error, store.in_one_line():
            store.client()
        told[uri] = str(error.value)
        assert told[uri].startswith(f"MLflow at {uri}") and "\n" not in told[uri]
    assert told["http://127.0.0.1:9"].startswith("MLflow at http://127.0.0.1:9 could not be reached: ")
    assert "could not be reached" not in told["nothing://here"]


def test_a_percent_sign_in_the_path_of_mlflow_is_one_line() -> None:
    from alembic.config import Config

    with pytest.raises(UserError, match=r"MLflow cannot make its tables .* move /"), store.in_one_line():
        Config().set_main_option("script_location", "/100%/mlflow")


def test_a_reader_that_has_ended_is_no_error_of_the_store() -> None:
    with pytest.raises(BrokenPipeError), store.in_one_line():
        raise BrokenPipeError
