"""MLflow logging: one run per training, identified by the training key.

Everything is logged from files on disk, so that logging later gives the same run. Logging a training again completes
or refreshes its run and never creates a second one.
"""

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..core import files
from ..core.paths import DATA_REPORT, HISTORY, MODELS, NAME, REPORTS
from . import git, lockfile, machine, runs, store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run
    from mlflow.models import ModelSignature
    from numpy.typing import NDArray
    from onnx import ModelProto, ValueInfoProto

BATCH = 1000  # MLflow's limit of metrics in one call


def log_or_warn() -> None:
    """Logs the results of the stage `evaluate`, or warns."""
    try:
        log(("prepare", "train"))  # dvc.lock gets the hashes of `evaluate` when the stage has ended
    except Exception as error:  # any class: network, database, permissions
        print(
            f"warning: the run is not logged: {store.failure(error)}\n"
            f"         All results are on disk. To log them later: python -m {NAME} log",
            file=sys.stderr,
        )


def log(stages: Sequence[str] = ("prepare", "train", "evaluate")) -> str:
    """Logs parameters, epochs, metrics, plots and model of the workspace.

    Args:
        stages: The stages whose outputs must match dvc.lock, because they are logged under its hashes.

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
    client.log_batch(run_id, results())
    served = [Path(name) for name in lockfile.SHIPPED if Path(name).exists()]  # for a Bento of the registered model
    with files.copies(REPORTS, *served) as folder:
        client.log_artifacts(run_id, str(folder / REPORTS), "reports")
        for file in served:
            client.log_artifact(run_id, str(folder / file))
    return run_id


def results() -> "list[Metric]":
    """Test metrics, intervals and counts of corrected data."""
    from mlflow.entities import Metric

    values = {f"test_{name}": value for name, value in files.read_json(REPORTS / "metrics.json").items()}
    for name, (low, high) in files.read_json(REPORTS / "intervals.json").items():
        values |= {f"test_{name}_low": low, f"test_{name}_high": high}
    data = files.read_json(DATA_REPORT)
    values |= {f"data_{name}": data[name] for name in ("skipped", "imputed", "duplicates") if name in data}
    now = int(time.time() * 1000)
    return [Metric(name, value, now, step=0) for name, value in values.items()]


def log_training(client: "MlflowClient", training: lockfile.Training, run: "Run | None") -> "Run":
    """Creates or completes the run of a training.

    Args:
        client: The MLflow store.
        training: The training in dvc.lock.
        run: The unfinished run of the training, if any.

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
        started: Timestamp of all metrics in ms: the start of the run, so that logging again changes nothing.
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
    """The tags of a run: key, hashes, commit, DVC experiment, machine."""
    content = {
        "training_key": training.key,
        "inputs": json.dumps(training.inputs, sort_keys=True),
        "data_md5": training.inputs["data/prepared"],
        "model_md5": training.model,
        "git_commit": git.git("rev-parse", "HEAD"),
        "git_dirty": str(git.dirty(*lockfile.RECORD)).lower(),
        "dvc_exp_name": os.environ.get("DVC_EXP_NAME"),
        **machine.tags(training.model),
    }
    return {name: value for name, value in content.items() if value}


def log_model(run_id: str, description: dict[str, Any]) -> None:
    """Logs the ONNX model with its signature and an input example.

    Args:
        run_id: The run.
        description: The content of models/model.json.
    """
    from importlib.metadata import version

    import mlflow
    import onnx

    graph = onnx.load(MODELS / "model.onnx")
    with files.copies(MODELS / "model.json") as folder, mlflow.start_run(run_id=run_id):
        mlflow.onnx.log_model(
            graph,
            name="model",
            signature=signature(graph),
            onnx_execution_providers=["CPUExecutionProvider"],
            input_example=example(description),
            # Given here, because MLflow takes 14 s to infer them, and imports all installed packages.
            pip_requirements=[f"{name}=={version(name)}" for name in ("mlflow", "numpy", "onnx", "onnxruntime")],
            # One file, with the bytes of models/model.onnx; else the weights would lie in a second file, whose name
            # differs from run to run. With model.json, the logged model is all that the service needs.
            save_as_external_data=False,
            extra_files=[str(folder / MODELS / "model.json")],
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
    """The first test example as input of the exported model.

    Returns:
        Input -> array with one row.
    """
    from .. import prepared

    batch = next(iter(prepared.modality(description).feeds("test")))
    # Strings have NumPy's string type: from objects, pandas 3 makes string columns, on which MLflow fails.
    return {name: rows[:1].astype(str) if rows.dtype == object else rows[:1] for name, rows in batch.items()}


@click.command()
@click.option("--find", nargs=2, hidden=True)
def command(find: tuple[str, str] | None) -> None:
    """Log the results on disk to MLflow, for instance after an outage.

    One training is one run: logging again completes or refreshes it. MLFLOW_TRACKING_URI names the server; without
    it, the runs are in mlflow.db.
    """
    with store.in_one_line():
        if find:  # KEY and MODEL of a training, for labels.py: the id of its run
            run = runs.resolve(*find)
            print(run.info.run_id if run else "")
        else:
            print(f"logged as run {log()} in {store.uri()}")
