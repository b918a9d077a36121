"""A worker: takes trials from a study and trains them as the stage `train` does, until none is left."""

import functools
import gc
import json
import logging
import sys
import time
import traceback
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .. import configuration, contracts, prepared, targets
from ..core import config
from ..core.errors import UserError
from ..training import epochs
from . import search
from . import study as studies

if TYPE_CHECKING:
    import optuna


def work(name: str, threads: int | None = None) -> None:
    """Runs trials of a study until none is left.

    Args:
        name: Of the study.
        threads: How many threads a trial may compute with, where the configuration leaves it open.
    """
    study, worker = studies.load(name), uuid.uuid4().hex
    plan = study.user_attrs["plan"]
    study.pruner = search.pruner(plan["pruner"], plan["warmup"])
    searched, chosen = search.distributions(plan["space"]), {**plan["base"], **plan["choices"]}
    logging.getLogger("tensorflow").addFilter(no_retracing)
    with studies.place(name).worker(worker):
        while trial := studies.claim(study, worker):
            given = trial.user_attrs.get("given")  # a repetition's; what is searched otherwise
            overrides = plan["fixed"] + (search.suggest(trial, searched, chosen) if given is None else given)
            run(study, trial, overrides, threads)


def no_retracing(record: logging.LogRecord) -> bool:
    """Holds back a warning of TensorFlow, which takes the models of trials for one that is traced again and again."""
    return "triggered tf.function retracing" not in record.getMessage()


@functools.cache  # once in a process
def freeze() -> None:
    """Spares garbage collections what TensorFlow itself consists of: looking through that takes a third of a second."""
    gc.freeze()


def run(study: "optuna.Study", trial: "optuna.Trial", overrides: list[str], threads: int | None) -> None:
    """Trains one trial and records how it ended; whatever goes wrong in it is its own failure.

    Args:
        study: The study.
        trial: Has its parameters.
        overrides: Its configuration.
        threads: As in `work`.
    """
    import optuna

    plan, started, history = study.user_attrs["plan"], time.monotonic(), list[dict[str, float]]()

    def report(epoch: int, measured: Mapping[str, float]) -> None:
        history.append({name: significant(value) for name, value in measured.items()})
        if len(plan["metrics"]) == 1 and plan["metrics"][0] in measured:
            trial.report(history[-1][plan["metrics"][0]], epoch)
            if trial.should_prune():
                raise optuna.TrialPruned

    values, state, error = None, optuna.trial.TrialState.FAIL, ""
    try:
        scores = train(study, trial, overrides, threads, report)
        values, state = [scores[metric] for metric in plan["metrics"]], optuna.trial.TrialState.COMPLETE
        trial.set_user_attr("scores", scores)
    except optuna.TrialPruned:
        state = optuna.trial.TrialState.PRUNED
    except UserError as refused:
        error = str(refused)
    except Exception as raised:  # out of memory, a layer that does not fit: the sweep goes on
        error = f"{type(raised).__name__}: {' '.join(str(raised).split())[:300]}"
        log = studies.place(study.study_name).folder / f"trial-{trial.number}.txt"
        log.write_text(traceback.format_exc(), encoding="utf-8")
        error += f" (all of it: {log})"
    finally:
        if keras := sys.modules.get("keras"):
            keras.utils.clear_session()
            freeze()
    if error:
        trial.set_user_attr("error", error)
    trial.set_user_attr("history", history)
    trial.set_user_attr("seconds", round(time.monotonic() - started, 3))
    study.tell(trial, values, state)


def train(
    study: "optuna.Study", trial: "optuna.Trial", overrides: list[str], threads: int | None, report: contracts.Report
) -> dict[str, float]:
    """Trains a trial with the function of the stage `train`, on the same data.

    Args:
        study: The study.
        trial: What was done is recorded in it.
        overrides: Its configuration.
        threads: As in `work`.
        report: Is told each epoch.

    Returns:
        Metric -> value of the kept epoch, and the latency where it is optimised.

    Raises:
        UserError: Where the configuration is not valid, or training fails.
    """
    from omegaconf import OmegaConf

    text = config.compose(overrides=overrides)
    sections: Any = OmegaConf.to_container(OmegaConf.create(text))
    if threads is not None and sections["train"].get("threads", threads) is None:
        overrides = [*overrides, f"train.threads={threads}"]
        sections["train"]["threads"] = threads
    trial.set_user_attr("overrides", overrides)
    trial.set_user_attr("parameters", parameters(sections))
    trial.set_user_attr("seed", sections["train"].get("seed"))
    configuration.check(text)
    plan, manifest = study.user_attrs["plan"], prepared.manifest()
    other = {key for key, value in config.flatten({k: sections[k] for k in ("data", "prepare")}).items()
             if plan["base"].get(key) != value}  # fmt: skip
    if other:
        raise UserError(f"{' and '.join(sorted(other))}: trials share data/prepared, which was made with another value")
    modality = prepared.modality(manifest)
    inputs = encoded(json.dumps([manifest["digests"], sections[modality.SECTION]]))
    started = time.monotonic()
    try:
        fitted = config.instantiate(sections["train"], sections["model"], inputs, manifest, report)
    finally:
        trial.set_user_attr("fit_seconds", round(time.monotonic() - started, 3))
    kept = fitted.history.iloc[epochs.kept(fitted.history, sections["train"])]
    scores = {name: significant(kept[name]) for name in fitted.history if name.startswith("val_")}
    if search.LATENCY in plan["metrics"]:
        with studies.place(study.study_name).one_at_a_time(search.LATENCY):
            scores[search.LATENCY] = latency(fitted, inputs, manifest)
    return scores


def significant(value: Any) -> float:
    """Returns a number as reports/history.csv holds it."""
    return float(f"{float(value):.9g}")


def parameters(sections: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a training depends on, flat."""
    return config.flatten({key: value for key, value in sections.items() if key != "evaluate"})


@functools.lru_cache(maxsize=1)
def encoded(key: str) -> contracts.Inputs:
    """Returns what a model is fitted on; encoded once for trials that encode alike.

    Args:
        key: JSON of the data's digests and of the section that says how they are encoded.
    """
    manifest = prepared.manifest()
    inputs: contracts.Inputs = prepared.modality(manifest).inputs(manifest, json.loads(key)[1])
    return inputs


def latency(fitted: contracts.Fitted, inputs: contracts.Inputs, manifest: contracts.Manifest) -> float:
    """Returns how long the exported model takes for one answer, in ms: the median of 200, on one thread.

    Args:
        fitted: The trained model.
        inputs: What it was fitted on.
        manifest: Of the prepared data.
    """
    from ..exported import inference
    from ..training import export

    model = export.serialise(fitted, inputs, targets.target(manifest).OUTPUT)
    return inference.latency(model, next(iter(prepared.modality(manifest).feeds("validation"))))
