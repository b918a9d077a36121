"""MLflow: the results on disk become a run, found again by the key of its inputs.

    python -m <package>.tracking        logs the workspace's results, for when the server was away

Everything is logged from what the pipeline left on disk, so that logging now and logging later are the same. One
training is one run: logging it again completes or refreshes that run and never makes a second.
"""

import contextlib
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from . import cli, lineage

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

MODELS, REPORTS = Path("models"), Path("reports")
# What is logged of the stages before `evaluate`, and of it.
TRAINED = ("models/model.json", "models/model.onnx", "reports/data.json", "reports/history.csv")
EVALUATED = ("models/page.json", "reports/intervals.json", "reports/metrics.json", "reports/model_card.md")


def uri() -> str:
    """Returns where runs are kept: MLFLOW_TRACKING_URI, or mlflow.db in the project's root."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(cli.project_root() / 'mlflow.db').as_posix()}"


def client() -> "MlflowClient":
    """Opens the store, creating the default one where it is missing."""
    # A server that is away must say so within seconds, not after minutes of retries.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # one for each small file
    for chatty in ("alembic", "mlflow.store.db.utils"):  # one line for each of the tables that are created
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # An environment made by uv holds no pip; the requirements below are explicit, so nothing depends on its version.
    logging.getLogger("mlflow.utils.environment").setLevel(logging.ERROR)
    import mlflow

    mlflow.set_tracking_uri(uri())
    with one_at_a_time():
        store = mlflow.MlflowClient()
        store.search_experiments(max_results=1)
    return store


def one_at_a_time() -> contextlib.AbstractContextManager[Any]:
    """Returns a lock over an SQLite store; a server needs none.

    Of several processes that meet a fresh SQLite file all but one crash while they create its tables, and two that
    log the same training at the same time would both find no run yet.
    """
    # A singleton, and therefore re-entrant: `log` opens the store while it holds the lock.
    path = uri().removeprefix("sqlite:///")
    return contextlib.nullcontext() if path == uri() else FileLock(f"{path}.lock", is_singleton=True)


def experiment(store: "MlflowClient") -> str:
    """Returns the id of this project's MLflow experiment, made where it is missing."""
    from mlflow.exceptions import MlflowException

    name = str(__package__)
    found = store.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    try:
        location = (cli.project_root() / "mlartifacts").as_uri() if uri().startswith("sqlite:") else None
        return str(store.create_experiment(name, artifact_location=location))
    except MlflowException:  # another process made it in between
        return str(store.get_experiment_by_name(name).experiment_id)


def find(**tags: str) -> "Run | None":
    """Returns the run that carries these tags, if one was logged."""
    store = client()
    wanted = " and ".join(f"tags.{name} = '{value}'" for name, value in tags.items())
    found = store.search_runs([experiment(store)], wanted, max_results=1)
    return found[0] if found else None


def resolve(key: str, model: str) -> "Run | None":
    """Returns the run of a training, or the one that gave the same model.

    Where an edit of the code leaves the model's bytes as they were, DVC takes the evaluation from its cache, and
    nothing is logged: the run that first made these bytes is then the one to show.

    Args:
        key: The training's key.
        model: MD5 of models/model.onnx.
    """
    return find(training_key=key) or find(model_md5=model)


def get(run_id: str) -> "Run | None":
    """Returns a run by its id, if there is one."""
    from mlflow.exceptions import MlflowException

    store = client()
    try:
        return store.get_run(run_id)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):  # the second: it is no id
            raise
        return None


def search(name: str) -> "list[Run]":
    """Returns the runs of trainings that a hash or a parameter names, the latest first.

    Args:
        name: A hash, see `lineage.is_of`, or `key=value`.
    """
    from yaml import YAMLError, safe_load

    key, parameter, value = (part.strip() for part in name.partition("="))
    values = {value}
    if parameter:
        with contextlib.suppress(YAMLError):
            values.add(str(safe_load(value)))  # as it was logged: true is True there

    def is_meant(run: "Run") -> bool:
        return run.data.params.get(key) in values if parameter else lineage.is_of(name, run.data.tags)

    store = client()
    every = store.search_runs([experiment(store)], "tags.training_key LIKE '%'", max_results=50_000)  # its limit
    return [run for run in every if is_meant(run)]


def in_short(run: "Run") -> str:
    """Returns a run in a line, to choose from several."""
    tags = run.data.tags
    commit, data, model = (tags.get(name, "?")[:12] for name in ("git_commit", "data_md5", "model_sha256"))
    return f"{run.info.run_id} from commit {commit}, data {data}, model {model}"


def training_of(run: "Run") -> lineage.Training:
    """Returns the training that a run recorded.

    Raises:
        UserError: Where it is another kind of run.
    """
    tags = run.data.tags
    if "training_key" not in tags:
        raise cli.UserError(f"run {run.info.run_id} is no training of this pipeline")
    return lineage.Training(tags["training_key"], json.loads(tags["inputs"]), run.data.params, tags["model_md5"])


def log_or_warn() -> None:
    """Logs what `evaluate` has written; a tracking server that is away costs a warning, never the results."""
    try:
        log(TRAINED)  # dvc.lock will have the hashes of the others when the stage has ended
    except Exception as error:  # whatever the store raises (network, database, permissions), training has succeeded
        reason, again = " ".join(str(error).split())[:300], "After that"
        if not isinstance(error, cli.UserError):
            reason, again = f"MLflow at {uri()} could not be reached: {reason}", "Once it is back"
        print(
            f"warning: the run is not logged: {reason}\n"
            f"         All results are on disk. {again}: python -m {__package__}.tracking",
            file=sys.stderr,
        )


def log(recorded: Sequence[str] = TRAINED + EVALUATED) -> str:
    """Logs parameters, epochs, metrics, plots and model of the workspace.

    Args:
        recorded: What must be as dvc.lock records it, in whose name it is logged.

    Returns:
        The run's id.

    Raises:
        UserError: Where the pipeline has not run, or something else lies there than dvc.lock records.
        mlflow.exceptions.MlflowException: Where the store fails.
    """
    lineage.check(recorded)
    training = lineage.training(lineage.read_lock())
    metrics, intervals, data = (
        json.loads((REPORTS / f"{name}.json").read_text(encoding="utf-8")) for name in ("metrics", "intervals", "data")
    )
    values = {f"test_{name}": value for name, value in metrics.items()}
    for name, (low, high) in intervals.items():
        values |= {f"test_{name}_low": low, f"test_{name}_high": high}
    # What `prepare` did about bad data.
    values |= {f"data_{name}": data[name] for name in ("skipped", "imputed", "duplicates") if name in data}
    with one_at_a_time():
        store = client()
        run = find(training_key=training.key)
        if run is None or run.info.status != "FINISHED":
            run = log_training(store, training, run)
    for name, value in values.items():
        store.log_metric(run.info.run_id, name, value)
    store.log_artifacts(run.info.run_id, str(REPORTS), "reports")
    store.log_artifact(run.info.run_id, str(MODELS / "page.json"))  # a Bento of the registered model wants it
    return str(run.info.run_id)


def log_training(store: "MlflowClient", training: lineage.Training, run: "Run | None") -> "Run":
    """Makes or completes the run of a training.

    Args:
        store: The MLflow store.
        training: From dvc.lock.
        run: The run that an interrupted logging left, if any.

    Returns:
        The finished run.
    """
    import pandas as pd
    from mlflow.entities import Metric, Param, RunTag

    if run is None:
        run = store.create_run(experiment(store), tags=tags(training), run_name=os.environ.get("DVC_EXP_NAME"))
    run_id, started = run.info.run_id, run.info.start_time
    history = pd.read_csv(REPORTS / "history.csv")
    # The run's own start as time stamp: logging the same epochs once more after an interruption changes nothing.
    epochs = [
        Metric(str(name), float(row[name]), started, int(row["epoch"]))
        for row in history.to_dict("records")
        for name in history.columns.drop("epoch")
    ]
    parameters = [Param(key, str(value)) for key, value in training.parameters.items()]
    for start in range(0, max(len(epochs), 1), 1000):  # MLflow's limit for one call
        store.log_batch(run_id, epochs[start : start + 1000], parameters if start == 0 else ())
    model_tags = {"model_sha256": model_description()["sha256"]}
    store.log_batch(run_id, tags=[RunTag(name, value) for name, value in model_tags.items()])
    log_model(run_id)
    store.set_terminated(run_id, "FINISHED")
    return store.get_run(run_id)


def tags(training: lineage.Training) -> dict[str, str]:
    """Returns the tags by which a run is found: key, data and code hashes, commit, DVC experiment."""
    found = {
        "training_key": training.key,
        "inputs": json.dumps(training.inputs, sort_keys=True),
        "data_md5": training.inputs["data/prepared"],
        "model_md5": training.model,
        "git_commit": lineage.git("rev-parse", "HEAD"),
        "git_dirty": str(lineage.dirty("dvc.lock", "params.yaml")).lower(),
        "dvc_exp_name": os.environ.get("DVC_EXP_NAME"),
    }
    return {name: value for name, value in found.items() if value}


def model_description() -> Mapping[str, Any]:
    """Returns models/model.json."""
    content: Mapping[str, Any] = json.loads((MODELS / "model.json").read_text(encoding="utf-8"))
    return content


def log_model(run_id: str) -> None:
    """Logs the ONNX model with its signature and an input example, loadable by `mlflow.pyfunc.load_model`."""
    from importlib.metadata import version

    import mlflow
    import numpy as np
    import onnx
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec
    from onnx.helper import tensor_dtype_to_np_dtype

    from .data import prepared

    description = model_description()
    graph = onnx.load(MODELS / "model.onnx")
    first = next(iter(prepared.modality(description).feeds("test")))
    # Text as NumPy's own type: MLflow hands it on as it is, and stumbles over the text columns of pandas 3.
    example = {name: rows[:1].astype(str) if rows.dtype == object else rows[:1] for name, rows in first.items()}

    def tensor(value: onnx.ValueInfoProto) -> TensorSpec:
        kind = value.type.tensor_type
        dtype = np.dtype(str) if kind.elem_type == onnx.TensorProto.STRING else tensor_dtype_to_np_dtype(kind.elem_type)
        return TensorSpec(dtype, (-1, *(size.dim_value for size in kind.shape.dim[1:])), value.name)

    signature = ModelSignature(
        Schema([tensor(value) for value in graph.graph.input]), Schema([tensor(value) for value in graph.graph.output])
    )
    with mlflow.start_run(run_id=run_id):
        mlflow.onnx.log_model(
            graph,
            name="model",
            signature=signature,
            onnx_execution_providers=["CPUExecutionProvider"],
            input_example=example,
            # Explicit: finding them out takes MLflow 14 s and an import of everything installed.
            pip_requirements=[f"{name}=={version(name)}" for name in ("mlflow", "numpy", "onnx", "onnxruntime")],
            # One file, the very bytes of models/model.onnx; otherwise the weights would lie beside it, in a file whose
            # name differs from run to run. With model.json, the service can be built from what is logged.
            save_as_external_data=False,
            extra_files=[str(MODELS / "model.json")],
            metadata={key: description[key] for key in ("target_name", "classes", "sha256") if key in description},
        )


@contextlib.contextmanager
def in_one_line() -> Iterator[None]:
    """Turns what the store raises, or a file of the pipeline that is missing, into one line for a person.

    Raises:
        UserError: Naming the store, or the file.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise cli.UserError(f"{error.filename} is missing: run `dvc repro` or `dvc pull`") from error
    except Exception as error:
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        if not isinstance(error, MlflowException | SQLAlchemyError | OSError):  # requests' errors are OSErrors
            raise
        raise cli.UserError(f"MLflow at {uri()}: {' '.join(str(error).split())[:300]}") from error


def main() -> None:
    """Logs the workspace's results, or with --find KEY MODEL prints the id of a training's run."""
    if sys.argv[1:2] == ["--find"]:
        run = resolve(*sys.argv[2:4])
        print(run.info.run_id if run else "")
        return
    with in_one_line():
        print(f"logged as run {log()} in {uri()}")


if __name__ == "__main__":
    cli.run(main)
