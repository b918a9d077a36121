"""MLflow: the results on disk become a run, found again by the key of its inputs.

    python -m <package>.tracking        logs the workspace's results, for when the server was away

Everything is logged from what the pipeline left on disk, so that logging now and logging later are the same. One
training is one run: logging it again completes or refreshes that run and never makes a second.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core import errors, stages
from ..core.paths import NAME
from . import git, lockfile, runs, store
from . import store as tracking_store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

MODELS, REPORTS = Path("models"), Path("reports")
# What is logged of the stages before `evaluate`, and of it.
TRAINED = ("models/model.json", "models/model.onnx", "reports/data.json", "reports/history.csv")
EVALUATED = ("models/page.json", "reports/intervals.json", "reports/metrics.json", "reports/model_card.md")


def log_or_warn() -> None:
    """Logs what `evaluate` has written; a tracking server that is away costs a warning, never the results."""
    try:
        log(TRAINED)  # dvc.lock will have the hashes of the others when the stage has ended
    except Exception as error:  # whatever the store raises (network, database, permissions), training has succeeded
        reason, again = " ".join(str(error).split())[:300], "After that"
        if not isinstance(error, errors.UserError):
            reason, again = f"MLflow at {store.uri()} could not be reached: {reason}", "Once it is back"
        print(
            f"warning: the run is not logged: {reason}\n"
            f"         All results are on disk. {again}: python -m {NAME} log",
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
    lockfile.check(recorded)
    training = lockfile.training(lockfile.read_lock())
    metrics, intervals, data = (
        json.loads((REPORTS / f"{name}.json").read_text(encoding="utf-8")) for name in ("metrics", "intervals", "data")
    )
    values = {f"test_{name}": value for name, value in metrics.items()}
    for name, (low, high) in intervals.items():
        values |= {f"test_{name}_low": low, f"test_{name}_high": high}
    # What `prepare` did about bad data.
    values |= {f"data_{name}": data[name] for name in ("skipped", "imputed", "duplicates") if name in data}
    with tracking_store.one_at_a_time():
        store = tracking_store.client()
        run = runs.find(training_key=training.key)
        if run is None or run.info.status != "FINISHED":
            run = log_training(store, training, run)
    for name, value in values.items():
        store.log_metric(run.info.run_id, name, value)
    store.log_artifacts(run.info.run_id, str(REPORTS), "reports")
    store.log_artifact(run.info.run_id, str(MODELS / "page.json"))  # a Bento of the registered model wants it
    return str(run.info.run_id)


def log_training(store: "MlflowClient", training: lockfile.Training, run: "Run | None") -> "Run":
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
        run = store.create_run(
            tracking_store.experiment(store), tags=tags(training), run_name=os.environ.get("DVC_EXP_NAME")
        )
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


def tags(training: lockfile.Training) -> dict[str, str]:
    """Returns the tags by which a run is found: key, data and code hashes, commit, DVC experiment."""
    found = {
        "training_key": training.key,
        "inputs": json.dumps(training.inputs, sort_keys=True),
        "data_md5": training.inputs["data/prepared"],
        "model_md5": training.model,
        "git_commit": git.git("rev-parse", "HEAD"),
        "git_dirty": str(git.dirty("dvc.lock", "params.yaml")).lower(),
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

    from .. import prepared

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


def main() -> None:
    """Logs the workspace's results, or with --find KEY MODEL prints the id of a training's run."""
    if sys.argv[1:2] == ["--find"]:
        run = runs.resolve(*sys.argv[2:4])
        print(run.info.run_id if run else "")
        return
    with store.in_one_line():
        print(f"logged as run {log()} in {store.uri()}")


if __name__ == "__main__":
    stages.run(main)
