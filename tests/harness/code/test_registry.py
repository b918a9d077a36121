"""The registry's bookkeeping, in a real MLflow store in a file: aliases, history, the lock. No model is needed."""

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
import pytest
from my_experiment.harness.core import errors
from my_experiment.harness.core import stages
from my_experiment.harness.release import mutex
from my_experiment.harness.release import registry
from my_experiment.harness.release import versions
from my_experiment.harness.tracking import runs
from my_experiment.harness.tracking import store

Store = Any  # mlflow.MlflowClient


@pytest.fixture
def store(empty_store: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store of the test's own, in the working directory."""
    shutil.copy(empty_store, workspace / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{workspace / 'mlflow.db'}")
    return store.client()



def add(store: Store, count: int) -> None:
    """Registers versions 1 to `count`."""
    store.create_registered_model(versions.MODEL)
    for number in range(1, count + 1):
        tags = {"git_commit": f"{number}" * 40, "model_md5": f"{number}" * 32, "model_sha256": f"{number}" * 64}
        store.create_model_version(versions.MODEL, f"file:///{number}", f"{number}" * 32, tags)



def crown(store: Store, number: str) -> None:
    """Makes a version champion, as `promote` does after the gates."""
    with mutex.exclusive(store) as held:
        before = versions.aliases(store).get("champion")
        earlier = [*versions.champions_before(versions.version(store, before)), before] if before else []
        registry._move(store, number, earlier, held)



def champion(store: Store) -> str | None:
    found: str | None = versions.aliases(store).get("champion")
    return found



def test_rollback_goes_back_step_by_step(store: Store) -> None:
    add(store, 3)
    for number in "123":
        crown(store, number)
    assert registry.rollback().endswith("/2 is champion again instead of " + versions.MODEL + "/3")
    registry.rollback()
    assert champion(store) == "1"
    with pytest.raises(errors.UserError, match="the first champion"):
        registry.rollback()
    assert champion(store) == "1"



def test_rollback_ends_also_where_a_version_was_champion_twice(store: Store) -> None:
    add(store, 2)
    for number in "121":
        crown(store, number)
    assert [registry.rollback() and champion(store) for _ in range(2)] == ["2", "1"]
    with pytest.raises(errors.UserError, match="the first champion"):
        registry.rollback()



def test_rollback_passes_over_what_was_deleted(store: Store) -> None:
    add(store, 3)
    for number in "123":
        crown(store, number)
    store.delete_model_version(versions.MODEL, "2")
    registry.rollback()
    assert champion(store) == "1"



def test_without_a_champion_nothing_is_rolled_back(store: Store) -> None:
    with pytest.raises(errors.UserError, match=r"no version of .* is champion: see"):
        registry.rollback()



def test_a_lock_that_was_taken_away_moves_nothing(store: Store) -> None:
    add(store, 2)
    crown(store, "1")
    with pytest.raises(errors.UserError, match="taken away"), mutex.exclusive(store) as held:
        assert "is not any more" in mutex.unlock()
        registry._move(store, "2", ["1"], held)
    assert champion(store) == "1"
    crown(store, "2")  # the tag that was left behind does no harm
    registry.rollback()
    assert champion(store) == "1"
    assert mutex.unlock() == f"{versions.MODEL} is not locked"



def test_a_lock_whose_holder_died_is_named_with_the_way_out(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    add(store, 2)
    crown(store, "1")
    crown(store, "2")
    store.create_registered_model(mutex.LOCK, {"token": "x", "holder": "ann@host, process 7", "since": "yesterday"})
    monkeypatch.setattr(mutex, "WAIT", 0.2)
    with pytest.raises(errors.UserError, match=r"since yesterday by ann@host, process 7: .*registry unlock"):
        registry.rollback()
    assert champion(store) == "2"
    assert "ann@host, process 7" in mutex.unlock()
    registry.rollback()



def test_an_error_releases_the_lock(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), mutex.exclusive(store):
        raise ZeroDivisionError
    with mutex.exclusive(store):
        pass



def test_one_at_a_time(store: Store, workspace: Path) -> None:
    """Threads, each with connections of its own: it is the database that refuses; processes cost seconds of imports."""
    number = workspace / "number"
    number.write_text("0")

    def increase(_: int) -> None:
        with mutex.exclusive(store):
            number.write_text(str(int(number.read_text()) + 1))

    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(increase, range(12)))) == 12
    assert number.read_text() == "12"



def test_a_version_that_was_registered_otherwise_stops_nothing(store: Store) -> None:
    from my_experiment.harness.packaging import bento
    add(store, 1)
    other = store.create_model_version(versions.MODEL, "file:///2")  # as MLflow's page does
    first, second = registry.show().splitlines()[1:]
    assert first.split() == [f"{versions.MODEL}/2", "-", "-", "-", "-"]
    assert second.split()[2:] == ["1" * 12, "1" * 32, "1" * 12]
    store.set_model_version_tag(versions.MODEL, other.version, "model_md5", "1" * 32)
    assert versions.versions_of("1" * 32) == {f"{versions.MODEL}/2": "", f"{versions.MODEL}/1": "1" * 40}
    with pytest.raises(errors.UserError, match="/2 names no run"):
        versions.run_of(f"{versions.MODEL}/2")
    with pytest.raises(errors.UserError, match="/2 names no commit"):
        bento.build("2")



def test_only_a_run_that_is_not_there_is_none(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert runs.get("0" * 32) is None and runs.get("main") is None and runs.get("a b/../c") is None
    run = store.create_run("0")
    with pytest.raises(errors.UserError, match="no training of this pipeline"):
        runs.training_of(runs.get(run.info.run_id))



@pytest.mark.parametrize("name", ["{}/2", "{}@champion", "models:/{}/2", "models:/{}@champion"])
def test_a_version_is_found_by_its_names(store: Store, name: str) -> None:
    add(store, 2)
    crown(store, "2")
    assert versions.run_of(name.format(versions.MODEL)) == "2" * 32



def test_what_is_no_version_is_said(store: Store) -> None:
    add(store, 1)
    assert versions.run_of("main") is None
    assert versions.run_of("other/1") is None
    for name in ("7", "nobody"):
        with pytest.raises(errors.UserError, match=r"registry show"):
            versions.version(store, name)



def test_versions_are_listed_with_their_aliases(store: Store) -> None:
    assert "registry register" in registry.show()
    add(store, 2)
    crown(store, "1")
    crown(store, "2")
    head, second, first, before = registry.show().splitlines()
    assert head.split() == ["version", "aliases", "commit", "run", "model"]
    assert second.split()[:3] == [f"{versions.MODEL}/2", "champion", "2" * 12]
    assert first.split()[:2] == [f"{versions.MODEL}/1", "-"]
    assert before == "champions before, the latest last: 1"
    assert versions.versions_of("2" * 32) == {f"{versions.MODEL}/2 (champion)": "2" * 40}



def test_a_long_history_keeps_its_end(store: Store) -> None:
    add(store, 2)
    with mutex.exclusive(store) as held:
        registry._move(store, "2", ["1"] * 3000, held)
    assert len(json.loads(versions.version(store, "champion").tags[versions.BEFORE])) == 1000



@pytest.fixture
def run_main(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that fails, and gives what it says."""

    def run(*arguments: str, main: Callable[[], None] = registry.main) -> str:
        monkeypatch.setattr("sys.argv", ["registry", *arguments])
        with pytest.raises(SystemExit) as ended:
            stages.run(main)
        assert ended.value.code == 1
        return capsys.readouterr().err

    return run



def test_one_version_at_a_time_is_promoted(workspace: Path, run_main: Callable[..., str]) -> None:
    assert run_main("promote", "1", "2") == "error: promote one version at a time, not 1 and 2\n"



def test_a_store_that_is_away_is_one_line(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, run_main: Callable[..., str]
) -> None:
    from my_experiment.harness import lineage
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # "discard": nobody listens there
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for main, *arguments in ((registry.main, "show"), (lineage.main, "0" * 32)):
        said = run_main(*arguments, main=main)
        assert said.startswith("error: MLflow at http://127.0.0.1:9: ") and said.count("\n") == 1



