"""A sweep from its command line to its experiment, with workers that are told what to do instead of training."""

import sqlite3
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any
import pytest
import yaml
from support import PACKAGE
from my_experiment.harness.core import config
from my_experiment.harness.core import errors
from my_experiment.harness.core import stages
from my_experiment.harness.sweep import experiment
from my_experiment.harness.sweep import launchers
from my_experiment.harness.sweep import main
from my_experiment.harness.sweep import report
from my_experiment.harness.sweep import study as studies
from my_experiment.harness.sweep import trials

LOCAL = {"_target_": f"{PACKAGE}.sweep.launchers.local"}


@pytest.fixture(autouse=True)
def _own_storage(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPTUNA_STORAGE", raising=False)
    monkeypatch.setattr(main, "LOOK", 0.01)
    monkeypatch.setattr(main, "SYNC", 0.01)



def opened(budget: int, name: str = "s") -> Any:
    """A study whose trials choose between nothing and nothing."""
    made = studies.create(name, ["val_loss"], {"sampler": "random", "seed": 0, "fixed": [], "space": {}})
    made.set_user_attr("budget", budget)
    return made



def parameters(*overrides: str) -> dict[str, Any]:
    """What a trial with these overrides is trained with."""
    found: dict[str, Any] = experiment.composed(overrides)
    return found



def works(monkeypatch: pytest.MonkeyPatch, work: Callable[[Any], Any]) -> None:
    """Has the launcher `local` start a worker that does this with a trial, and with what the worker returns end."""

    def launcher(_: Any, folder: Path) -> list[str]:
        own, worker = studies.load(folder.name), uuid.uuid4().hex
        with studies.place(folder.name).worker(worker):
            while trial := studies.claim(own, worker):
                if reason := work(trial):
                    return [reason]
                own.tell(trial, trial.number / 10)
        return []

    monkeypatch.setattr(launchers, "local", launcher)



@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sweep=tpe", "sweep.metrics=[val_loss,latency]"], "sweep.pruner: trials are stopped by one metric only"),
        (["train/strategy=multi_worker"], "train/strategy: a trial is trained by one worker"),
    ],
)
def test_what_would_be_in_vain_is_refused(arguments: list[str], message: str) -> None:
    model = [] if "strategy" in config.compose() else ["model=mlp"]
    with pytest.raises(errors.UserError) as error:
        main.read([*model, *arguments])
    assert str(error.value).startswith(message) and "\n" not in str(error.value)



def test_a_trial_that_kills_its_workers_ends_no_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    made = opened(budget=2)
    studies.fill(made, {"good": {}, "bad": {}})
    works(monkeypatch, lambda trial: "killed" if trial.user_attrs["planned"] == "bad" else None)
    main.attend(made, LOCAL)
    states = [trial.state.name for trial in made.get_trials()]
    assert states.count("COMPLETE") == 1 and states.count("FAIL") == studies.ATTEMPTS
    assert main.remaining(made) == 0



def test_workers_that_take_no_trial_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launchers, "local", lambda work, folder: ["no memory"])
    with pytest.raises(errors.UserError, match=r"^no worker could take a trial: no memory$"):
        main.attend(opened(budget=1), LOCAL)



def test_no_worker_is_started_for_what_others_are_at(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made, told = opened(budget=1), ""
    monkeypatch.delattr(launchers, "local")
    with studies.place("s").worker("other"):
        trial = studies.claim(made, "other")
        thread = threading.Thread(target=main.attend, args=(studies.load("s"), LOCAL))
        thread.start()
        deadline = time.monotonic() + 60
        while "waiting" not in (told := told + capsys.readouterr().err):
            assert thread.is_alive() and time.monotonic() < deadline
            time.sleep(0.01)  # between two looks at the condition
        made.tell(trial, 0.5)
        thread.join()
    assert told + capsys.readouterr().err == "sweep s: waiting for 1 trial of other workers\n"



def test_an_interrupted_sweep_says_what_is_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(trial: Any) -> None:
        raise KeyboardInterrupt

    made = opened(budget=3)
    works(monkeypatch, interrupted)
    with pytest.raises(SystemExit) as ended:
        stages.run(lambda: main.launch(made, LOCAL), interrupted="it goes on")
    assert ended.value.code == 130
    assert capsys.readouterr().err.splitlines()[-2:] == ["sweep s: 3 trials are left", "interrupted: it goes on"]
    assert [trial.user_attrs.get("attempt", 1) for trial in made.get_trials()] == [1, 1]



def test_a_storage_that_cannot_be_read_costs_the_watcher_one_warning(
    capsys: pytest.CaptureFixture[str],
) -> None:
    made, told, deadline = opened(budget=1), "", time.monotonic() + 60
    with main.watched(made):
        with sqlite3.connect("sweeps/optuna.db") as store:
            store.execute("drop table trials")
        while "warning" not in (told := told + capsys.readouterr().err):
            assert time.monotonic() < deadline
            time.sleep(0.01)  # between two looks at the condition
    told += capsys.readouterr().err
    assert told.startswith("warning: how far the sweep is cannot be read: ") and told.count("\n") == 1



@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_repetitions_are_those_of_today(monkeypatch: pytest.MonkeyPatch) -> None:
    """More seeds, and another trial among the best, in a study whose repetitions are there already."""
    import optuna

    made = opened(budget=3)

    def add(score: float, seed: int | None) -> None:
        attributes = {"overrides": [f"a={score}"], "seed": seed}
        made.add_trial(optuna.trial.create_trial(value=score, user_attrs=attributes))

    def repeated(seeds: int) -> list[tuple[int, int, bool]]:
        section = main.search.Sweep.model_construct(seeds=seeds, top=2, metrics=["val_loss"])
        repeats = main.repeat(made, main.Search(section, LOCAL, made.user_attrs["plan"], ""))
        return [(one.number, len(one.values), one.low == one.high) for one in trials.rank(made, repeats)]

    works(monkeypatch, lambda trial: None)
    monkeypatch.setattr(main, "launch", main.attend)  # without MLflow, whose import takes longer than all of this
    add(0.5, seed=0)
    add(-0.5, seed=None)  # solved exactly
    assert repeated(1) == [(1, 1, True), (0, 1, False)]
    assert repeated(2) == [(1, 1, True), (0, 2, False)]
    add(0.25, seed=4)
    assert repeated(2) == [(1, 1, True), (2, 2, False)]
    given = [trial.user_attrs["given"] for trial in studies.load("s-seeds").get_trials()]
    assert given == [[f"a={score}", f"train.seed={seed}"] for score, seed in ((0.5, 1), (0.5, 2), (0.25, 5), (0.25, 6))]
    (winner,) = trials.winners(made, studies.load("s-seeds"))
    assert winner.number == 1
    assert report.comment(made, studies.load("s-seeds"), winner).endswith(
        "; over every seed val_loss -0.5, 95 % interval -0.5 to -0.5"
    )



def test_an_experiment_gives_what_the_trial_did() -> None:
    overrides = ["experiment=mlp", "model.units=[8]"]
    path = experiment.write("mine", "mine", overrides, parameters(*overrides), "Trial 3")
    assert parameters("experiment=mine") == parameters(*overrides)
    assert yaml.safe_load(path.read_text())["model"]["units"] == [8]
    # One that could not be chosen so: `debug` comes after `experiment`.
    with pytest.raises(errors.UserError, match=r"^conf/experiment/other.yaml is not written, .* debug=limit$") as error:
        experiment.write("other", "other", ["debug=limit"], parameters("debug=limit"), "Trial 4")
    assert "\n" not in str(error.value) and not Path("conf/experiment/other.yaml").exists()



def test_what_is_no_longer_on_the_front_is_removed() -> None:
    written = {"front": "front", "front-1": "front", "front-2": "front", "front-20": "front-20"}
    files = {name: Path(f"conf/experiment/{name}.yaml") for name in written}
    for name, by in written.items():
        files[name].write_text(f"# @package _global_\n# Written by the sweep {by}.\n", encoding="utf-8")
    experiment.forget("front", [files["front-2"]])
    assert [name for name, file in files.items() if file.exists()] == ["front-2", "front-20"]
    experiment.refuse_foreign("front", front=False)
    with pytest.raises(errors.UserError, match=r"^conf/experiment/front-20\.yaml is there and was not written by"):
        experiment.refuse_foreign("front", front=True)



