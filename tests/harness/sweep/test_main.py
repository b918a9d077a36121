"""A sweep from its command line to its experiment, with workers that do not train."""

import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from my_experiment.harness.core import config
from my_experiment.harness.core.errors import UserError
from my_experiment.harness.core.paths import SOURCES
from my_experiment.harness.sweep import experiment, main, plan, report, trials
from my_experiment.harness.sweep import study as studies
from my_experiment.harness.sweep.launchers import local, process
from my_experiment.harness.sweep.settings import Sweep

LOCAL = {"_target_": "my_experiment.harness.sweep.launchers.local.launch"}


@pytest.fixture(autouse=True)
def _fast_in_workspace(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPTUNA_STORAGE", raising=False)
    monkeypatch.setattr(main, "WAIT_SECONDS", 0.01)
    monkeypatch.setattr(main, "WATCH_SECONDS", 0.01)


def new_study(budget: int, name: str = "s") -> Any:
    """A study whose trials have no parameters."""
    study = studies.create(name, {"val_loss": "minimize"}, {"sampler": "random", "seed": 0, "fixed": [], "space": {}})
    study.set_user_attr("budget", budget)
    return study


def parameters(*overrides: str) -> dict[str, Any]:
    """The configuration of a trial with these overrides."""
    return experiment.composed(overrides)


def works(monkeypatch: pytest.MonkeyPatch, work: Callable[[Any], Any]) -> None:
    """Makes the launcher `local` start a worker that calls `work` with each trial; a text from it is its loss."""

    def launcher(_: Any, folder: Path) -> list[str]:
        study, worker = studies.load(folder.name), uuid.uuid4().hex
        with studies.worker_lock(folder.name, worker):
            while trial := studies.claim(study, worker):
                if reason := work(trial):
                    return [reason]
                study.tell(trial, trial.number / 10)
        return []

    monkeypatch.setattr(local, "launch", launcher)


def test_the_environment_of_a_worker_is_that_of_the_stage_train(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    variables = {"OPENBLAS_CORETYPE": "Sandybridge", "PYTHONHASHSEED": "0"}
    variables["NPY_DISABLE_CPU_FEATURES"] = "X86_V4,AVX512_ICL,AVX512_SPR"
    assert process.train_variables() == variables | {"MALLOC_ARENA_MAX": "1"}
    path = f"{SOURCES}{os.pathsep}elsewhere"
    assert process.train_environment() == {"PYTHONPATH": path, **variables, "MALLOC_ARENA_MAX": "1"}
    text = Path("dvc.yaml").read_text(encoding="utf-8")
    Path("dvc.yaml").write_text(text.replace("MALLOC_ARENA_MAX=1", "XLA_FLAGS='--a --b=1'"), encoding="utf-8")
    assert process.train_variables() == variables | {"XLA_FLAGS": "--a --b=1"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sweep=tpe", "sweep.metrics=[val_loss,latency]"], "sweep.pruner: trials are pruned by one metric only"),
        (["train/strategy=multi_worker"], "train/strategy: one worker trains a trial"),
    ],
)
def test_unsupported_combinations_are_rejected(arguments: list[str], message: str) -> None:
    model = [] if "strategy" in config.compose() else ["model=mlp"]
    with pytest.raises(UserError) as error:
        plan.read([*model, *arguments])
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_a_trial_that_kills_its_workers_does_not_end_the_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    study = new_study(budget=2)
    studies.enqueue(study, {"good": {}, "bad": {}})
    works(monkeypatch, lambda trial: "killed" if trial.user_attrs["plan_key"] == "bad" else None)
    main.attend(study, LOCAL)
    states = [trial.state.name for trial in study.get_trials()]
    assert states.count("COMPLETE") == 1 and states.count("FAIL") == studies.ATTEMPTS
    assert studies.remaining(study) == 0


def test_workers_that_claim_no_trial_end_the_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "launch", lambda work, folder: ["no memory"])
    with pytest.raises(UserError, match=r"^no worker could claim a trial: no memory$"):
        main.attend(new_study(budget=1), LOCAL)


def test_no_worker_is_started_for_trials_of_other_workers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study, output = new_study(budget=1), ""
    monkeypatch.delattr(local, "launch")
    with studies.worker_lock("s", "other"):
        trial = studies.claim(study, "other")
        thread = threading.Thread(target=main.attend, args=(studies.load("s"), LOCAL))
        thread.start()
        deadline = time.monotonic() + 60
        while "waiting" not in (output := output + capsys.readouterr().err):
            assert thread.is_alive() and time.monotonic() < deadline
            time.sleep(0.01)  # between two looks at the condition
        study.tell(trial, 0.5)
        thread.join()
    assert output + capsys.readouterr().err == "sweep s: waiting for 1 trial of other workers\n"


def test_an_interrupted_sweep_prints_the_trials_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(trial: Any) -> None:
        raise KeyboardInterrupt

    study = new_study(budget=3)
    works(monkeypatch, interrupted)
    with pytest.raises(KeyboardInterrupt):
        main.launch(study, LOCAL)
    assert capsys.readouterr().err.splitlines()[-1] == "sweep s: 3 trials are left"
    assert [trial.user_attrs.get("attempt", 1) for trial in study.get_trials()] == [1, 1]


def test_an_unreadable_storage_is_one_warning(
    capsys: pytest.CaptureFixture[str],
) -> None:
    study, output, deadline = new_study(budget=1), "", time.monotonic() + 60
    with main.watched(study):
        with sqlite3.connect("sweeps/optuna.db") as store:
            store.execute("drop table trials")
        while "warning" not in (output := output + capsys.readouterr().err):
            assert time.monotonic() < deadline
            time.sleep(0.01)  # between two looks at the condition
    output += capsys.readouterr().err
    warnings = [line for line in output.splitlines() if "warning" in line]  # Optuna logs the error, too
    assert len(warnings) == 1
    assert warnings[0].startswith("warning: the progress of the sweep cannot be read: ")


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_the_repetitions_follow_the_present_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """More seeds, and another trial among the best, in a study whose repetitions are there already."""
    import optuna

    study = new_study(budget=3)

    def add(score: float, seed: int | None) -> None:
        attributes = {"overrides": [f"a={score}"], "seed": seed}
        study.add_trial(optuna.trial.create_trial(value=score, user_attrs=attributes))

    def repeated(seeds: int) -> list[tuple[int, int, bool]]:
        settings = Sweep.model_construct(seeds=seeds, top=2)
        search = plan.Search(settings, {"val_loss": "minimize"}, LOCAL, study.user_attrs["plan"], "")
        repeats = main.repeat(study, search)
        assert repeats is not None
        return [(entry.number, len(entry.scores), entry.low == entry.high) for entry in trials.rank(study, repeats)]

    works(monkeypatch, lambda trial: None)
    monkeypatch.setattr(main, "launch", main.attend)  # without MLflow, whose import takes longer than all of this
    add(0.5, seed=0)
    add(-0.5, seed=None)  # solved exactly
    assert repeated(1) == [(1, 1, True), (0, 1, False)]
    assert repeated(2) == [(1, 1, True), (0, 2, False)]
    add(0.25, seed=4)
    assert repeated(2) == [(1, 1, True), (2, 2, False)]
    overrides = [trial.user_attrs["repeat_overrides"] for trial in studies.load("s-seeds").get_trials()]
    assert overrides == [
        [f"a={score}", f"train.seed={seed}"] for score, seed in ((0.5, 1), (0.5, 2), (0.25, 5), (0.25, 6))
    ]
    (winner,) = trials.winners(study, studies.load("s-seeds"))
    assert winner.number == 1
    assert report.comment(study, studies.load("s-seeds"), winner).endswith(
        "; over every seed val_loss -0.5, 95 % interval -0.5 to -0.5"
    )


def test_an_experiment_reproduces_the_trial() -> None:
    overrides = ["experiment=mlp", "model.units=[8]"]
    path = experiment.write("mine", "mine", overrides, parameters(*overrides), "Trial 3")
    assert parameters("experiment=mine") == parameters(*overrides)
    assert yaml.safe_load(path.read_text())["model"]["units"] == [8]
    # One that could not be chosen so: `debug` comes after `experiment`.
    with pytest.raises(UserError, match=r"^conf/experiment/other.yaml was not written, .* debug=limit$") as error:
        experiment.write("other", "other", ["debug=limit"], parameters("debug=limit"), "Trial 4")
    assert "\n" not in str(error.value) and not Path("conf/experiment/other.yaml").exists()


def test_experiments_no_longer_on_the_front_are_removed() -> None:
    written = {"front": "front", "front-1": "front", "front-2": "front", "front-20": "front-20"}
    files = {name: Path(f"conf/experiment/{name}.yaml") for name in written}
    for name, by in written.items():
        files[name].write_text(f"# @package _global_\n# Written by the sweep {by}.\n", encoding="utf-8")
    experiment.forget("front", [files["front-2"]])
    assert [name for name, file in files.items() if file.exists()] == ["front-2", "front-20"]
    experiment.refuse_foreign("front", front=False)
    with pytest.raises(UserError, match=r"^conf/experiment/front-20\.yaml exists and was not written by"):
        experiment.refuse_foreign("front", front=True)
