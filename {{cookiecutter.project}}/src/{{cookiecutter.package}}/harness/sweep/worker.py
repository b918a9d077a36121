"""The worker of a sweep: claims and trains trials until none remains."""

import functools
import json
import logging
import time
import traceback
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .. import configuration, contracts, prepared, targets
from ..core import config
from ..core.errors import UserError, one_line
from ..targets import monitor
from ..training import memory
from . import samplers, space
from . import study as studies
from .settings import LATENCY

if TYPE_CHECKING:
    import optuna


def work(name: str) -> None:
    """Runs trials of a study until none is left.

    Args:
        name: Name of the study.
    """
    study, worker = studies.load(name), uuid.uuid4().hex
    plan = study.user_attrs["plan"]
    study.pruner = samplers.pruner(plan["pruner"], plan["warmup"])
    searched, fixed = space.distributions(plan["space"]), {**plan["base"], **plan["choices"]}
    logging.getLogger("tensorflow").addFilter(no_retracing)
    with studies.worker_lock(name, worker):
        while trial := studies.claim(study, worker):
            repeated = trial.user_attrs.get("repeat_overrides")  # a repetition chooses nothing from the space
            chosen = space.suggest(trial, searched, fixed) if repeated is None else repeated
            run(study, trial, plan["fixed"] + chosen)


def no_retracing(record: logging.LogRecord) -> bool:
    """Filters out TensorFlow's retracing warning.

    TensorFlow takes the models of many trials for one model that is traced again and again.
    """
    return "triggered tf.function retracing" not in record.getMessage()


def run(study: "optuna.Study", trial: "optuna.Trial", overrides: list[str]) -> None:
    """Trains a trial and records its scores or its error.

    Args:
        study: The study.
        trial: The trial, with its parameters.
        overrides: Overrides of the trial.
    """
    import optuna

    metrics, started, history = study.user_attrs["plan"]["metrics"], time.monotonic(), list[dict[str, float]]()

    def report(epoch: int, measured: Mapping[str, float]) -> None:
        history.append({name: significant(value) for name, value in measured.items()})
        if len(metrics) == 1 and metrics[0] in measured:
            trial.report(history[-1][metrics[0]], epoch)
            if trial.should_prune():
                raise optuna.TrialPruned

    values, state = None, optuna.trial.TrialState.FAIL
    with memory.released():
        try:
            scores = train(study, trial, overrides, report)
            values, state = [scores[metric] for metric in metrics], optuna.trial.TrialState.COMPLETE
            trial.set_user_attr("scores", scores)
        except optuna.TrialPruned:
            state = optuna.trial.TrialState.PRUNED
        except Exception as error:  # any class: out of memory, a layer that does not fit; the sweep continues
            trial.set_user_attr("error", _failure(study.study_name, trial.number, error))
    trial.set_user_attr("history", history)
    trial.set_user_attr("seconds", round(time.monotonic() - started, 3))
    study.tell(trial, values, state)


def _failure(name: str, number: int, error: Exception) -> str:
    """The reason why a trial failed, in one line.

    The traceback of an unexpected error is written to the study's folder.
    """
    if isinstance(error, UserError):
        return str(error)
    log = studies.folder(name) / f"trial-{number}.txt"
    log.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    return f"{type(error).__name__}: {one_line(error)} (traceback: {log})"


def train(
    study: "optuna.Study", trial: "optuna.Trial", overrides: list[str], report: contracts.Report
) -> dict[str, float]:
    """Trains a trial as the stage `train` does, on the same data.

    Args:
        study: The study.
        trial: The trial, in which its configuration is recorded.
        overrides: Overrides of the trial.
        report: Callback after each epoch.

    Returns:
        Metric -> value in the epoch whose weights are kept; includes the latency if it is an objective.

    Raises:
        UserError: If the configuration is not valid, or the training fails.
    """
    sections = _configure(study, trial, overrides)
    manifest = prepared.manifest()
    inputs = encoded(json.dumps([manifest["digests"], sections[prepared.modality(manifest).SECTION]]))
    started = time.monotonic()
    try:
        fitted = config.instantiate(sections["train"], sections["model"], inputs, manifest, report)
    finally:
        trial.set_user_attr("fit_seconds", round(time.monotonic() - started, 3))
    epoch = monitor.best_epoch(fitted.history, sections["train"].get("monitor"), targets.target(manifest))
    best = fitted.history.iloc[epoch]
    scores = {name: significant(best[name]) for name in fitted.history if name.startswith("val_")}
    if LATENCY in study.user_attrs["plan"]["metrics"]:
        with studies.lock(study.study_name, LATENCY):  # one measurement at a time
            scores[LATENCY] = latency(fitted, inputs, manifest)
    return scores


def _configure(study: "optuna.Study", trial: "optuna.Trial", overrides: list[str]) -> dict[str, Any]:
    """The configuration of a trial, checked and recorded in the trial."""
    sections = configuration.parse(config.compose(overrides=overrides))
    trial.set_user_attr("overrides", overrides)
    trial.set_user_attr("parameters", parameters(sections))
    trial.set_user_attr("seed", sections["train"].get("seed"))
    configuration.check_sections(sections)
    shared = config.flatten({name: sections[name] for name in ("data", "prepare")})
    base = study.user_attrs["plan"]["base"]
    if changed := sorted(key for key, value in shared.items() if base.get(key) != value):
        raise UserError(f"{' and '.join(changed)}: trials share data/prepared, which was made with another value")
    return sections


def significant(value: Any) -> float:
    """A number with nine significant digits, as in reports/history.csv."""
    return float(f"{float(value):.9g}")


def parameters(sections: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters on which a training depends, as dotted key -> value."""
    return config.flatten({key: value for key, value in sections.items() if key not in space.AFTER_TRAINING})


@functools.lru_cache(maxsize=1)
def encoded(key: str) -> contracts.Inputs:
    """The encoded training data, cached for trials with the same encoding.

    Args:
        key: The data's digests and the section that configures the encoding, as JSON.
    """
    manifest = prepared.manifest()
    inputs: contracts.Inputs = prepared.modality(manifest).inputs(manifest, json.loads(key)[1])
    return inputs


def latency(fitted: contracts.Fitted, inputs: contracts.Inputs, manifest: contracts.Manifest) -> float:
    """Latency of the exported model on one thread, in milliseconds.

    It is the median of 200 measurements with one example.

    Args:
        fitted: The trained model.
        inputs: The data that it was fitted on.
        manifest: The manifest of the prepared data.
    """
    from ..exported import inference
    from ..training import export

    model = export.serialize(fitted, inputs, targets.target(manifest).OUTPUT)
    return inference.latency(model, next(iter(prepared.modality(manifest).feeds("validation"))))
