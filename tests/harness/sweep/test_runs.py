"""A sweep in MLflow: a real store in a file, real studies, processes that are killed and that meet on a fresh store."""

import itertools
import multiprocessing
import os
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from my_experiment.harness.sweep import report, runs, samplers, trials
from my_experiment.harness.sweep import study as studies
from my_experiment.harness.tracking import store as mlflow_store

PROCESSES = 8
STARTED = datetime(2025, 1, 2, 3, 4, 5)


def open_study(name: str = "digits", *metrics: str) -> Any:
    """A study in the working directory; the same one when asked for again."""
    directions: dict[str, samplers.Direction] = {"val_accuracy": "maximize", "latency": "minimize"}
    return studies.create(name, {metric: directions[metric] for metric in metrics or ["val_accuracy"]}, {})


def add(study: Any, state: str = "COMPLETE", score: float = 0.5, epochs: int = 3, **attributes: Any) -> None:
    """Adds a finished trial that took a minute, as a worker leaves it."""
    import optuna

    number = len(study.trials)
    trial = optuna.trial.create_trial(
        state=optuna.trial.TrialState[state],
        values=[score, 2.0][: len(study.directions)] if state == "COMPLETE" else None,
        params={"model": "cnn"},
        distributions={"model": optuna.distributions.CategoricalDistribution(("cnn", "mlp"))},
        user_attrs={
            "overrides": ["model=cnn", f"train.seed={number}"],
            "parameters": {"train.seed": number, "model.units": [8, 4], "train.limit": None},
            "history": [{"loss": 1 / (epoch + 1), "val_accuracy": epoch / 10} for epoch in range(epochs)],
            "scores": {"val_accuracy": score, "val_loss": 0.25, "latency": 2.0} if state == "COMPLETE" else {},
            "seed": number,
            "seconds": 1.5,
            **attributes,
        },
    )
    trial.datetime_start, trial.datetime_complete = STARTED, STARTED + timedelta(minutes=1)
    study.add_trial(trial)


def logged(**tags: str) -> list[Any]:
    """The runs in the store with these tags, by trial."""
    client = mlflow_store.client()
    condition = " and ".join(f"tags.{name} = '{value}'" for name, value in tags.items())
    matching = client.search_runs([mlflow_store.experiment(client)], condition, max_results=1000)
    return sorted(matching, key=lambda run: int(run.data.tags.get("trial", -1)))


@pytest.fixture
def fresh(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory; MLflow's store will be there, and nobody has opened it yet."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{workspace / 'mlflow.db'}")
    monkeypatch.delenv("OPTUNA_STORAGE", raising=False)
    return workspace


@pytest.fixture
def store(fresh: Path, empty_store: Path) -> Path:
    """The working directory, with a store in it."""
    shutil.copy(empty_store, fresh / "mlflow.db")
    return fresh


def test_every_finished_trial_becomes_a_run(store: Path) -> None:
    study = open_study()
    study.set_user_attr("data_md5", "aa.dir")
    add(study)
    add(study, "PRUNED", epochs=1)
    add(study, "FAIL", error="the loss became NaN", history=[{"loss": float("nan")}], scores={})
    add(study, "FAIL", seed=None, history=[], parameters={})
    study.ask()  # still running
    runs.sync(study)
    parent, *children = logged(sweep="digits")
    assert parent.info.run_name == "digits"
    assert study.user_attrs["mlflow_run"] == parent.info.run_id
    assert [child.info.status for child in children] == ["FINISHED", "KILLED", "FAILED", "FAILED"]
    assert [child.data.tags["state"] for child in children] == ["complete", "pruned", "failed", "failed"]
    assert {child.data.tags["mlflow.parentRunId"] for child in children} == {parent.info.run_id}
    assert {run.data.tags["data_md5"] for run in (parent, *children)} == {"aa.dir"}
    assert [child.data.tags.get("seed") for child in children] == ["0", "1", "2", None]
    assert [child.data.tags.get("error") for child in children[1:]] == [
        None,
        "the loss became NaN",
        "its worker was stopped or died",
    ]
    best = children[0]
    assert best.data.params == {"model": "cnn", "train.seed": "0", "model.units": "[8, 4]", "train.limit": "None"}
    assert best.data.metrics == pytest.approx(
        {
            "loss": 1 / 3,
            "val_accuracy": 0.2,
            "best_val_accuracy": 0.5,
            "best_val_loss": 0.25,
            "latency": 2,
            "seconds": 1.5,
        }
    )
    assert best.info.start_time == round(STARTED.timestamp() * 1000)
    assert best.info.end_time - best.info.start_time == 60_000
    epochs = mlflow_store.client().get_metric_history(best.info.run_id, "val_accuracy")
    assert [(epoch.step, epoch.value) for epoch in epochs] == [(0, 0), (1, 0.1), (2, 0.2)]


def test_it_is_logged_once(fresh: Path) -> None:
    study = open_study()
    runs.sync(study)
    assert not (fresh / "mlflow.db").exists()  # nothing is finished
    add(study)
    runs.sync(study)
    before = [run.info.run_id for run in logged(sweep="digits")]
    study.set_user_attr("mlflow_logged", [])  # as if killed before it was noted
    add(study)
    runs.sync(study)
    runs.sync(study)
    after = [run.info.run_id for run in logged(sweep="digits")]
    assert (len(before), len(after)) == (2, 3)
    assert after[:2] == before


def test_long_trials_keep_to_the_limits_of_one_call(store: Path) -> None:
    study = open_study()
    parameters = {f"model.layer_{index}": "x" * 7000 for index in range(250)}
    add(study, epochs=700, parameters=parameters, error="y" * 9000)
    runs.sync(study)
    run = logged(trial="0")[0]
    assert len(run.data.params) == 251
    assert {len(value) for name, value in run.data.params.items() if name != "model"} == {6000}
    assert len(mlflow_store.client().get_metric_history(run.info.run_id, "loss")) == 700


def test_repetitions_are_children_of_the_same_run(store: Path) -> None:
    study, repeats = open_study(), open_study("digits-seeds")
    add(study, score=0.75)
    add(study, score=0.5)
    for seed, score in enumerate((0.25, 0.5)):
        add(repeats, score=score, repeat_of=0, seed=seed)
        add(repeats, score=score + 0.25, repeat_of=1, seed=seed)
    runs.finish(study, repeats, store)
    parent, *children = logged(sweep="digits")
    repetitions = logged(sweep="digits-seeds")
    assert len(children) == 2
    assert [run.data.tags["repeat_of"] for run in repetitions] == ["0", "1", "0", "1"]
    assert {run.data.tags["mlflow.parentRunId"] for run in (*children, *repetitions)} == {parent.info.run_id}
    # Over seeds the second is better than the one that was lucky in the search.
    assert (parent.data.tags["best_trial"], parent.data.metrics["mean_val_accuracy"]) == ("1", 0.625)
    assert parent.data.metrics["low_val_accuracy"] < 0.625 < parent.data.metrics["high_val_accuracy"]


def test_the_result_is_logged_and_can_be_logged_again(store: Path) -> None:
    study, folder = open_study(), store / "sweep"
    folder.mkdir()
    add(study, score=0.5)
    for score, best, overrides in ((0.25, "0", "model=cnn train.seed=0"), (0.75, "2", "model=cnn train.seed=2")):
        add(study, score=score)
        report.write_csv(study, folder / "trials.csv")
        runs.finish(study, None, folder)
        parent = logged(sweep="digits")[0]
        assert parent.info.status == "FINISHED"
        assert parent.data.metrics["best_val_accuracy"] == max(0.5, score)
        assert (parent.data.tags["best_trial"], parent.data.tags["best_overrides"]) == (best, overrides)
        assert "rank  trial  val_accuracy" in parent.data.tags["mlflow.note.content"]
        files = mlflow_store.client().list_artifacts(parent.info.run_id, "sweep")
        assert [file.path for file in files] == ["sweep/trials.csv"]  # and no lock
    assert len(logged(sweep="digits")) == 4


def test_a_stopped_sweep_is_marked_as_running_when_it_continues(store: Path) -> None:
    study = open_study()
    assert not runs.stop_or_warn(study)  # nothing is logged yet
    statuses = []
    for go_on in (runs.stop_or_warn, runs.sync, runs.stop_or_warn, lambda study: runs.finish(study, None, store)):
        add(study)
        runs.sync(study)
        add(study)
        go_on(study)
        statuses.append(logged(sweep="digits")[0].info.status)
    assert statuses == ["KILLED", "RUNNING", "KILLED", "FINISHED"]


def test_pictures_are_artifacts_of_the_sweeps_run(store: Path) -> None:
    import optuna

    study, folder = open_study(), store / "sweep"
    interval: Any = optuna.distributions.FloatDistribution(0, 1)
    for number in range(trials.MIN_COMPLETE):
        study.add_trial(
            optuna.trial.create_trial(
                value=number / 10,
                params={"train.a": number / 10, "model.b": number * 7 % 10 / 10},
                distributions={"train.a": interval, "model.b": interval},
                user_attrs={"history": [{"val_accuracy": number / 10}]},
            )
        )
    report.write(study, None, folder)
    runs.finish(study, None, folder)
    pictures = {"history.png", "importances.png", "parallel_coordinates.png", "slices.png", "learning_curves.png"}
    assert {file.name for file in folder.iterdir()} == {*pictures, "trials.csv"}
    files = mlflow_store.client().list_artifacts(logged(sweep="digits")[0].info.run_id, "sweep")
    assert {file.path for file in files} == {f"sweep/{file.name}" for file in folder.iterdir()}


def test_with_two_objectives_the_front_is_logged(store: Path) -> None:
    study = open_study("digits", "val_accuracy", "latency")
    add(study, score=0.5)
    add(study, score=0.75)
    runs.finish(study, None, store)
    assert logged(sweep="digits")[0].data.tags["pareto_front"] == "1"


def test_a_sweep_without_a_finished_trial_ends(store: Path) -> None:
    runs.finish(open_study(), None, store)
    assert "no trial is complete" in logged(sweep="digits")[0].data.tags["mlflow.note.content"]


def test_a_study_with_the_name_of_a_deleted_one_is_another_sweep(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for storage in ("sqlite:///a.db", "b.log"):
        monkeypatch.setenv("OPTUNA_STORAGE", storage)
        study = open_study()
        add(study)
        runs.sync(study)
    assert len(logged(sweep="digits", trial="0")) == 2
    assert len({run.data.tags["mlflow.parentRunId"] for run in logged(sweep="digits", trial="0")}) == 2


def test_children_of_a_deleted_run_get_a_new_one(store: Path) -> None:
    study = open_study()
    add(study)
    runs.sync(study)
    old = study.user_attrs["mlflow_run"]
    mlflow_store.client().delete_run(old)
    runs.finish(study, None, store)
    parent, child = logged(sweep="digits")
    assert parent.info.run_id != old
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id


def test_runs_of_a_sweep_have_no_tags_of_a_training(store: Path) -> None:
    study = open_study()
    add(study)
    runs.finish(study, None, store)
    for run in logged(sweep="digits"):
        assert not {"training_key", "model_md5", "dvc_exp_name"} & set(run.data.tags)


def test_an_unreachable_server_is_one_warning(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = open_study()
    add(study)
    there = os.environ["MLFLOW_TRACKING_URI"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert not runs.sync_or_warn(study)
    said = capsys.readouterr().err
    assert said.startswith("warning: trials are not logged: MLflow at http://127.0.0.1:9 could not be reached: ")
    assert len(said.splitlines()) == 2
    monkeypatch.setenv("MLFLOW_TRACKING_URI", there)
    add(study)
    assert runs.sync_or_warn(study)
    assert [run.data.tags["trial"] for run in logged(sweep="digits")[1:]] == ["0", "1"]


def enter(folder: Path) -> None:
    """Does for a new process what the fixture does: it starts where, and with the environment that, pytest started."""
    os.chdir(folder)
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder / 'mlflow.db'}"


def dies(folder: Path, call: int) -> None:
    """Logs the end of a sweep, and dies before this call to one of the two stores."""
    enter(folder)
    import mlflow
    import optuna

    counter = itertools.count()

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **named: Any) -> Any:
            if next(counter) == call:
                os._exit(9)
            return function(*arguments, **named)

        return wrapper

    for name in ("create_run", "log_batch", "set_terminated", "log_artifact"):
        setattr(mlflow.MlflowClient, name, counted(getattr(mlflow.MlflowClient, name)))
    optuna.Study.set_user_attr = counted(optuna.Study.set_user_attr)  # type: ignore[method-assign]
    runs.finish(open_study(), open_study("digits-seeds"), Path("sweep"))


def meets(folder: Path, index: int, barrier: Any) -> None:
    """Logs a sweep at the same moment as others."""
    enter(folder)
    study = open_study(f"sweep-{index % (PROCESSES - 1)}")
    barrier.wait()
    runs.finish(study, None, Path(study.study_name))


def processes() -> Any:
    """Makes processes that need not import MLflow one by one: that takes 3 s each."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mlflow", "optuna"])
    return context


def test_a_killed_process_is_completed_by_the_next(store: Path) -> None:
    (store / "sweep").mkdir()
    (store / "sweep" / "trials.csv").write_text("number\n0\n", encoding="utf-8")
    add(open_study())
    add(open_study(), "PRUNED", parameters={f"train.p{index}": 0 for index in range(120)})
    add(open_study("digits-seeds"), repeat_of=0, seed=1)
    for call in range(40):
        process = processes().Process(target=dies, args=(store, call))
        process.start()
        process.join(60)
        if process.exitcode == 0:
            break
        assert process.exitcode == 9
    assert process.exitcode == 0
    assert call > 5  # each time fewer are left
    parent, first, second = logged(sweep="digits")
    (repetition,) = logged(sweep="digits-seeds")
    assert [run.info.status for run in (parent, first, second, repetition)] == [
        "FINISHED",
        "FINISHED",
        "KILLED",
        "FINISHED",
    ]
    assert len(second.data.params) == 121
    for run in (first, second, repetition):
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert len(mlflow_store.client().get_metric_history(run.info.run_id, "loss")) == 3


def test_sweeps_on_a_fresh_store_lose_nothing(fresh: Path) -> None:
    for index in range(PROCESSES - 1):  # two of the processes share a study
        for _ in range(3):
            add(open_study(f"sweep-{index}"))
    context = processes()
    barrier = context.Barrier(PROCESSES)
    started = [context.Process(target=meets, args=(fresh, index, barrier)) for index in range(PROCESSES)]
    for process in started:
        process.start()
    for process in started:
        process.join(120)
    assert [process.exitcode for process in started] == [0] * PROCESSES
    for index in range(PROCESSES - 1):
        parent, *children = logged(sweep=f"sweep-{index}")
        assert [run.data.tags["trial"] for run in children] == ["0", "1", "2"]
        assert {run.info.status for run in (parent, *children)} == {"FINISHED"}
