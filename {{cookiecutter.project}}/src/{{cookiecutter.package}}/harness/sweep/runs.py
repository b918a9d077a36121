"""MLflow runs of a sweep: a parent with a child per trial.

The study holds everything that is logged, and only the process that started the sweep logs, so workers never wait for
a server. Logging can be interrupted at any step: the next attempt finds an incomplete run by its tag and completes it.
"""

import functools
import math
import shlex
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ..tracking import git, store
from . import report, trials
from . import study as studies

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param, Run
    from optuna import Study
    from optuna.trial import FrozenTrial

STATUS = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
PARAMETERS, METRICS = 100, 1000  # MLflow's limits for one call
PARAMETER, TAG = 6000, 5000  # MLflow's limits for one value, in characters
RETRY = 300.0  # seconds until an unreachable server is tried again: each attempt takes half a minute
_unreachable_since: dict[str, float] = {}  # store -> time; a process warns once for each store


def sync_or_warn(study: "Study") -> bool:
    """Logs finished trials, or warns if the tracking server does not answer.

    Args:
        study: A search, or the repetitions of its best trials.

    Returns:
        Whether every finished trial is logged.
    """
    if time.monotonic() < _unreachable_since.get(store.uri(), -RETRY) + RETRY:
        return False
    return _or_warn(functools.partial(sync, study))


def finish_or_warn(study: "Study", repeats: "Study | None", folder: Path) -> bool:
    """Logs the result of a sweep, or warns.

    Args:
        study: The search.
        repeats: The repetitions of its best trials.
        folder: The study's folder.

    Returns:
        Whether the result is logged.
    """
    return _or_warn(functools.partial(finish, study, repeats, folder))


def stop_or_warn(study: "Study") -> bool:
    """Marks the run of a sweep as killed, or warns.

    The next command of this sweep marks it as running again.

    Args:
        study: The search, or the repetitions of its best trials.

    Returns:
        Whether a run is marked.
    """
    parent = study.user_attrs.get("mlflow_run")
    return parent is not None and _or_warn(lambda: store.client().set_terminated(parent, "KILLED"))


def _or_warn(log: Callable[[], None]) -> bool:
    try:
        log()
    except Exception as error:  # any class: network, database, permissions
        if store.uri() not in _unreachable_since:
            print(
                f"warning: trials are not logged: {store.failure(error)}\n"
                "         The study keeps them; the next command of this sweep logs them.",
                file=sys.stderr,
            )
        _unreachable_since[store.uri()] = time.monotonic()
        return False
    return True


def sync(study: "Study") -> None:
    """Logs the finished trials that are not logged yet.

    MLflow is imported only if there are such trials.

    Args:
        study: A search, or the repetitions of its best trials; their runs are children of the search's run.

    Raises:
        mlflow.exceptions.MlflowException: If the store fails.
    """
    if _unlogged(study, study.user_attrs.get("mlflow_run", "")):
        _log(study)


def finish(study: "Study", repeats: "Study | None", folder: Path) -> None:
    """Logs missing trials and the result of the sweep.

    The result is the best trial, its scores, plots and tables. The best trial is logged as tags, because it may change
    when the sweep continues, and MLflow's parameters cannot change.

    Args:
        study: The search.
        repeats: The repetitions of its best trials; their mean then decides which trial is the best.
        folder: The study's folder; its PNG and CSV files are logged.

    Raises:
        mlflow.exceptions.MlflowException: If the store fails.
    """
    from mlflow.entities import Metric, RunTag

    parent = _log(study)
    if repeats is not None:
        _log(repeats)
    winners = trials.winners(study, repeats)
    tags = {"mlflow.note.content": _note(study, repeats), **_result(study, winners)}
    scores = _winner_scores(study, repeats, winners)
    now, step = round(time.time() * 1000), len(trials.in_states(study, *trials.FINISHED))
    with store.one_at_a_time():
        client = store.client()
        metrics = [Metric(name, value, now, step) for name, value in scores.items()]
        client.log_batch(parent, metrics, tags=[RunTag(name, value[:TAG]) for name, value in tags.items()])
        for file in [*sorted(folder.glob("*.png")), *sorted(folder.glob("*.csv"))]:
            client.log_artifact(parent, str(file), "sweep")
        client.set_terminated(parent, "FINISHED")


def _note(study: "Study", repeats: "Study | None") -> str:
    """The description of the sweep's run, in Markdown."""
    note = f"{report.summary(study)}\n\n```\n{report.table(study, 10)}\n```"
    return note if repeats is None else f"{note}\n\n```\n{report.seeds_table(study, repeats)}\n```"


def _result(study: "Study", winners: Sequence["FrozenTrial"]) -> dict[str, str]:
    """The tags that name the best trial, or the Pareto front."""
    if len(study.directions) > 1:
        return {"pareto_front": ", ".join(str(trial.number) for trial in winners)}
    if not winners:
        return {}
    overrides = winners[0].user_attrs.get("overrides", [])
    return {"best_trial": str(winners[0].number), "best_overrides": shlex.join(overrides)}


def _winner_scores(study: "Study", repeats: "Study | None", winners: Sequence["FrozenTrial"]) -> dict[str, float]:
    """The scores of the best trial, and their mean over seeds."""
    if len(study.directions) > 1 or not winners:
        return {}
    scores, metric = _scores(winners[0]), trials.metrics(study)[0]
    ranked = trials.rank(study, repeats) if repeats is not None else []
    for entry in ranked:
        if entry.number == winners[0].number:
            over_seeds = {"mean": entry.mean, "low": entry.low, "high": entry.high}
            scores |= {f"{name}_{metric}": value for name, value in over_seeds.items() if math.isfinite(value)}
    return scores


def _unlogged(study: "Study", parent: str) -> list["FrozenTrial"]:
    """The finished trials that are not logged below a run.

    The study records the numbers of logged trials, because MLflow takes a second to list a thousand children.
    """
    attributes = study.user_attrs
    logged = set(attributes.get("mlflow_logged", ())) if attributes.get("mlflow_run") == parent else set()
    return [trial for trial in trials.in_states(study, *trials.FINISHED) if trial.number not in logged]


def _log(study: "Study") -> str:
    """Logs missing trials; returns the id of the sweep's run."""
    search = _search(study)
    with studies.lock(search.study_name, "mlflow"):
        client = store.client()
        experiment = store.experiment(client)
        parent = _parent(client, experiment, search)
        common = _origin(search) | {"mlflow.parentRunId": parent}
        missing = _unlogged(study, parent)
        if study.user_attrs.get("mlflow_run") != parent:
            # The list is reset first: if the process is killed in between, no trial counts as logged below this run.
            study.set_user_attr("mlflow_logged", [])
            study.set_user_attr("mlflow_run", parent)
        key, logged = _key(study), study.user_attrs["mlflow_logged"]
        try:
            for trial in missing:
                with store.one_at_a_time():  # for each trial, so that other processes can write to SQLite in between
                    _log_trial(client, experiment, trial, _tags(study.study_name, key, trial) | common)
                logged.append(trial.number)
        finally:
            if missing:
                study.set_user_attr("mlflow_logged", logged)
    return parent


def _search(study: "Study") -> "Study":
    """The search whose best trials a study repeats, or the study itself."""
    if any("repeat_of" in trial.user_attrs for trial in trials.in_states(study)):
        return studies.load(study.study_name.removesuffix(studies.REPEATS))
    return study


def _origin(study: "Study") -> dict[str, str]:
    """The tags for the data and the code of the trials."""
    origin = {"data_md5": study.user_attrs.get("data_md5"), "git_commit": git.git("rev-parse", "HEAD")}
    return {name: value for name, value in origin.items() if value}


def _key(study: "Study") -> str:
    """A unique id of a study, whose name may be used again."""
    if "mlflow_key" not in study.user_attrs:
        study.set_user_attr("mlflow_key", uuid.uuid4().hex)
    return str(study.user_attrs["mlflow_key"])


def _parent(client: "MlflowClient", experiment: str, study: "Study") -> str:
    """The id of the sweep's run, created if missing and marked running."""
    key = _key(study)
    with store.one_at_a_time():
        run = _find(client, experiment, key)
        if run is None:
            started = [trial.datetime_start for trial in trials.in_states(study) if trial.datetime_start is not None]
            tags = {"sweep": study.study_name, "sweep_key": key, **_origin(study)}
            run = client.create_run(experiment, _milliseconds(min(started, default=None)), tags, study.study_name)
        elif run.info.status != "RUNNING":
            client.update_run(run.info.run_id, "RUNNING")
    return str(run.info.run_id)


def _find(client: "MlflowClient", experiment: str, key: str) -> "Run | None":
    runs = client.search_runs([experiment], f"tags.sweep_key = '{key}'", max_results=1)
    return runs[0] if runs else None


def _log_trial(client: "MlflowClient", experiment: str, trial: "FrozenTrial", tags: Mapping[str, str]) -> None:
    """Makes or completes the run of a finished trial."""
    run = _find(client, experiment, tags["sweep_key"])
    if run is None:
        started = _milliseconds(trial.datetime_start or trial.datetime_complete)
        # The same call sets the tags, by which an incomplete run is found later.
        run = client.create_run(experiment, started, dict(tags), f"{tags['sweep']}-{trial.number}")
    run_id, status = run.info.run_id, STATUS[trials.STATES[trial.state.name]]
    parent = tags["mlflow.parentRunId"]
    if run.data.tags.get("mlflow.parentRunId") != parent:  # the former run of the sweep was deleted
        client.set_tag(run_id, "mlflow.parentRunId", parent)
    if run.info.status != status:
        _log_values(client, run_id, _metrics(trial), _parameters(trial))
        client.set_terminated(run_id, status, _milliseconds(trial.datetime_complete))


def _log_values(
    client: "MlflowClient", run_id: str, metrics: Sequence["Metric"], parameters: Sequence["Param"]
) -> None:
    """Logs metrics and parameters, in as few calls as MLflow's limits allow."""
    size = METRICS - PARAMETERS  # the limit of a call counts both
    for start in range(0, max(len(metrics), 1), size):
        client.log_batch(run_id, metrics[start : start + size], () if start else parameters[:PARAMETERS])
    for start in range(PARAMETERS, len(parameters), PARAMETERS):
        client.log_batch(run_id, params=parameters[start : start + PARAMETERS])


def _tags(name: str, key: str, trial: "FrozenTrial") -> dict[str, str]:
    """The tags by which a trial's run is found."""
    tags = {
        "sweep": name,
        "sweep_key": f"{key}-{trial.number}",
        "trial": trial.number,
        "state": trials.STATES[trial.state.name],
        "seed": trial.user_attrs.get("seed"),
        "repeat_of": trial.user_attrs.get("repeat_of"),
        "error": trials.error(trial) or None,
    }
    return {name: str(value)[:TAG] for name, value in tags.items() if value is not None}


def _parameters(trial: "FrozenTrial") -> list["Param"]:
    """The searched parameters, such as `model: cnn`, and the composed configuration."""
    from mlflow.entities import Param

    values = {**trials.parameters(trial), **trial.user_attrs.get("parameters", {})}
    return [Param(_allowed(name), str(value)[:PARAMETER]) for name, value in values.items()]


def _metrics(trial: "FrozenTrial") -> list["Metric"]:
    """Metrics by epoch and scores; their times are those of the trial."""
    from mlflow.entities import Metric

    history = trial.user_attrs.get("history", [])
    end = _milliseconds(trial.datetime_complete) or 0
    start = _milliseconds(trial.datetime_start) or end
    # The time of an epoch is not recorded: epochs are spread over the trial, for curves over time.
    epochs = [
        Metric(_allowed(name), float(value), round(start + (end - start) * (epoch + 1) / len(history)), epoch)
        for epoch, row in enumerate(history)
        for name, value in row.items()
    ]
    scores = _scores(trial)
    if (seconds := trials.seconds(trial)) is not None:
        scores["seconds"] = seconds
    return [*epochs, *(Metric(name, value, end, 0) for name, value in scores.items())]


def _scores(trial: "FrozenTrial") -> dict[str, float]:
    """The scores by their names in MLflow.

    `val_loss` becomes `best_val_loss`, because `val_loss` is the metric by epoch, of which MLflow shows the last value.
    """
    scores = trial.user_attrs.get("scores", {})
    return {
        _allowed(f"best_{name}" if name.startswith("val_") else name): float(value) for name, value in scores.items()
    }


def _allowed(name: str) -> str:
    """A name without characters that MLflow rejects, such as an override's `+`."""
    return "".join(letter if letter.isalnum() or letter in "_-. :/" else "_" for letter in name.lstrip("+"))[:250]


def _milliseconds(moment: datetime | None) -> int | None:
    return None if moment is None else round(moment.timestamp() * 1000)
