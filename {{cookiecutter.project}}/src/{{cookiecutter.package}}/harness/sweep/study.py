"""The study of a sweep, which survives workers that are killed.

No trial is lost or counted twice. Workers share a study through its storage and the folder sweeps/<name>. A worker
holds a file lock while it lives; the operating system releases the lock when the process ends, and NFS when the lease
of a lost node ends. A running trial whose worker's lock is free is lost: it is recorded as failed, and its parameters
are queued again.
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
REPEATS = "-seeds"  # suffix of the study that repeats the best trials of a search
ATTEMPTS = 3  # of a trial that kills its workers
# Attributes that the next attempt of a lost trial inherits.
INHERITED = ("plan_key", "repeat_of", "repeat_overrides")


def folder(name: str) -> Path:
    """The folder of a study, created if missing."""
    path = SWEEPS / name
    (path / "workers").mkdir(parents=True, exist_ok=True)
    return path


def lock(name: str, purpose: str) -> FileLock:
    """A lock among the processes that share a study."""
    return FileLock(folder(name) / f"{purpose}.lock")


def worker_lock(name: str, worker: str) -> FileLock:
    """The lock that a worker of a study holds while it lives."""
    return FileLock(folder(name) / "workers" / f"{worker}.lock", timeout=0)


def storage() -> "optuna.storages.BaseStorage":
    """The storage of all studies: OPTUNA_STORAGE, or sweeps/optuna.db, created if missing.

    OPTUNA_STORAGE is the URL of a database, or the path of a journal (*.log), which suits a network file system better
    than SQLite.

    Raises:
        UserError: If the storage cannot be opened.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend
    from sqlalchemy.exc import SQLAlchemyError

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    SWEEPS.mkdir(exist_ok=True)
    url = os.environ.get("OPTUNA_STORAGE") or f"sqlite:///{SWEEPS}/optuna.db"
    # SQLite has one writer at a time; the other processes wait up to 60 seconds.
    arguments = {"connect_args": {"timeout": 60}} if url.startswith("sqlite:") else {"pool_pre_ping": True}
    try:
        with FileLock(SWEEPS / "storage.lock"):  # without it, processes fail that create the database at the same time
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
    """A study, created if missing.

    Args:
        name: Name of the study.
        objectives: Metric -> its direction.
        plan: The plan of the search; trials of different plans cannot be compared.

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
    """Queues the planned trials that the study does not hold yet.

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
        study: The study. Its attribute `budget` is the number of trials; its attribute `planned`, if set, holds the
            keys of the trials that count.
        worker: Name of the worker, which holds its worker lock.
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
    """Number of trials that no live worker has claimed.

    Args:
        study: The study; the caller holds its lock `claim`.
    """
    requeue_lost(study)
    return max(0, int(study.user_attrs["budget"]) - len(claimed(study)))


def claimed(study: "optuna.Study") -> "list[FrozenTrial]":
    """The trials that count against the budget: running or ended, not requeued."""
    from optuna.trial import TrialState

    trials = planned(study)
    requeued = {trial.user_attrs.get("retry_of") for trial in trials}
    return [trial for trial in trials if trial.state != TrialState.WAITING and trial.number not in requeued]


def planned(study: "optuna.Study") -> "list[FrozenTrial]":
    """The trials of this command, without those that only earlier commands planned."""
    trials, keys = study.get_trials(deepcopy=False), study.user_attrs.get("planned")
    return trials if keys is None else [trial for trial in trials if trial.user_attrs["plan_key"] in keys]


def remaining(study: "optuna.Study") -> int:
    """Number of trials in the budget that have not ended."""
    return max(0, int(study.user_attrs["budget"]) - len(ended(study)))


def ended(study: "optuna.Study") -> "list[FrozenTrial]":
    """The trials that have ended and were not requeued."""
    return [trial for trial in claimed(study) if trial.state.is_finished()]


def begun(study: "optuna.Study") -> int:
    """Number of trials that workers have begun, including lost trials."""
    return sum(trial.state.name != "WAITING" for trial in study.get_trials(deepcopy=False))


def requeue_interrupted(study: "optuna.Study") -> None:
    """Requeues running trials after Ctrl-C, without counting an attempt.

    The trial of a live worker is requeued when its worker ends.
    """
    with lock(study.study_name, "claim"):
        study.set_user_attr("interrupted", [trial.number for trial in _running(study)])
        requeue_lost(study)


def requeue_lost(study: "optuna.Study") -> None:
    """Requeues the trials of dead workers while attempts are left.

    The lost trial itself is recorded as failed.

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
            # Queued before it fails: if this process is killed in between, the trial is found again as a lost one.
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
        # Includes the queued parameters, because the worker may have died before it suggested all of them.
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
