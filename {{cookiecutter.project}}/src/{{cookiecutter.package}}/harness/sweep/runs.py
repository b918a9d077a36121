"""MLflow: every finished trial of a sweep becomes a run, child of the sweep's run.

The study holds all that is logged, and only the process that started the sweep logs it: workers never wait for a
server. Logging is done in steps of which each can be the last: the next sync finds a half-logged run by its tag and
completes it.
"""

import functools
import math
import shlex
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ..tracking import git, store
from ..tracking import store as tracking_store
from . import report, trials
from . import study as studies

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run
    from optuna import Study
    from optuna.trial import FrozenTrial

STATUS = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
PARAMETERS, METRICS = 100, 1000  # MLflow's limits for one call
PARAMETER, TAG = 6000, 5000  # and for one value, in characters
RETRY = 300.0  # seconds; to find out that a server is away takes up to half a minute
_away: dict[str, float] = {}  # which stores were, and when: a warning each is enough for a process


def sync_or_warn(study: "Study") -> bool:
    """Logs what has finished; a tracking server that is away costs a warning, never the sweep.

    Args:
        study: A search, or the repetitions of its best trials.

    Returns:
        Whether all that has finished is logged.
    """
    if time.monotonic() < _away.get(store.uri(), -RETRY) + RETRY:
        return False
    return _or_warn(functools.partial(sync, study))


def finish_or_warn(study: "Study", repeats: "Study | None", folder: Path) -> bool:
    """Logs the end of a sweep as `finish` does, or warns as `sync_or_warn` does.

    Args:
        study: The search.
        repeats: The repetitions of its best trials.
        folder: The study's folder.

    Returns:
        Whether it is logged.
    """
    return _or_warn(functools.partial(finish, study, repeats, folder))


def stop_or_warn(study: "Study") -> bool:
    """Marks a sweep's run as stopped, where it has one; the next command on this sweep has it running again.

    Args:
        study: The search, or the repetitions of its best trials.

    Returns:
        Whether it is marked.
    """
    parent = study.user_attrs.get("mlflow_run")
    return parent is not None and _or_warn(lambda: store.client().set_terminated(parent, "KILLED"))


def _or_warn(log: Callable[[], None]) -> bool:
    try:
        log()
    except Exception as error:  # whatever the store raises: network, database, permissions
        if store.uri() not in _away:
            reason = " ".join(str(error).split())[:300]
            print(
                f"warning: MLflow at {store.uri()} could not be reached, trials are not logged: {reason}\n"
                "         The study keeps them; the next command on this sweep logs them.",
                file=sys.stderr,
            )
        _away[store.uri()] = time.monotonic()
        return False
    return True


def sync(study: "Study") -> None:
    """Logs every finished trial that is not logged yet; where there is none, MLflow is not even imported.

    Args:
        study: A search, or the repetitions of its best trials, which become children of the search's run.

    Raises:
        mlflow.exceptions.MlflowException: Where the store fails.
    """
    if _unlogged(study, study.user_attrs.get("mlflow_run", "")):
        _log(study)


def finish(study: "Study", repeats: "Study | None", folder: Path) -> None:
    """Logs what is still missing, and the sweep's result: the best trial, its scores, the pictures and the tables.

    What is best may change when the sweep goes on, and MLflow's parameters may not: it is kept in tags.

    Args:
        study: The search.
        repeats: The repetitions of its best trials; their mean then decides which trial is the best.
        folder: The study's folder; its PNG and CSV files are logged.

    Raises:
        mlflow.exceptions.MlflowException: Where the store fails.
    """
    from mlflow.entities import Metric, RunTag

    parent = _log(study)
    if repeats is not None:
        _log(repeats)
    winners, names = trials.winners(study, repeats), trials.metrics(study)
    text = f"{report.summary(study)}\n\n```\n{report.table(study, 10)}\n```"
    tags, values = {"mlflow.note.content": text}, dict[str, float]()
    if repeats is not None:
        tags["mlflow.note.content"] += f"\n\n```\n{report.seeds_table(study, repeats)}\n```"
    if len(names) > 1:
        tags["pareto_front"] = ", ".join(str(trial.number) for trial in winners)
    elif winners:
        tags["best_trial"] = str(winners[0].number)
        tags["best_overrides"] = shlex.join(winners[0].user_attrs.get("overrides", []))
        values = _scores(winners[0])
        for one in trials.rank(study, repeats) if repeats is not None else ():
            if one.number == winners[0].number:
                found = {"mean": one.mean, "low": one.low, "high": one.high}
                values |= {f"{name}_{names[0]}": value for name, value in found.items() if math.isfinite(value)}
    now, step = round(time.time() * 1000), len(trials.in_states(study, *trials.FINISHED))
    with tracking_store.one_at_a_time():
        store = tracking_store.client()
        logged = [Metric(name, value, now, step) for name, value in values.items()]
        store.log_batch(parent, logged, tags=[RunTag(name, value[:TAG]) for name, value in tags.items()])
        for pattern in ("*.png", "*.csv"):
            for file in sorted(folder.glob(pattern)):
                store.log_artifact(parent, str(file), "sweep")
        store.set_terminated(parent, "FINISHED")


def _unlogged(study: "Study", parent: str) -> list["FrozenTrial"]:
    """Returns the finished trials that are not known to be children of a run.

    Which are known is kept in the study: MLflow takes a second to list a thousand children.
    """
    own = study.user_attrs
    known = set(own.get("mlflow_logged", ())) if own.get("mlflow_run") == parent else set()
    return [trial for trial in trials.in_states(study, *trials.FINISHED) if trial.number not in known]


def _log(study: "Study") -> str:
    """Logs what is missing; returns the id of the sweep's run."""
    search = _search(study)
    with studies.place(search.study_name).one_at_a_time("mlflow"):
        store = tracking_store.client()
        experiment = tracking_store.experiment(store)
        parent = _parent(store, experiment, search)
        common = _origin(search) | {"mlflow.parentRunId": parent}
        missing = _unlogged(study, parent)
        if study.user_attrs.get("mlflow_run") != parent:
            # In this order: killed in between, a list that belongs to another run must not be taken for this one's.
            study.set_user_attr("mlflow_logged", [])
            study.set_user_attr("mlflow_run", parent)
        key, known = _key(study), study.user_attrs["mlflow_logged"]
        try:
            for trial in missing:
                with tracking_store.one_at_a_time():  # SQLite has one writer; others have their turn between two trials
                    _log_trial(store, experiment, parent, trial, _tags(study.study_name, key, trial) | common)
                known.append(trial.number)
        finally:
            if missing:
                study.set_user_attr("mlflow_logged", known)
    return parent


def _search(study: "Study") -> "Study":
    """Returns the search whose best trials a study repeats, or the study itself where it repeats none."""
    if any("repeat_of" in trial.user_attrs for trial in trials.in_states(study)):
        return studies.load(study.study_name.removesuffix(studies.REPEATS))
    return study


def _origin(study: "Study") -> dict[str, str]:
    """Returns the tags that say what the trials were made from."""
    found = {"data_md5": study.user_attrs.get("data_md5"), "git_commit": git.git("rev-parse", "HEAD")}
    return {name: value for name, value in found.items() if value}


def _key(study: "Study") -> str:
    """Returns what tells a study from any other of its name, in this storage or in one that was deleted."""
    if "mlflow_key" not in study.user_attrs:
        study.set_user_attr("mlflow_key", uuid.uuid4().hex)
    return str(study.user_attrs["mlflow_key"])


def _parent(store: "MlflowClient", experiment: str, study: "Study") -> str:
    """Returns the id of the sweep's run, made where it is missing, and running."""
    key = _key(study)
    with tracking_store.one_at_a_time():
        found = _find(store, experiment, key)
        if found is None:
            started = [trial.datetime_start for trial in trials.in_states(study) if trial.datetime_start is not None]
            tags = {"sweep": study.study_name, "sweep_key": key, **_origin(study)}
            found = store.create_run(experiment, _milliseconds(min(started, default=None)), tags, study.study_name)
        elif found.info.status != "RUNNING":
            store.update_run(found.info.run_id, "RUNNING")
    return str(found.info.run_id)


def _find(store: "MlflowClient", experiment: str, key: str) -> "Run | None":
    found = store.search_runs([experiment], f"tags.sweep_key = '{key}'", max_results=1)
    return found[0] if found else None


def _log_trial(
    store: "MlflowClient", experiment: str, parent: str, trial: "FrozenTrial", tags: Mapping[str, str]
) -> None:
    """Makes or completes the run of a finished trial."""
    from mlflow.entities import Param

    run = _find(store, experiment, tags["sweep_key"])
    if run is None:
        started = _milliseconds(trial.datetime_start or trial.datetime_complete)
        # With its tags in one call: there is no run that could not be found again.
        run = store.create_run(experiment, started, tags, f"{tags['sweep']}-{trial.number}")
    run_id, status = run.info.run_id, STATUS[trials.STATES[trial.state.name]]
    if run.data.tags.get("mlflow.parentRunId") != parent:  # of a sweep's run that somebody deleted
        store.set_tag(run_id, "mlflow.parentRunId", parent)
    if run.info.status == status:
        return
    # What the search chose, such as `model: cnn`, beside what that stands for in the whole configuration.
    chosen = {**trials.settings(trial), **trial.user_attrs.get("parameters", {})}
    parameters = [Param(_allowed(name), str(value)[:PARAMETER]) for name, value in chosen.items()]
    measured = _metrics(trial)
    for start in range(0, max(len(measured), 1), METRICS - PARAMETERS):
        store.log_batch(
            run_id, measured[start : start + METRICS - PARAMETERS], parameters[:PARAMETERS] if not start else ()
        )
    for start in range(PARAMETERS, len(parameters), PARAMETERS):
        store.log_batch(run_id, params=parameters[start : start + PARAMETERS])
    store.set_terminated(run_id, status, _milliseconds(trial.datetime_complete))


def _tags(name: str, key: str, trial: "FrozenTrial") -> dict[str, str]:
    """Returns the tags by which a trial's run is found."""
    found = {
        "sweep": name,
        "sweep_key": f"{key}-{trial.number}",
        "trial": trial.number,
        "state": trials.STATES[trial.state.name],
        "seed": trial.user_attrs.get("seed"),
        "repeat_of": trial.user_attrs.get("repeat_of"),
        "error": trials.error(trial) or None,
    }
    return {name: str(value)[:TAG] for name, value in found.items() if value is not None}


def _metrics(trial: "FrozenTrial") -> list["Metric"]:
    """Returns the epochs and the scores, at times that are the same whenever they are logged."""
    from mlflow.entities import Metric

    history = trial.user_attrs.get("history", [])
    end = _milliseconds(trial.datetime_complete) or 0
    start = _milliseconds(trial.datetime_start) or end
    # No epoch's own time is known: spread over the trial, so that curves can be drawn over time as well.
    epochs = [
        Metric(_allowed(name), float(value), round(start + (end - start) * (epoch + 1) / len(history)), epoch)
        for epoch, row in enumerate(history)
        for name, value in row.items()
    ]
    more = _scores(trial)
    if (seconds := trials.seconds(trial)) is not None:
        more["seconds"] = seconds
    return [*epochs, *(Metric(name, value, end, 0) for name, value in more.items())]


def _scores(trial: "FrozenTrial") -> dict[str, float]:
    """Returns the scores by name: `best_val_loss`, because under `val_loss` MLflow shows the last epoch."""
    scores = trial.user_attrs.get("scores", {})
    return {
        _allowed(f"best_{name}" if name.startswith("val_") else name): float(value) for name, value in scores.items()
    }


def _allowed(name: str) -> str:
    """Returns a name with what MLflow does not allow in it (`+` of an override, for instance) as underscores."""
    return "".join(letter if letter.isalnum() or letter in "_-. :/" else "_" for letter in name.lstrip("+"))[:250]


def _milliseconds(moment: datetime | None) -> int | None:
    return None if moment is None else round(moment.timestamp() * 1000)
