"""Command `sweep`: many trainings with different parameters, in one study.

Trials train on data/prepared as the stage `train` does and change no output of the pipeline. The best trial becomes
conf/experiment/<name>.yaml: `dvc exp run -S experiment=<name>` reproduces it.
"""

import functools
import json
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from ..core import config
from ..core.errors import UserError, one_line
from ..core.paths import NAME
from . import experiment, report, runs, space, trials, worker
from . import plan as plans
from . import study as studies
from .launchers import process

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

WATCH_SECONDS = 5.0  # between two updates of the progress bar and of MLflow
WAIT_SECONDS = 1.0  # between two checks for the trials of other workers

HELP = f"""Trains with different parameters and writes the best as an experiment.

OVERRIDES change conf/sweep.yaml, in Hydra's grammar. Without sweep=... every combination of the values is a trial.

\b
model=cnn,mlp train.learning_rate=0.001,0.0003      every combination
sweep=tpe sweep.trials=50 model=mlp                 the space in conf/sweep/space/
sweep=tpe 'train.learning_rate=tag(log,interval(1e-4,1e-2))'
sweep=tpe launcher=joblib launcher.workers=4        four processes

A sweep that was stopped, by Ctrl-C or by kill -9, continues with the same command. Trials change no output of the
pipeline. The best one becomes conf/experiment/NAME.yaml, which `dvc exp run -S experiment=NAME` reproduces.

Example: python -m {NAME} sweep sweep=tpe sweep.trials=50
"""


@click.command(help=HELP)
@click.argument("overrides", nargs=-1)
def command(overrides: tuple[str, ...]) -> None:
    """Runs a sweep."""
    if not process.train_variables().items() <= os.environ.items():  # Python reads them when it starts
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **process.train_environment()})
    try:
        sweep(overrides)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the same command continues the sweep") from None


def sweep(overrides: Sequence[str]) -> None:
    """Runs a sweep from its command line to its experiment.

    Args:
        overrides: Overrides of conf/sweep.yaml.

    Raises:
        UserError: If the sweep is not valid, or no trial is complete at its end.
    """
    search = plans.read(overrides)
    settings = search.settings
    experiment.refuse_foreign(search.name, len(settings.metrics) > 1)
    study = studies.create(search.name, search.objectives, search.plan)
    budget = settings.trials or 0
    if settings.sampler == "grid":
        combinations = space.grid(space.distributions(search.plan["space"]))[: settings.trials]
        budget = len(combinations)
        studies.enqueue(study, {json.dumps(params, sort_keys=True): {"params": params} for params in combinations})
    study.set_user_attr("budget", budget)
    study.set_user_attr("data_md5", search.data_md5)
    launch(study, search.launcher)
    conclude(study, repeat(study, search), settings.top)


def launch(study: "optuna.Study", launcher: Mapping[str, Any]) -> None:
    """Runs workers until every trial has ended.

    Args:
        study: The study.
        launcher: Section `launcher`.

    Raises:
        UserError: If all workers die before one of them claims a trial.
        KeyboardInterrupt: After Ctrl-C; running trials are queued again.
    """
    left, done = studies.remaining(study), len(studies.ended(study))
    print(f"sweep {study.study_name}: {done} of {done + left} trials have ended, {left} are left", file=sys.stderr)
    try:
        with watched(study):
            attend(study, launcher)
    except KeyboardInterrupt:
        studies.requeue_interrupted(study)
        runs.stop_or_warn(study)
        print(f"\nsweep {study.study_name}: {studies.remaining(study)} trials are left", file=sys.stderr)
        raise


def attend(study: "optuna.Study", launcher: Mapping[str, Any]) -> None:
    """Starts workers until no trial is unclaimed and every trial has ended.

    Args:
        study: The study.
        launcher: Section `launcher`.

    Raises:
        UserError: If all workers die before one of them claims a trial.
    """
    name, waiting = study.study_name, False
    while True:
        with studies.lock(name, "claim"):
            unclaimed = studies.unclaimed(study)
        if not (left := studies.remaining(study)):
            return
        if unclaimed:
            _start(study, launcher)
            continue
        if not waiting:
            trials_left = "1 trial" if left == 1 else f"{left} trials"
            print(f"sweep {name}: waiting for {trials_left} of other workers", file=sys.stderr)
        waiting = True
        threading.Event().wait(WAIT_SECONDS)


def _start(study: "optuna.Study", launcher: Mapping[str, Any]) -> None:
    """Starts workers and waits for their end."""
    name, begun = study.study_name, studies.begun(study)
    lost = config.instantiate(launcher, functools.partial(worker.work, name), studies.folder(name))
    for reason in lost:
        print(f"a worker was lost: {reason}", file=sys.stderr)
    if lost and studies.begun(study) == begun:
        raise UserError(f"no worker could claim a trial: {lost[0]}")


@contextmanager
def watched(study: "optuna.Study") -> Iterator[None]:
    """Shows progress and logs finished trials to MLflow while workers run.

    Args:
        study: The study.
    """
    stop = threading.Event()
    watched_study = studies.load(study.study_name)  # a study's caches belong to one thread
    thread = threading.Thread(target=_watch, args=(watched_study, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _watch(study: "optuna.Study", stop: threading.Event) -> None:
    from tqdm import tqdm

    stopped = warned = False
    with tqdm(total=study.user_attrs["budget"], desc=study.study_name, unit=" trials", disable=None) as bar:
        while not stopped:
            stopped = stop.wait(WATCH_SECONDS)
            try:
                bar.set_postfix_str(report.summary(study), refresh=False)
                bar.update(len(studies.ended(study)) - bar.n)
                runs.sync_or_warn(study)
            except Exception as error:  # any class: if the storage stays unreachable, the workers report it
                if not warned:
                    reason = f"{type(error).__name__}: {one_line(error)}"
                    print(f"warning: the progress of the sweep cannot be read: {reason}", file=sys.stderr)
                warned = True


def repeat(study: "optuna.Study", search: plans.Search) -> "optuna.Study | None":
    """Repeats the best trials with other seeds.

    The best of many trials owes part of its score to its seed; the mean over seeds shows how much.

    Args:
        study: The study.
        search: The sweep.

    Returns:
        The study of the repetitions, or None if there are none.
    """
    best = trials.best(study, search.settings.top)
    repetitions = {
        f"trial {trial.number}, seed {seed}": _repetition(trial, seed)
        for trial in best
        for seed in _other_seeds(trial, search.settings.seeds)
    }
    if not repetitions:
        return None
    plan = {**search.plan, "fixed": [], "space": {}, "sampler": "random", "pruner": "none"}
    repeats = studies.create(study.study_name + studies.REPEATS, search.objectives, plan)
    repeats.set_user_attr("planned", list(repetitions))
    repeats.set_user_attr("seedless", [trial.number for trial in best if trial.user_attrs["seed"] is None])
    repeats.set_user_attr("budget", len(repetitions))
    studies.enqueue(repeats, repetitions)
    launch(repeats, search.launcher)
    return repeats


def _other_seeds(trial: "FrozenTrial", count: int) -> range:
    """The seeds of a trial's repetitions; none for a model without a seed."""
    seed = trial.user_attrs["seed"]
    return range(0) if seed is None else range(seed + 1, seed + 1 + count)


def _repetition(trial: "FrozenTrial", seed: int) -> dict[str, Any]:
    overrides = [*trial.user_attrs["overrides"], f"train.seed={seed}"]
    return {"user_attrs": {"repeat_overrides": overrides, "repeat_of": trial.number}}


def conclude(study: "optuna.Study", repeats: "optuna.Study | None", top: int) -> None:
    """Writes tables, plots and experiments, and prints their paths.

    Args:
        study: The study.
        repeats: The study of the repetitions.
        top: Number of trials that are shown.

    Raises:
        UserError: If no trial is complete.
    """
    folder = studies.folder(study.study_name)
    plots = report.write(study, repeats, folder)
    print(report.table(study, top))
    if repeats is not None:
        print(report.seeds_table(study, repeats))
    runs.finish_or_warn(study, repeats, folder)
    winners = trials.winners(study, repeats)
    if not winners:
        raise UserError(f"no trial is complete; the last error: {trials.error(studies.ended(study)[-1])}")
    if any(config.choices(overrides=trial.user_attrs["overrides"]).get("debug") for trial in winners):
        print("debug: these trials only check that training works, no experiment is written")
    else:
        _write_experiments(study, repeats, winners)
    importances = any(path.stem == "importances" for path in plots)
    missing = "" if importances else f" (importances need {trials.MIN_COMPLETE} complete trials and two parameters)"
    print(f"{folder}/: plots{missing} and trials.csv; all runs: make mlflow")


def _write_experiments(study: "optuna.Study", repeats: "optuna.Study | None", winners: "Sequence[FrozenTrial]") -> None:
    written = []
    for trial in winners:
        name = study.study_name if len(winners) == 1 else f"{study.study_name}-{trial.number}"
        comment = report.comment(study, repeats, trial)
        attributes = trial.user_attrs
        path = experiment.write(name, study.study_name, attributes["overrides"], attributes["parameters"], comment)
        written.append(path)
        print(f"{path}: dvc exp run -S {experiment.GROUP}={name}")
    experiment.forget(study.study_name, written)
