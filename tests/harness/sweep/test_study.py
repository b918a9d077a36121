"""What a sweep searches, and a study that neither loses nor repeats a trial; with Optuna itself, without training."""

import os
import signal
import subprocess
import sys
import threading
import uuid
from pathlib import Path
from typing import Any
import pytest
import yaml
from support import PACKAGE, ROOT
from my_experiment.harness.core import config
from my_experiment.harness.core import errors
from my_experiment.harness.sweep import search
from my_experiment.harness.sweep import study as studies

OPTIONS = [
    f"{group}={file.stem}" for group in ("sweep", "launcher") for file in sorted(ROOT.glob(f"conf/{group}/*.yaml"))
]


@pytest.fixture(autouse=True)
def _own_storage(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPTUNA_STORAGE", raising=False)



def opened(budget: int, name: str = "s", **plan: Any) -> Any:
    """A study that searches one learning rate."""
    plan = {"sampler": "random", "seed": 0, "space": {"always": {"train.learning_rate": "interval(0.1, 1.0)"}}, **plan}
    made = studies.create(name, ["val_loss"], plan)
    made.set_user_attr("budget", budget)
    return made



def lost(of: Any) -> Any:
    """A trial whose worker dies as soon as it has taken it."""
    worker = uuid.uuid4().hex
    with studies.place(of.study_name).worker(worker):
        return studies.claim(of, worker)



def states(of: Any) -> list[str]:
    """The trials' states, in order."""
    return [trial.state.name for trial in of.get_trials()]



@pytest.mark.parametrize("option", OPTIONS)
def test_what_ships_is_valid(option: str) -> None:
    sections = yaml.safe_load(config.compose(name="sweep", overrides=[option]))
    asked = {key: sections[key] for key in ("sweep", "launcher")}
    config.check(asked, {"sweep": search.Sweep}, {"launcher"})
    space = search.space(asked["sweep"]["space"], [], {})
    assert bool(space) == (option.partition("=")[0] == "sweep" and option != "sweep=grid")



@pytest.mark.parametrize("model", sorted(file.stem for file in ROOT.glob("conf/model/*.yaml")))
def test_what_ships_searches_no_key_that_a_model_has_not(model: str) -> None:
    chosen = [f"model={model}"]
    texts = yaml.safe_load(config.compose(name="sweep", overrides=["sweep=tpe", *chosen]))["sweep"]["space"]
    found = search.space(texts, chosen, {}).get("always", {})
    assert set(found) <= set(config.flatten(yaml.safe_load(config.compose(overrides=chosen))))



def test_hydras_notation_becomes_distributions() -> None:
    found = search.distributions(
        {
            "always": {
                "a": "tag(log, interval(0.001, 0.1))",
                "b": "int(interval(2, 8))",
                "c": "16,32",
                "d": "choice([1,2], [3])",
                "e": "range(8, 33, 8)",
            }
        }
    )["always"]
    assert (found["a"].low, found["a"].high, found["a"].log) == (0.001, 0.1, True)
    assert type(found["b"]).__name__ == "IntDistribution" and (found["b"].low, found["b"].high) == (2, 8)
    assert found["c"].choices == (16, 32)
    assert found["d"].choices == ("[1,2]", "[3]")
    assert (found["e"].low, found["e"].high, found["e"].step) == (8, 32, 8)



def test_a_condition_holds_where_its_choice_was_made() -> None:
    import optuna

    space = search.space(
        {"always": {"model": "choice(a, b)"}, "model=a": {"model.x": "interval(1, 9)"}, "model=b": {"model.y": "1,2"}},
        [],
        {},
    )
    made = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    found = set()
    for _ in range(12):
        model, other = search.suggest(made.ask(), search.distributions(space), {"model": "a"})
        found.add((model, other.split("=")[0]))
    assert found == {("model=a", "model.x"), ("model=b", "model.y")}



def test_only_what_was_drawn_is_rounded() -> None:
    import optuna

    space = search.distributions({"always": {"a": "0.00012345,0.00012346", "b": "tag(log, interval(1e-6, 1e-5))"}})
    made = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    found = [search.suggest(made.ask(), space, {}) for _ in range(9)]
    assert {a for a, _ in found} == {"a=0.00012345", "a=0.00012346"}
    assert all(len(b.removeprefix("b=").split("e")[0].replace(".", "")) <= 4 for _, b in found)



def test_the_command_line_takes_the_place_of_the_space() -> None:
    texts = {
        "always": {"model": "choice(a, b)", "train.batch_size": "16,32"},
        "model=a": {"model.x": "1,2"},
        "model=b": {"model.y": "1,2"},
    }
    how, fixed, searched = search.divide(
        ["model=a", "sweep=tpe", "train.batch_size=8,64", "launcher.workers=2", "train.epochs=3"]
    )
    assert (how, fixed) == (["sweep=tpe", "launcher.workers=2"], ["model=a", "train.epochs=3"])
    assert search.space(texts, fixed, searched) == {"always": {"train.batch_size": "8,64", "model.x": "1,2"}}



def test_a_grid_has_every_combination_once() -> None:
    grid = search.grid(search.distributions({"always": {"a": "1,2", "b": "range(0, 3)"}}))
    assert len(grid) == 6 and len({tuple(point.values()) for point in grid}) == 6
    assert search.grid({}) == [{}]



@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prepare.seed=1,2"], "prepare.seed: a sweep searches parameters of the training only"),
        (["data=a,b"], "data: a sweep searches"),
        (["train.epochs="[:-1]], "train.epochs: no override"),
    ],
)
def test_what_cannot_be_searched_is_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(errors.UserError) as error:
        search.divide(arguments)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)



@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"sometimes": {"a": "1,2"}}, "sweep.space.sometimes: write always or a condition"),
        ({"always": {"a": "5"}}, "a=5: one value is no search"),
        ({"always": {"a": "tag(log, interval(0.0, 1.0))"}}, "a=tag"),
        ({"always": {"data.path": "a,b"}}, "sweep.space.always.data.path: a sweep searches"),
        ({"always": {"model": "glob(*)"}}, "model=glob(*): name what is tried"),
    ],
)
def test_a_space_that_is_wrong_is_refused(texts: dict[str, dict[str, str]], message: str) -> None:
    with pytest.raises(errors.UserError) as error:
        search.space(texts, [], {})
    assert str(error.value).startswith(message) and "\n" not in str(error.value)



def test_an_interval_has_no_grid() -> None:
    with pytest.raises(errors.UserError, match="a: an interval has no grid"):
        search.grid(search.distributions({"always": {"a": "interval(0.1, 1.0)"}}))



def test_the_budget_is_kept_by_workers_that_start_at_once() -> None:
    made = opened(budget=7)
    claimed: list[int] = []

    def work(name: str) -> None:
        own = studies.load("s")
        with studies.place("s").worker(name):
            while trial := studies.claim(own, name):
                claimed.append(trial.number)
                own.tell(trial, trial.suggest_float("train.learning_rate", 0.1, 1.0))

    threads = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == list(range(7))
    assert states(made) == ["COMPLETE"] * 7



def test_a_worker_that_is_killed_loses_nothing() -> None:
    """kill -9 of a process that holds a trial: the next worker tries the same parameters again."""
    made = opened(budget=2)
    code = f"""
import sys, time
from {PACKAGE}.sweep import study
with study.place("s").worker("victim"):
    trial = study.claim(study.load("s"), "victim")
    print(trial.suggest_float("train.learning_rate", 0.1, 1.0), flush=True)
    sys.stdin.read()
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    victim = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    assert victim.stdout is not None
    value = float(victim.stdout.readline())
    with studies.place("s").worker("other"):
        running = studies.claim(made, "other")  # the victim lives: another trial
        assert running.number == 1
        assert studies.claim(made, "other") is None
        victim.send_signal(signal.SIGKILL)
        victim.communicate()
        again = studies.claim(made, "other")
        assert again.suggest_float("train.learning_rate", 0.1, 1.0) == value
        assert again.user_attrs["retry_of"] == 0
        assert studies.claim(made, "other") is None
    assert states(made) == ["FAIL", "RUNNING", "RUNNING"]
    assert len(studies.taken(made)) == 2



def test_a_trial_that_is_lost_before_it_has_asked_for_anything_keeps_its_parameters() -> None:
    made = opened(budget=1)
    studies.fill(made, {"a": {"params": {"train.learning_rate": 0.25}}})
    for _ in range(studies.ATTEMPTS - 1):
        lost(made)
    assert lost(made).suggest_float("train.learning_rate", 0.1, 1.0) == 0.25



def test_a_trial_that_kills_its_workers_is_given_up() -> None:
    made = opened(budget=1)
    for attempt in range(1, studies.ATTEMPTS + 1):
        assert lost(made).user_attrs.get("attempt", 1) == attempt
    assert lost(made) is None
    assert states(made) == ["FAIL"] * studies.ATTEMPTS



def test_what_is_interrupted_has_not_had_an_attempt() -> None:
    made = opened(budget=2)
    with studies.place("s").worker("w"):
        made.tell(studies.claim(made, "w"), 0.5)
        assert studies.claim(made, "w").number == 1
        studies.interrupt(made)  # while its worker lives, which ends some time afterwards
    for _ in range(studies.ATTEMPTS):
        assert lost(made).user_attrs["attempt"] == 1
        studies.interrupt(made)
    assert states(made) == ["COMPLETE", *["FAIL"] * (studies.ATTEMPTS + 1), "WAITING"]
    lost(made)
    assert lost(made).user_attrs["attempt"] == 2



def test_planned_trials_are_added_once() -> None:
    made = opened(budget=3)
    planned = {name: {"params": {"train.learning_rate": 0.1 * n}} for n, name in enumerate("abc", 1)}
    studies.fill(made, {"a": planned["a"], "b": planned["b"]})  # killed here
    studies.fill(made, planned)
    studies.fill(made, planned)
    assert [trial.user_attrs["planned"] for trial in made.get_trials()] == ["a", "b", "c"]



def test_what_an_earlier_command_has_planned_does_not_count() -> None:
    made = opened(budget=1)
    studies.fill(made, {"a": {}, "b": {}, "c": {}})
    assert lost(made).user_attrs["planned"] == "a"
    made.set_user_attr("wanted", ["c"])
    assert lost(made).user_attrs["planned"] == "c"
    assert [trial.user_attrs["planned"] for trial in studies.taken(made)] == ["c"]



def test_a_study_of_another_search_is_refused() -> None:
    opened(budget=1)
    opened(budget=5)
    with pytest.raises(errors.UserError, match=r"sweep\.name: the study 's' was made with another seed: "):
        opened(budget=1, seed=1)



def test_a_journal_file_holds_studies_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTUNA_STORAGE", "sweeps/journal.log")
    made = opened(budget=1)
    with studies.place("s").worker("w"):
        trial = studies.claim(made, "w")
        made.tell(trial, 1.0)
    assert states(studies.load("s")) == ["COMPLETE"]
    for url in ("nosuch://host/db", "/nonexistent/journal.log"):
        monkeypatch.setenv("OPTUNA_STORAGE", url)
        with pytest.raises(errors.UserError, match="the storage of studies cannot be opened") as error:
            studies.load("s")
        assert "\n" not in str(error.value)



def test_processes_that_meet_on_a_fresh_storage_neither_crash_nor_lose_nor_repeat_a_trial(workspace: Path) -> None:
    """Eight real workers, four of each of two studies; in place of the training a number, which takes no TensorFlow."""
    code = """
import importlib, multiprocessing, os, sys
import alembic.command, numpy, optuna.samplers, optuna.storages._rdb.storage
study, worker = (importlib.import_module(f"{sys.argv[1]}.sweep.{name}") for name in ("study", "worker"))

def train(study, trial, overrides, threads, report):
    if not train.begun:  # the first one ends once every worker has one
        train.begun = barrier.wait(60) >= 0
    trial.set_user_attr("process", os.getpid())
    return {"val_loss": trial.number / 10}

def work(name):
    barrier.wait(60)
    plan = {"sampler": "random", "seed": 0, "fixed": [], "base": {}, "choices": {}, "metrics": ["val_loss"],
             "pruner": "none", "warmup": 0, "space": {"always": {"a": "interval(0.0, 1.0)"}}}
    study.create(name, ["val_loss"], plan).set_user_attr("budget", 6)
    worker.work(name)

worker.train, train.begun = train, False
context = multiprocessing.get_context("fork")  # with Optuna loaded
barrier = context.Barrier(8)
started = [context.Process(target=work, args=("ab"[index % 2],)) for index in range(8)]
for process in started:
    process.start()
for process in started:
    process.join()
sys.exit(str([process.exitcode for process in started]) if any(process.exitcode for process in started) else 0)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", code, PACKAGE], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    for name in "ab":
        trials = studies.load(name).get_trials()
        assert [(trial.state.name, trial.values) for trial in trials] == [("COMPLETE", [n / 10]) for n in range(6)]
        assert len({trial.params["a"] for trial in trials}) == 6
        assert len({trial.user_attrs["process"] for trial in trials}) == 4



