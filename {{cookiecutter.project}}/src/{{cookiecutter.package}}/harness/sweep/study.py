"""The study of a sweep: its trials, none of which is lost or run twice when workers are killed.

Workers share a study through its storage and the folder sweeps/<name>. A worker holds a file lock while it lives; the
operating system releases the lock with the process, also that of a lost node (on NFS when its lease ends). A running
trial whose worker's lock is free is lost: it is recorded as failed, and its parameters are queued again.
"""

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from ..core.errors import UserError, one_line
from . import samplers

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

SWEEPS = Path("sweeps")
REPEATS = "-seeds"  # suffix of the study that repeats the best trials of another one
ATTEMPTS = 3  # after which a trial that kills its workers is not queued again
# What a lost trial hands on to the next attempt.
INHERITED = ("plan_key", "repeat_of", "repeat_overrides")


def folder(name: str) -> Path:
    """The folder of a study, made if it is missing."""
    path = SWEEPS / name
    (path / "workers").mkdir(parents=True, exist_ok=True)
    return path


def lock(name: str, purpose: str) -> FileLock:
    """The lock of a study for something that one worker does at a time."""
    return FileLock(folder(name) / f"{purpose}.lock")


def worker_lock(name: str, worker: str) -> FileLock:
    """The lock that a worker of a study holds while it lives."""
    return FileLock(folder(name) / "workers" / f"{worker}.lock", timeout=0)


def storage() -> "optuna.storages.BaseStorage":
    """The storage of all studies: OPTUNA_STORAGE, or sweeps/optuna.db; made if it is missing.

    OPTUNA_STORAGE is the URL of a database, or the path of a journal (*.log), which suits a network file system better
    than SQLite.

    Raises:
        UserError: If it cannot be opened.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend
    from sqlalchemy.exc import SQLAlchemyError

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    SWEEPS.mkdir(exist_ok=True)
    url = os.environ.get("OPTUNA_STORAGE") or f"sqlite:///{SWEEPS}/optuna.db"
    # SQLite has one writer at a time; the other processes wait this many seconds.
    arguments = {"connect_args": {"timeout": 60}} if url.startswith("sqlite:") else {"pool_pre_ping": True}
    try:
        with FileLock(SWEEPS / "storage.lock"):  # of several processes that open a new database, all but one would fail
            if url.endswith(".log"):
                return optuna.storages.JournalStorage(JournalFileBackend(url))
            return optuna.storages.RDBStorage(url, engine_kwargs=arguments)
    except (SQLAlchemyError, ImportError, ValueError, OSError) as error:
        raise UserError(f"the storage of studies cannot be opened (OPTUNA_STORAGE): {one_line(error)}") from error


def load(name: str) -> "optuna.Study":
    """An existing study."""
    import optuna

    return optuna.load_study(study_name=name, storage=storage())


def create(name: str, objectives: Mapping[str, samplers.Direction], plan: Mapping[str, Any]) -> "optuna.Study":
    """A study, made if it is missing.

    Args:
        name: Name of the study.
        objectives: Metric -> its direction.
        plan: What identifies the search: trials of different plans cannot be compared.

    Raises:
        UserError: If the study exists with another plan.
    """
    import optuna

    with lock(name, "create"):
        study = optuna.create_study(
            study_name=name,
            storage=storage(),
            directions=list(objectives.values()),
            load_if_exists=True,
        )
        existing = study.user_attrs.get("plan")
        if existing is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                study.set_metric_names(list(objectives))
            study.set_user_attr("plan", dict(plan))
    if existing is not None and existing != plan:
        changed = sorted(key for key in {*existing, *plan} if existing.get(key) != plan.get(key))
        raise UserError(
            f"sweep.name: the study {name!r} was made with another {' and '.join(changed)}: its trials cannot be "
            "compared with new ones; choose another name"
        )
    return study


def enqueue(study: "optuna.Study", trials: Mapping[str, Mapping[str, Any]]) -> None:
    """Queues planned trials; a trial that is in the study already is not queued again.

    Args:
        study: The study.
        trials: Key that identifies a trial -> its `params` and `user_attrs`.
    """
    with lock(study.study_name, "claim"):
        queued = {trial.user_attrs.get("plan_key") for trial in study.get_trials(deepcopy=False)}
        for key, trial in trials.items():
            if key not in queued:
                attributes = {**trial.get("user_attrs", {}), "plan_key": key}
                study.enqueue_trial(trial.get("params", {}), user_attrs=attributes)


def claim(study: "optuna.Study", worker: str) -> "optuna.Trial | None":
    """The next trial for a worker, or None if none is left.

    Args:
        study: The study; its attribute `budget` is the number of trials, `planned` the keys of the planned ones, if
            only those count.
        worker: Name of the worker, which holds its lock.
    """
    from optuna.trial import TrialState

    with lock(study.study_name, "claim"):
        plan = study.user_attrs["plan"]
        while unclaimed(study):
            trials = study.get_trials(deepcopy=False)
            waiting = [trial.number for trial in trials if trial.state == TrialState.WAITING]
            study.sampler = samplers.sampler(plan["sampler"], plan["seed"], min(waiting, default=len(trials)))
            trial = study.ask()
            trial.set_user_attr("worker", worker)
            if trial.number in {current.number for current in planned(study)}:
                return trial
            trial.set_user_attr("error", "was planned by an earlier command, and is no longer part of the sweep")
            study.tell(trial, state=TrialState.FAIL)
        return None


def unclaimed(study: "optuna.Study") -> int:
    """Number of trials that no live worker has claimed; the caller holds the lock `claim`."""
    requeue_lost(study)
    return max(0, int(study.user_attrs["budget"]) - len(claimed(study)))


def claimed(study: "optuna.Study") -> "list[FrozenTrial]":
    """The trials that count against the budget: they run or have ended, and are not queued again."""
    from optuna.trial import TrialState

    trials = planned(study)
    requeued = {trial.user_attrs.get("retry_of") for trial in trials}
    return [trial for trial in trials if trial.state != TrialState.WAITING and trial.number not in requeued]


def planned(study: "optuna.Study") -> "list[FrozenTrial]":
    """The trials of the present command, without those that only an earlier one has planned."""
    trials, keys = study.get_trials(deepcopy=False), study.user_attrs.get("planned")
    return trials if keys is None else [trial for trial in trials if trial.user_attrs["plan_key"] in keys]


def remaining(study: "optuna.Study") -> int:
    """Number of trials that have not ended."""
    return max(0, int(study.user_attrs["budget"]) - len(ended(study)))


def ended(study: "optuna.Study") -> "list[FrozenTrial]":
    """The trials that have ended and are not queued again."""
    return [trial for trial in claimed(study) if trial.state.is_finished()]


def begun(study: "optuna.Study") -> int:
    """Number of trials that workers have begun, lost ones included."""
    return sum(trial.state.name != "WAITING" for trial in study.get_trials(deepcopy=False))


def requeue_interrupted(study: "optuna.Study") -> None:
    """Requeues running trials after Ctrl-C, without counting an attempt; those of live workers once these end."""
    with lock(study.study_name, "claim"):
        study.set_user_attr("interrupted", [trial.number for trial in _running(study)])
        requeue_lost(study)


def requeue_lost(study: "optuna.Study") -> None:
    """Records the trials of dead workers as failed, and queues their parameters until all attempts are used.

    Args:
        study: The study; the caller holds its lock `claim`.
    """
    from optuna.trial import TrialState

    lost = {trial.number for trial in _running(study) if not alive(study.study_name, trial.user_attrs.get("worker"))}
    if not lost:
        return
    requeued = {trial.user_attrs.get("retry_of") for trial in study.get_trials(deepcopy=False)}
    for trial in _running(study):  # read again: a worker may have recorded its trial before it ended
        if trial.number in lost:
            # Queued first: if this process is killed in between, the trial still runs without a worker, and is found.
            if trial.number not in requeued:
                _requeue(study, trial)
            study.tell(trial.number, state=TrialState.FAIL)


def _requeue(study: "optuna.Study", trial: "FrozenTrial") -> None:
    attributes = trial.user_attrs
    attempt = attributes.get("attempt", 1)
    if trial.number not in study.user_attrs.get("interrupted", ()):
        attempt += 1
    if attempt <= ATTEMPTS:
        inherited: dict[str, Any] = {key: attributes[key] for key in INHERITED if key in attributes}
        # The queued parameters, too: the worker may have died before it asked for all of them.
        study.enqueue_trial(
            {**trial.system_attrs.get("fixed_params", {}), **trial.params},
            user_attrs={**inherited, "retry_of": trial.number, "attempt": attempt},
        )


def _running(study: "optuna.Study") -> "list[FrozenTrial]":
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))


def alive(name: str, worker: str | None) -> bool:
    """Whether a worker of a study lives.

    Args:
        name: Name of the study.
        worker: Name of the worker; None if it was killed while it claimed the trial.
    """
    if worker is None:
        return False
    try:
        with worker_lock(name, worker):
            return False
    except Timeout:
        return True
