"""The study: every trial of a sweep, kept so that nothing is lost or run twice, whoever is killed and whenever.

Workers share a study through its storage and the folder sweeps/<name>. A worker holds the lock of a file for as long as
it lives; the operating system drops the lock with the process, also of a node that is lost (on NFS once its lease has
run out). A running trial whose worker's lock is free is lost, and its parameters are tried again.
"""

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from filelock import FileLock, Timeout

from ..core.errors import UserError
from . import search

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

SWEEPS = Path("sweeps")
REPEATS = "-seeds"  # ends the name of the study that repeats another one's best trials
ATTEMPTS = 3  # a trial that takes its worker down each time is failed after these


class Place(NamedTuple):
    """A study's folder."""

    folder: Path

    def worker(self, name: str) -> FileLock:
        """Returns the lock that a worker holds while it lives."""
        return FileLock(self.folder / "workers" / f"{name}.lock", timeout=0)

    def one_at_a_time(self, what: str) -> FileLock:
        """Returns a lock for what only one worker may do at a time."""
        return FileLock(self.folder / f"{what}.lock")


def place(name: str) -> Place:
    """Returns the folder of a study, made where it is missing."""
    folder = SWEEPS / name
    (folder / "workers").mkdir(parents=True, exist_ok=True)
    return Place(folder)


def storage() -> "optuna.storages.BaseStorage":
    """Opens where studies are kept, made where it is missing: OPTUNA_STORAGE, or sweeps/optuna.db.

    OPTUNA_STORAGE is the URL of a database, or the path of a journal (*.log), which a network file system takes better
    than SQLite's files.

    Raises:
        UserError: Where it cannot be opened.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend
    from sqlalchemy.exc import SQLAlchemyError

    SWEEPS.mkdir(exist_ok=True)
    url = os.environ.get("OPTUNA_STORAGE") or f"sqlite:///{SWEEPS}/optuna.db"
    # SQLite lets one process write at a time; the others wait for it this long.
    arguments = {"connect_args": {"timeout": 60}} if url.startswith("sqlite:") else {"pool_pre_ping": True}
    try:
        with FileLock(SWEEPS / "storage.lock"):  # of several that meet a new database, all but one would crash
            if url.endswith(".log"):
                return optuna.storages.JournalStorage(JournalFileBackend(url))
            return optuna.storages.RDBStorage(url, engine_kwargs=arguments)
    except (SQLAlchemyError, ImportError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"the storage of studies cannot be opened (OPTUNA_STORAGE): {reason}") from error


def load(name: str) -> "optuna.Study":
    """Opens a study that exists."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.load_study(study_name=name, storage=storage())


def create(name: str, metrics: Sequence[str], plan: Mapping[str, Any]) -> "optuna.Study":
    """Opens a study, made where it is missing.

    Args:
        name: Of the study.
        metrics: What is optimised.
        plan: What identifies the search: trials of another plan cannot be compared.

    Raises:
        UserError: Where the study exists with another plan.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with place(name).one_at_a_time("create"):
        opened = optuna.create_study(
            study_name=name,
            storage=storage(),
            directions=[search.direction(metric) for metric in metrics],
            load_if_exists=True,
        )
        found = opened.user_attrs.get("plan")
        if found is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                opened.set_metric_names(list(metrics))
            opened.set_user_attr("plan", dict(plan))
    if found is not None and found != plan:
        other = sorted(key for key in {*found, *plan} if found.get(key) != plan.get(key))
        raise UserError(
            f"sweep.name: the study {name!r} was made with another {' and '.join(other)}: its trials cannot be "
            "compared with new ones; choose another name"
        )
    return opened


def fill(study: "optuna.Study", trials: Mapping[str, Mapping[str, Any]]) -> None:
    """Adds trials that are known beforehand, each once, however often this is interrupted.

    Args:
        study: The study.
        trials: What tells one from all others -> its `params`, and `user_attrs` that are kept with it.
    """
    with place(study.study_name).one_at_a_time("claim"):
        there = {trial.user_attrs.get("planned") for trial in study.get_trials(deepcopy=False)}
        for key, trial in trials.items():
            if key not in there:
                attributes = {**trial.get("user_attrs", {}), "planned": key}
                study.enqueue_trial(trial.get("params", {}), user_attrs=attributes)


def claim(study: "optuna.Study", worker: str) -> "optuna.Trial | None":
    """Takes the next trial, or None where none is left.

    Args:
        study: The study; `budget` of its attributes is the number of trials, `wanted` which planned ones, if not all.
        worker: Who takes it; holds its lock.
    """
    from optuna.trial import TrialState

    with place(study.study_name).one_at_a_time("claim"):
        plan = study.user_attrs["plan"]
        while free(study):
            trials = study.get_trials(deepcopy=False)
            waiting = [trial.number for trial in trials if trial.state == TrialState.WAITING]
            study.sampler = search.sampler(plan["sampler"], plan["seed"], min(waiting, default=len(trials)))
            trial = study.ask()
            trial.set_user_attr("worker", worker)
            if trial.number in {one.number for one in wanted(study)}:
                return trial
            trial.set_user_attr("error", "was planned by an earlier command, and is not wanted any more")
            study.tell(trial, state=TrialState.FAIL)
        return None


def free(study: "optuna.Study") -> int:
    """Returns how many trials are nobody's, those of dead workers included; the caller holds the lock `claim`."""
    give_back_lost(study)
    return max(0, int(study.user_attrs["budget"]) - len(taken(study)))


def taken(study: "optuna.Study") -> "list[FrozenTrial]":
    """Returns the trials that count against the budget: those that run or have ended, and are not tried again."""
    from optuna.trial import TrialState

    trials = wanted(study)
    retried = {trial.user_attrs.get("retry_of") for trial in trials}
    return [trial for trial in trials if trial.state != TrialState.WAITING and trial.number not in retried]


def wanted(study: "optuna.Study") -> "list[FrozenTrial]":
    """Returns the trials without those that only an earlier command has planned."""
    trials, keys = study.get_trials(deepcopy=False), study.user_attrs.get("wanted")
    return trials if keys is None else [trial for trial in trials if trial.user_attrs["planned"] in keys]


def interrupt(study: "optuna.Study") -> None:
    """Gives back what is running: it is stopped on purpose, whenever its worker ends, and that was no attempt."""
    with place(study.study_name).one_at_a_time("claim"):
        study.set_user_attr("interrupted", [trial.number for trial in _running(study)])
        give_back_lost(study)


def give_back_lost(study: "optuna.Study") -> None:
    """Records trials whose workers have died as failed; their parameters are queued again unless all attempts are used.

    Args:
        study: The study; the caller holds its lock `claim`.
    """
    from optuna.trial import TrialState

    dead = {trial.number for trial in _running(study) if not alive(study.study_name, trial.user_attrs.get("worker"))}
    if not dead:
        return
    queued = {trial.user_attrs.get("retry_of") for trial in study.get_trials(deepcopy=False)}
    on_purpose = study.user_attrs.get("interrupted", ())
    for trial in _running(study):  # read again: one may have ended its trial, and then itself, in between
        if trial.number not in dead:
            continue
        own = trial.user_attrs
        attempt = own.get("attempt", 1) + (trial.number not in on_purpose)
        # Queued first: killed in between, the trial is still running without a worker, and comes here once more.
        if attempt <= ATTEMPTS and trial.number not in queued:
            kept: dict[str, Any] = {key: own[key] for key in ("planned", "repeat_of", "given") if key in own}
            # What it was queued with itself, as well: its worker may have died before it asked for all of that.
            study.enqueue_trial(
                {**trial.system_attrs.get("fixed_params", {}), **trial.params},
                user_attrs={**kept, "retry_of": trial.number, "attempt": attempt},
            )
        study.tell(trial.number, state=TrialState.FAIL)


def _running(study: "optuna.Study") -> "list[FrozenTrial]":
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))


def alive(name: str, worker: str | None) -> bool:
    """Says whether a worker of a study lives."""
    if worker is None:  # killed while it took the trial
        return False
    lock = place(name).worker(worker)
    try:
        with lock:
            return False
    except Timeout:
        return True
