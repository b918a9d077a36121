"""The registry's bookkeeping, in a real MLflow store in a file: aliases, history, the lock. No model is needed."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from my_experiment.harness.core.errors import UserError
from my_experiment.harness.release import judge, mutex, registry, versions
from my_experiment.harness.tracking import runs, store

Client = Any  # mlflow.MlflowClient


@pytest.fixture
def client(empty_store: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Client:
    """A store of the test's own, in the working directory."""
    shutil.copy(empty_store, workspace / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{workspace / 'mlflow.db'}")
    return store.client()


def add(client: Client, count: int) -> None:
    """Registers versions 1 to `count`."""
    client.create_registered_model(versions.MODEL)
    for number in range(1, count + 1):
        tags = {"git_commit": f"{number}" * 40, "model_md5": f"{number}" * 32, "model_sha256": f"{number}" * 64}
        client.create_model_version(versions.MODEL, f"file:///{number}", f"{number}" * 32, tags)


def crown(client: Client, number: str) -> None:
    """Makes a version champion, as `promote` does after the gates."""
    with mutex.exclusive(client) as held:
        before = versions.aliases(client).get("champion")
        earlier = [*versions.champions_before(versions.version(client, before)), before] if before else []
        registry._move(client, number, earlier, held)


def champion(client: Client) -> str | None:
    return versions.aliases(client).get("champion")


def test_a_version_is_judged_with_its_decision_or_without(client: Client, tmp_path: Path) -> None:
    client.create_registered_model(versions.MODEL)
    experiment = client.create_experiment("x", artifact_location=f"file://{tmp_path}/artifacts")
    found = []
    for number, content in enumerate([None, {}, {"threshold": 0.3}]):
        run = client.create_run(experiment).info.run_id
        if content is not None:
            client.log_dict(run, content, "decision.json")
        version = client.create_model_version(versions.MODEL, f"file:///{number}", run)
        found.append(judge._decision(version, tmp_path))
    by_hand = client.create_model_version(versions.MODEL, "file:///4")
    assert [*found, judge._decision(by_hand, tmp_path)] == [{}, {}, {"threshold": 0.3}, {}]


def test_rollback_goes_back_step_by_step(client: Client) -> None:
    add(client, 3)
    for number in "123":
        crown(client, number)
    assert registry.rollback().endswith("/2 is champion again instead of " + versions.MODEL + "/3")
    registry.rollback()
    assert champion(client) == "1"
    with pytest.raises(UserError, match="has no previous champion"):
        registry.rollback()
    assert champion(client) == "1"


def test_rollback_ends_also_where_a_version_was_champion_twice(client: Client) -> None:
    add(client, 2)
    for number in "121":
        crown(client, number)
    assert [registry.rollback() and champion(client) for _ in range(2)] == ["2", "1"]
    with pytest.raises(UserError, match="has no previous champion"):
        registry.rollback()


def test_rollback_passes_over_what_was_deleted(client: Client) -> None:
    add(client, 3)
    for number in "123":
        crown(client, number)
    client.delete_model_version(versions.MODEL, "2")
    registry.rollback()
    assert champion(client) == "1"


def test_without_a_champion_nothing_is_rolled_back(client: Client) -> None:
    with pytest.raises(UserError, match=r"no version of .* is champion: see"):
        registry.rollback()


def test_a_job_that_runs_again_finds_the_champion_promoted(client: Client) -> None:
    add(client, 2)
    crown(client, "1")
    assert registry.promote(versions.CHALLENGER, judge.read_gates([])).endswith("/1 is champion")


def test_a_lock_that_was_taken_away_moves_nothing(client: Client) -> None:
    add(client, 2)
    crown(client, "1")
    with pytest.raises(UserError, match="removed the lock"), mutex.exclusive(client) as held:
        assert "the lock is removed" in mutex.unlock()
        registry._move(client, "2", ["1"], held)
    assert champion(client) == "1"
    crown(client, "2")  # the tag that was left behind does no harm
    registry.rollback()
    assert champion(client) == "1"
    assert mutex.unlock() == f"{versions.MODEL} is not locked"


def test_a_lock_whose_holder_died_is_named_with_the_way_out(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    add(client, 2)
    crown(client, "1")
    crown(client, "2")
    client.create_registered_model(mutex.LOCK, {"token": "x", "holder": "ann@host, process 7", "since": "yesterday"})
    monkeypatch.setattr(mutex, "WAIT", 0.2)
    with pytest.raises(UserError, match=r"since yesterday by ann@host, process 7: .*registry unlock"):
        registry.rollback()
    assert champion(client) == "2"
    assert "ann@host, process 7" in mutex.unlock()
    registry.rollback()


def test_an_error_releases_the_lock(client: Client) -> None:
    with pytest.raises(ZeroDivisionError), mutex.exclusive(client):
        raise ZeroDivisionError
    with mutex.exclusive(client):
        pass


def test_one_at_a_time(client: Client, workspace: Path) -> None:
    """Threads, each with connections of its own: it is the database that refuses; processes cost seconds of imports."""
    number = workspace / "number"
    number.write_text("0")

    def increase(_: int) -> None:
        with mutex.exclusive(client):
            number.write_text(str(int(number.read_text()) + 1))

    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(increase, range(12)))) == 12
    assert number.read_text() == "12"


def test_a_version_that_was_registered_otherwise_stops_nothing(client: Client) -> None:
    from my_experiment.harness.packaging import bento

    add(client, 1)
    other = client.create_model_version(versions.MODEL, "file:///2")  # as MLflow's page does
    first, second = registry.show().splitlines()[1:]
    assert first.split() == [f"{versions.MODEL}/2", "-", "-", "-", "-"]
    assert second.split()[2:] == ["1" * 12, "1" * 32, "1" * 12]
    client.set_model_version_tag(versions.MODEL, other.version, "model_md5", "1" * 32)
    assert versions.versions_of("1" * 32) == {f"{versions.MODEL}/2": "", f"{versions.MODEL}/1": "1" * 40}
    with pytest.raises(UserError, match="/2 has no run"):
        versions.run_of(f"{versions.MODEL}/2")
    with pytest.raises(UserError, match="/2 has no commit"):
        bento.build("2")


def test_only_a_run_that_is_not_there_is_none(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    assert runs.get("0" * 32) is None and runs.get("main") is None and runs.get("a b/../c") is None
    run = client.create_run("0")
    with pytest.raises(UserError, match="not a training of this pipeline"):
        runs.training_of(run)


@pytest.mark.parametrize("name", ["{}/2", "{}@champion", "models:/{}/2", "models:/{}@champion"])
def test_a_version_is_found_by_its_names(client: Client, name: str) -> None:
    add(client, 2)
    crown(client, "2")
    assert versions.run_of(name.format(versions.MODEL)) == "2" * 32


def test_what_is_no_version_is_said(client: Client) -> None:
    add(client, 1)
    assert versions.run_of("main") is None
    assert versions.run_of("other/1") is None
    for name in ("7", "nobody"):
        with pytest.raises(UserError, match=r"registry show"):
            versions.version(client, name)


def test_versions_are_listed_with_their_aliases(client: Client) -> None:
    assert "registry register" in registry.show()
    add(client, 2)
    crown(client, "1")
    crown(client, "2")
    head, second, first, before = registry.show().splitlines()
    assert head.split() == ["version", "aliases", "commit", "run", "model"]
    assert second.split()[:3] == [f"{versions.MODEL}/2", "champion", "2" * 12]
    assert first.split()[:2] == [f"{versions.MODEL}/1", "-"]
    assert before == "previous champions, the latest last: 1"
    assert versions.versions_of("2" * 32) == {f"{versions.MODEL}/2 (champion)": "2" * 40}


def test_a_long_history_keeps_its_end(client: Client) -> None:
    add(client, 2)
    with mutex.exclusive(client) as held:
        registry._move(client, "2", ["1"] * 3000, held)
    assert len(json.loads(versions.version(client, "champion").tags[versions.BEFORE])) == 1000


def test_versions_are_shown_by_the_command(client: Client) -> None:
    add(client, 1)
    done = CliRunner().invoke(registry.command, ["show"], catch_exceptions=False)
    assert done.output == registry.show() + "\n"


def test_one_version_at_a_time_is_promoted(workspace: Path) -> None:
    with pytest.raises(UserError, match=r"^promote one version at a time, not 1 and 2$"):
        CliRunner().invoke(registry.command, ["promote", "1", "2"], catch_exceptions=False)


@pytest.mark.parametrize("arguments", [["registry", "show"], ["lineage", "0" * 32], ["log", "--find", "key", "model"]])
def test_a_store_that_is_away_is_one_line(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    from my_experiment.harness import lineage
    from my_experiment.harness.tracking import log

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # "discard": nobody listens there
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    commands: dict[str, click.Command] = {"registry": registry.command, "lineage": lineage.command, "log": log.command}
    name, *rest = arguments
    with pytest.raises(UserError, match=r"^MLflow at http://127\.0\.0\.1:9 could not be reached: ") as error:
        CliRunner().invoke(commands[name], rest, catch_exceptions=False)
    assert "\n" not in str(error.value)
