"""MLflow logging: the results on disk become a run, which the key of their inputs identifies.

Everything is logged from what the pipeline left on disk, so that logging now and logging later are the same. One
training is one run: logging it again completes or refreshes that run and never makes a second.
"""

import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from ..core import files
from ..core.errors import UserError, one_line
from ..core.paths import DATA_REPORT, HISTORY, MODELS, NAME, REPORTS
from . import git, lockfile, runs, store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run
    from mlflow.models import ModelSignature
    from numpy.typing import NDArray
    from onnx import ModelProto, ValueInfoProto

BATCH = 1000  # metrics in one call of MLflow


def log_or_warn() -> None:
    """Logs what the stage `evaluate` has written; any error is a warning, because the results are on disk."""
    try:
        log(("prepare", "train"))  # dvc.lock gets the hashes of `evaluate` when that has ended
    except Exception as error:  # whatever the store raises: network, database, permissions
        reason, again = one_line(error), "After that"
        if not isinstance(error, UserError):
            reason, again = f"MLflow at {store.uri()} could not be reached: {reason}", "Once it is back"
        print(
            f"warning: the run is not logged: {reason}\n"
            f"         All results are on disk. {again}: python -m {NAME} log",
            file=sys.stderr,
        )


def log(stages: Sequence[str] = ("prepare", "train", "evaluate")) -> str:
    """Logs parameters, epochs, metrics, plots and model of the workspace.

    Args:
        stages: The stages whose outputs must be those of dvc.lock, under whose hashes they are logged.

    Returns:
        The run's id.

    Raises:
        UserError: If the pipeline has not run, or an output differs from dvc.lock.
        mlflow.exceptions.MlflowException: If the store fails.
    """
    lockfile.check(lockfile.files_of(*stages))
    training = lockfile.training(lockfile.read_lock())
    with store.one_at_a_time():
        client = store.client()
        run = runs.find(training_key=training.key)
        if run is None or run.info.status != "FINISHED":
            run = log_training(client, training, run)
    run_id = str(run.info.run_id)
    for name, value in results().items():
        client.log_metric(run_id, name, value)
    client.log_artifacts(run_id, str(REPORTS), "reports")
    client.log_artifact(run_id, str(MODELS / "page.json"))  # for a Bento of the registered model
    return run_id


def results() -> dict[str, float]:
    """The test metrics with their intervals, and the counts of corrected data, by their names in MLflow."""
    values = {f"test_{name}": value for name, value in files.read_json(REPORTS / "metrics.json").items()}
    for name, (low, high) in files.read_json(REPORTS / "intervals.json").items():
        values |= {f"test_{name}_low": low, f"test_{name}_high": high}
    data = files.read_json(DATA_REPORT)
    return values | {f"data_{name}": data[name] for name in ("skipped", "imputed", "duplicates") if name in data}


def log_training(client: "MlflowClient", training: lockfile.Training, run: "Run | None") -> "Run":
    """Creates or completes the run of a training.

    Args:
        client: The MLflow store.
        training: The training in dvc.lock.
        run: The run that an interrupted logging left, if any.

    Returns:
        The finished run.
    """
    from mlflow.entities import Param, RunTag

    if run is None:
        run = client.create_run(store.experiment(client), tags=tags(training), run_name=os.environ.get("DVC_EXP_NAME"))
    run_id = run.info.run_id
    metrics = epochs(run.info.start_time)
    for start in range(0, len(metrics), BATCH):
        client.log_batch(run_id, metrics[start : start + BATCH])
    parameters = [Param(key, str(value)) for key, value in training.parameters.items()]
    description = files.read_json(MODELS / "model.json")
    client.log_batch(run_id, params=parameters, tags=[RunTag("model_sha256", description["sha256"])])
    log_model(run_id, description)
    client.set_terminated(run_id, "FINISHED")
    return client.get_run(run_id)


def epochs(started: int) -> "list[Metric]":
    """The metrics of every epoch in reports/history.csv.

    Args:
        started: Time stamp of all of them, in ms; that of the run's start, so that logging again changes nothing.
    """
    import pandas as pd
    from mlflow.entities import Metric

    history = pd.read_csv(HISTORY)
    return [
        Metric(str(name), float(row[name]), started, int(row["epoch"]))
        for row in history.to_dict("records")
        for name in history.columns.drop("epoch")
    ]


def tags(training: lockfile.Training) -> dict[str, str]:
    """The tags that identify a run: key, hashes of data and code, commit, DVC experiment."""
    content = {
        "training_key": training.key,
        "inputs": json.dumps(training.inputs, sort_keys=True),
        "data_md5": training.inputs["data/prepared"],
        "model_md5": training.model,
        "git_commit": git.git("rev-parse", "HEAD"),
        "git_dirty": str(git.dirty("dvc.lock", "params.yaml")).lower(),
        "dvc_exp_name": os.environ.get("DVC_EXP_NAME"),
    }
    return {name: value for name, value in content.items() if value}


def log_model(run_id: str, description: dict[str, Any]) -> None:
    """Logs the ONNX model with its signature and an input example, for `mlflow.pyfunc.load_model`.

    Args:
        run_id: The run.
        description: The content of models/model.json.
    """
    from importlib.metadata import version

    import mlflow
    import onnx

    graph = onnx.load(MODELS / "model.onnx")
    with mlflow.start_run(run_id=run_id):
        mlflow.onnx.log_model(
            graph,
            name="model",
            signature=signature(graph),
            onnx_execution_providers=["CPUExecutionProvider"],
            input_example=example(description),
            # Explicit: MLflow takes 14 s to infer them, and imports everything installed.
            pip_requirements=[f"{name}=={version(name)}" for name in ("mlflow", "numpy", "onnx", "onnxruntime")],
            # One file, with the bytes of models/model.onnx; otherwise the weights would lie beside it, in a file whose
            # name differs from run to run. With model.json, the service can be built from what is logged.
            save_as_external_data=False,
            extra_files=[str(MODELS / "model.json")],
            metadata={key: description[key] for key in ("target_name", "classes", "sha256") if key in description},
        )


def signature(graph: "ModelProto") -> "ModelSignature":
    """The MLflow signature of an ONNX model."""
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec
    from onnx import TensorProto
    from onnx.helper import tensor_dtype_to_np_dtype

    def tensor(value: "ValueInfoProto") -> ColSpec | TensorSpec:
        kind = value.type.tensor_type
        text = kind.elem_type == TensorProto.STRING
        dtype = np.dtype(str) if text else tensor_dtype_to_np_dtype(kind.elem_type)
        return TensorSpec(dtype, (-1, *(size.dim_value for size in kind.shape.dim[1:])), value.name)

    inputs, outputs = ([tensor(value) for value in values] for values in (graph.graph.input, graph.graph.output))
    return ModelSignature(Schema(inputs), Schema(outputs))


def example(description: dict[str, Any]) -> "dict[str, NDArray[Any]]":
    """The first test example, as input of the exported model.

    Returns:
        Input -> array of one row.
    """
    from .. import prepared

    batch = next(iter(prepared.modality(description).feeds("test")))
    # Text as NumPy's own type: MLflow fails on the text columns that pandas 3 would make of objects.
    return {name: rows[:1].astype(str) if rows.dtype == object else rows[:1] for name, rows in batch.items()}


@click.command()
@click.option("--find", nargs=2, hidden=True)
def command(find: tuple[str, str] | None) -> None:
    """Log the results on disk to MLflow, for instance after its server was away.

    One training is one run: logging again completes or refreshes it. MLFLOW_TRACKING_URI names the server; without it
    the runs are in mlflow.db.
    """
    with store.in_one_line():
        if find:  # KEY and MODEL of a training, for labels.py: the id of its run
            run = runs.resolve(*find)
            print(run.info.run_id if run else "")
        else:
            print(f"logged as run {log()} in {store.uri()}")
