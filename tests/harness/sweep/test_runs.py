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

PROCESSES = 8
STARTED = datetime(2025, 1, 2, 3, 4, 5)


def study(name: str = "digits", *metrics: str) -> Any:
    """A study in the working directory; the same one when asked for again."""
    from my_experiment.harness.sweep import study as studies
    return studies.create(name, metrics or ["val_accuracy"], {})



def add(to: Any, state: str = "COMPLETE", score: float = 0.5, epochs: int = 3, **attributes: Any) -> None:
    """Adds a finished trial that took a minute, as a worker leaves it."""
    import optuna

    number = len(to.trials)
    trial = optuna.trial.create_trial(
        state=optuna.trial.TrialState[state],
        values=[score, 2.0][: len(to.directions)] if state == "COMPLETE" else None,
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
    to.add_trial(trial)



def logged(**tags: str) -> list[Any]:
    """The runs in the store with these tags, by trial."""
    tracking = module("tracking")
    store = tracking.client()
    wanted = " and ".join(f"tags.{name} = '{value}'" for name, value in tags.items())
    runs = store.search_runs([tracking.experiment(store)], wanted, max_results=1000)
    return sorted(runs, key=lambda run: int(run.data.tags.get("trial", -1)))



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
    runs, tracking = module("sweep.runs"), module("tracking")
    made = study()
    made.set_user_attr("data_md5", "aa.dir")
    add(made)
    add(made, "PRUNED", epochs=1)
    add(made, "FAIL", error="the loss became NaN", history=[{"loss": float("nan")}], scores={})
    add(made, "FAIL", seed=None, history=[], parameters={})
    made.ask()  # still running
    runs.sync(made)
    parent, *children = logged(sweep="digits")
    assert parent.info.run_name == "digits"
    assert made.user_attrs["mlflow_run"] == parent.info.run_id
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
    epochs = tracking.client().get_metric_history(best.info.run_id, "val_accuracy")
    assert [(epoch.step, epoch.value) for epoch in epochs] == [(0, 0), (1, 0.1), (2, 0.2)]



def test_it_is_logged_once(fresh: Path) -> None:
    runs = module("sweep.runs")
    made = study()
    runs.sync(made)
    assert not (fresh / "mlflow.db").exists()  # nothing is finished
    add(made)
    runs.sync(made)
    before = [run.info.run_id for run in logged(sweep="digits")]
    made.set_user_attr("mlflow_logged", [])  # as if killed before it was noted
    add(made)
    runs.sync(made)
    runs.sync(made)
    after = [run.info.run_id for run in logged(sweep="digits")]
    assert (len(before), len(after)) == (2, 3)
    assert after[:2] == before



def test_long_trials_keep_to_the_limits_of_one_call(store: Path) -> None:
    from my_experiment.harness.sweep import runs
    from my_experiment.harness.tracking import store as tracking_store
    made = study()
    parameters = {f"model.layer_{index}": "x" * 7000 for index in range(250)}
    add(made, epochs=700, parameters=parameters, error="y" * 9000)
    runs.sync(made)
    run = logged(trial="0")[0]
    assert len(run.data.params) == 251
    assert {len(value) for name, value in run.data.params.items() if name != "model"} == {6000}
    assert len(tracking_store.client().get_metric_history(run.info.run_id, "loss")) == 700



def test_repetitions_are_children_of_the_same_run(store: Path) -> None:
    runs = module("sweep.runs")
    made, repeats = study(), study("digits-seeds")
    add(made, score=0.75)
    add(made, score=0.5)
    for seed, score in enumerate((0.25, 0.5)):
        add(repeats, score=score, repeat_of=0, seed=seed)
        add(repeats, score=score + 0.25, repeat_of=1, seed=seed)
    runs.finish(made, repeats, store)
    parent, *children = logged(sweep="digits")
    repetitions = logged(sweep="digits-seeds")
    assert len(children) == 2
    assert [run.data.tags["repeat_of"] for run in repetitions] == ["0", "1", "0", "1"]
    assert {run.data.tags["mlflow.parentRunId"] for run in (*children, *repetitions)} == {parent.info.run_id}
    # Over seeds the second is better than the one that was lucky in the search.
    assert (parent.data.tags["best_trial"], parent.data.metrics["mean_val_accuracy"]) == ("1", 0.625)
    assert parent.data.metrics["low_val_accuracy"] < 0.625 < parent.data.metrics["high_val_accuracy"]



def test_the_end_is_logged_and_can_be_logged_again(store: Path) -> None:
    runs, report, tracking = module("sweep.runs"), module("sweep.report"), module("tracking")
    made, folder = study(), store / "sweep"
    folder.mkdir()
    add(made, score=0.5)
    for score, best, overrides in ((0.25, "0", "model=cnn train.seed=0"), (0.75, "2", "model=cnn train.seed=2")):
        add(made, score=score)
        report.write_csv(made, folder / "trials.csv")
        runs.finish(made, None, folder)
        parent = logged(sweep="digits")[0]
        assert parent.info.status == "FINISHED"
        assert parent.data.metrics["best_val_accuracy"] == max(0.5, score)
        assert (parent.data.tags["best_trial"], parent.data.tags["best_overrides"]) == (best, overrides)
        assert "rank  trial  val_accuracy" in parent.data.tags["mlflow.note.content"]
        files = tracking.client().list_artifacts(parent.info.run_id, "sweep")
        assert [file.path for file in files] == ["sweep/trials.csv"]  # and no lock
    assert len(logged(sweep="digits")) == 4



def test_a_stopped_sweep_runs_again_when_it_goes_on(store: Path) -> None:
    runs = module("sweep.runs")
    made = study()
    assert not runs.stop_or_warn(made)  # nothing is logged yet
    found = []
    for go_on in (runs.stop_or_warn, runs.sync, runs.stop_or_warn, lambda made: runs.finish(made, None, store)):
        add(made)
        runs.sync(made)
        add(made)
        go_on(made)
        found.append(logged(sweep="digits")[0].info.status)
    assert found == ["KILLED", "RUNNING", "KILLED", "FINISHED"]



def test_the_pictures_are_files_of_the_sweeps_run(store: Path) -> None:
    from my_experiment.harness.tracking import store as tracking_store
    import optuna

    runs, report = module("sweep.runs"), module("sweep.report")
    made, folder = study(), store / "sweep"
    interval: Any = optuna.distributions.FloatDistribution(0, 1)
    for number in range(report.ENOUGH):
        made.add_trial(
            optuna.trial.create_trial(
                value=number / 10,
                params={"train.a": number / 10, "model.b": number * 7 % 10 / 10},
                distributions={"train.a": interval, "model.b": interval},
                user_attrs={"history": [{"val_accuracy": number / 10}]},
            )
        )
    report.write(made, None, folder)
    runs.finish(made, None, folder)
    pictures = {"history.png", "importances.png", "parallel_coordinates.png", "slices.png", "learning_curves.png"}
    assert {file.name for file in folder.iterdir()} == {*pictures, "trials.csv"}
    files = tracking_store.client().list_artifacts(logged(sweep="digits")[0].info.run_id, "sweep")
    assert {file.path for file in files} == {f"sweep/{file.name}" for file in folder.iterdir()}



def test_of_two_objectives_the_front_is_logged(store: Path) -> None:
    from my_experiment.harness.sweep import runs
    made = study("digits", "val_accuracy", "latency")
    add(made, score=0.5)
    add(made, score=0.75)
    runs.finish(made, None, store)
    assert logged(sweep="digits")[0].data.tags["pareto_front"] == "1"



def test_a_sweep_without_a_finished_trial_ends(store: Path) -> None:
    from my_experiment.harness.sweep import runs
    runs.finish(study(), None, store)
    assert "no trial is complete" in logged(sweep="digits")[0].data.tags["mlflow.note.content"]



def test_a_deleted_study_of_the_same_name_is_another_sweep(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from my_experiment.harness.sweep import runs
    for storage in ("sqlite:///a.db", "b.log"):
        monkeypatch.setenv("OPTUNA_STORAGE", storage)
        made = study()
        add(made)
        runs.sync(made)
    assert len(logged(sweep="digits", trial="0")) == 2
    assert len({run.data.tags["mlflow.parentRunId"] for run in logged(sweep="digits", trial="0")}) == 2



def test_children_of_a_deleted_run_get_a_new_one(store: Path) -> None:
    from my_experiment.harness.tracking import store as tracking_store
    runs = module("sweep.runs")
    made = study()
    add(made)
    runs.sync(made)
    old = made.user_attrs["mlflow_run"]
    tracking_store.client().delete_run(old)
    runs.finish(made, None, store)
    parent, child = logged(sweep="digits")
    assert parent.info.run_id != old
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id



def test_the_runs_of_a_sweep_are_no_training(store: Path) -> None:
    from my_experiment.harness.sweep import runs
    made = study()
    add(made)
    runs.finish(made, None, store)
    for run in logged(sweep="digits"):
        assert not {"training_key", "model_md5", "dvc_exp_name"} & set(run.data.tags)



def test_a_server_that_is_away_costs_one_warning(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = module("sweep.runs")
    made = study()
    add(made)
    there = os.environ["MLFLOW_TRACKING_URI"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert not runs.sync_or_warn(made)
    said = capsys.readouterr().err
    assert said.startswith("warning: MLflow at http://127.0.0.1:9 could not be reached")
    assert len(said.splitlines()) == 2
    monkeypatch.setenv("MLFLOW_TRACKING_URI", there)
    add(made)
    assert runs.sync_or_warn(made)
    assert [run.data.tags["trial"] for run in logged(sweep="digits")[1:]] == ["0", "1"]



def enter(folder: Path) -> None:
    """Does for a new process what the fixture does: it starts where, and with the environment that, pytest started."""
    os.chdir(folder)
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder / 'mlflow.db'}"



def dies(folder: Path, call: int) -> None:
    """Logs the end of a sweep, and dies before this call to one of the two stores."""
    from my_experiment.harness.sweep import runs
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
    runs.finish(study(), study("digits-seeds"), Path("sweep"))



def meets(folder: Path, index: int, barrier: Any) -> None:
    """Logs a sweep at the same moment as others."""
    from my_experiment.harness.sweep import runs
    enter(folder)
    made = study(f"sweep-{index % (PROCESSES - 1)}")
    barrier.wait()
    runs.finish(made, None, Path(made.study_name))



def processes() -> Any:
    """Makes processes that need not import MLflow one by one: that takes 3 s each."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mlflow", "optuna"])
    return context



@pytest.mark.slow
def test_killed_before_any_call_the_next_one_completes(store: Path) -> None:
    from my_experiment.harness.tracking import store as tracking_store
    (store / "sweep").mkdir()
    (store / "sweep" / "trials.csv").write_text("number\n0\n", encoding="utf-8")
    add(study())
    add(study(), "PRUNED", parameters={f"train.p{index}": 0 for index in range(120)})
    add(study("digits-seeds"), repeat_of=0, seed=1)
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
        assert len(tracking_store.client().get_metric_history(run.info.run_id, "loss")) == 3



@pytest.mark.slow
def test_sweeps_that_meet_on_a_fresh_store_lose_nothing(fresh: Path) -> None:
    for index in range(PROCESSES - 1):  # two of the processes share a study
        for _ in range(3):
            add(study(f"sweep-{index}"))
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



