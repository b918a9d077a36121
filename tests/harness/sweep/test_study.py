"""A study neither loses nor repeats a trial; with Optuna itself, without training."""

import os
import signal
import subprocess
import sys
import threading
import uuid
from pathlib import Path
from typing import Any

import processes
import pytest
from my_experiment.harness.core.errors import UserError
from my_experiment.harness.sweep import study as studies
from support import ROOT


@pytest.fixture(autouse=True)
def _storage_in_workspace(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPTUNA_STORAGE", raising=False)


def new_study(budget: int, name: str = "s", **plan: Any) -> Any:
    """A study that searches one learning rate."""
    plan = {"sampler": "random", "seed": 0, "space": {"always": {"train.learning_rate": "interval(0.1, 1.0)"}}, **plan}
    study = studies.create(name, {"val_loss": "minimize"}, plan)
    study.set_user_attr("budget", budget)
    return study


def claim_and_die(study: Any) -> Any:
    """The trial of a worker that dies after it has claimed it; None if there is none."""
    worker = uuid.uuid4().hex
    with studies.worker_lock(study.study_name, worker):
        return studies.claim(study, worker)


def states(study: Any) -> list[str]:
    """State of each trial, in order."""
    return [trial.state.name for trial in study.get_trials()]


def test_workers_that_start_at_once_keep_to_the_budget() -> None:
    study = new_study(budget=7)
    claimed: list[int] = []

    def work(name: str) -> None:
        study = studies.load("s")
        with studies.worker_lock("s", name):
            while trial := studies.claim(study, name):
                claimed.append(trial.number)
                study.tell(trial, trial.suggest_float("train.learning_rate", 0.1, 1.0))

    threads = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == list(range(7))
    assert states(study) == ["COMPLETE"] * 7


def test_the_trial_of_a_killed_worker_is_requeued() -> None:
    """kill -9 of a process that holds a trial: the next worker tries the same parameters again."""
    study = new_study(budget=2)
    code = """
import sys
from my_experiment.harness.sweep import study
with study.worker_lock("s", "victim"):
    trial = study.claim(study.load("s"), "victim")
    print(trial.suggest_float("train.learning_rate", 0.1, 1.0), flush=True)
    sys.stdin.read()
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    pipe = subprocess.PIPE
    with (
        processes.running(sys.executable, "-c", code, stdin=pipe, stdout=pipe, text=True, env=environment) as victim,
        studies.worker_lock("s", "other"),
    ):
        value = float(victim.stdout.readline())
        running = studies.claim(study, "other")  # the victim lives: another trial
        assert running is not None and running.number == 1
        assert studies.claim(study, "other") is None
        victim.send_signal(signal.SIGKILL)
        victim.communicate()
        again = studies.claim(study, "other")
        assert again is not None
        assert again.suggest_float("train.learning_rate", 0.1, 1.0) == value
        assert again.user_attrs["retry_of"] == 0
        assert studies.claim(study, "other") is None
    assert states(study) == ["FAIL", "RUNNING", "RUNNING"]
    assert len(studies.claimed(study)) == 2


def test_a_planned_trial_keeps_its_parameters_when_requeued() -> None:
    study = new_study(budget=1)
    studies.enqueue(study, {"a": {"params": {"train.learning_rate": 0.25}}})
    for _ in range(studies.ATTEMPTS - 1):
        claim_and_die(study)
    assert claim_and_die(study).suggest_float("train.learning_rate", 0.1, 1.0) == 0.25


def test_a_trial_that_kills_its_workers_fails_after_all_attempts() -> None:
    study = new_study(budget=1)
    for attempt in range(1, studies.ATTEMPTS + 1):
        assert claim_and_die(study).user_attrs.get("attempt", 1) == attempt
    assert claim_and_die(study) is None
    assert states(study) == ["FAIL"] * studies.ATTEMPTS


def test_an_interruption_is_no_attempt() -> None:
    study = new_study(budget=2)
    with studies.worker_lock("s", "w"):
        study.tell(studies.claim(study, "w"), 0.5)
        second = studies.claim(study, "w")
        assert second is not None and second.number == 1
        studies.requeue_interrupted(study)  # while its worker lives, which ends some time afterwards
    for _ in range(studies.ATTEMPTS):
        assert claim_and_die(study).user_attrs["attempt"] == 1
        studies.requeue_interrupted(study)
    assert states(study) == ["COMPLETE", *["FAIL"] * (studies.ATTEMPTS + 1), "WAITING"]
    claim_and_die(study)
    assert claim_and_die(study).user_attrs["attempt"] == 2


def test_planned_trials_are_queued_once() -> None:
    study = new_study(budget=3)
    planned = {name: {"params": {"train.learning_rate": 0.1 * n}} for n, name in enumerate("abc", 1)}
    studies.enqueue(study, {"a": planned["a"], "b": planned["b"]})  # killed here
    studies.enqueue(study, planned)
    studies.enqueue(study, planned)
    assert [trial.user_attrs["plan_key"] for trial in study.get_trials()] == ["a", "b", "c"]


def test_trials_planned_by_an_earlier_command_do_not_count() -> None:
    study = new_study(budget=1)
    studies.enqueue(study, {"a": {}, "b": {}, "c": {}})
    assert claim_and_die(study).user_attrs["plan_key"] == "a"
    study.set_user_attr("planned", ["c"])
    assert claim_and_die(study).user_attrs["plan_key"] == "c"
    assert [trial.user_attrs["plan_key"] for trial in studies.claimed(study)] == ["c"]


def test_a_study_with_another_plan_is_rejected() -> None:
    new_study(budget=1)
    new_study(budget=5)
    with pytest.raises(UserError, match=r"sweep\.name: the study 's' was made with another seed: "):
        new_study(budget=1, seed=1)


def test_a_journal_file_is_a_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTUNA_STORAGE", "sweeps/journal.log")
    study = new_study(budget=1)
    with studies.worker_lock("s", "w"):
        trial = studies.claim(study, "w")
        study.tell(trial, 1.0)
    assert states(studies.load("s")) == ["COMPLETE"]
    for url in ("nosuch://host/db", "/nonexistent/journal.log"):
        monkeypatch.setenv("OPTUNA_STORAGE", url)
        with pytest.raises(UserError, match="the storage of studies cannot be opened") as error:
            studies.load("s")
        assert "\n" not in str(error.value)


def test_processes_on_a_fresh_storage_lose_and_repeat_no_trial(workspace: Path) -> None:
    """Eight real workers, four of each of two studies; in place of the training a number, which takes no TensorFlow."""
    code = """
import multiprocessing, os, sys
import alembic.command, numpy, optuna.samplers, optuna.storages._rdb.storage
from my_experiment.harness.sweep import study, worker

def train(study, trial, overrides, report):
    if not train.begun:  # the first one ends once every worker has one
        train.begun = barrier.wait(60) >= 0
    trial.set_user_attr("process", os.getpid())
    return {"val_loss": trial.number / 10}

def work(name):
    barrier.wait(60)
    plan = {"sampler": "random", "seed": 0, "fixed": [], "base": {}, "choices": {}, "metrics": ["val_loss"],
             "pruner": "none", "warmup": 0, "space": {"always": {"a": "interval(0.0, 1.0)"}}}
    study.create(name, {"val_loss": "minimize"}, plan).set_user_attr("budget", 6)
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
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    for name in "ab":
        trials = studies.load(name).get_trials()
        assert [(trial.state.name, trial.values) for trial in trials] == [("COMPLETE", [n / 10]) for n in range(6)]
        assert len({trial.params["a"] for trial in trials}) == 6
        assert len({trial.user_attrs["process"] for trial in trials}) == 4
