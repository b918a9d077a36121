"""MLflow runs of trainings, found by their tags."""

import contextlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..core.errors import UserError
from . import lockfile, store

if TYPE_CHECKING:
    from mlflow.entities import Run

MAX_RUNS = 50_000  # MLflow's limit for one search


def has_hash(name: str, tags: Mapping[str, str]) -> bool:
    """Whether a hash matches a run's tags or a Bento's labels.

    Args:
        name: A training key, an MD5, or at least the first seven digits of the model's SHA-256 (`model_version` in
            answers).
        tags: Tags of a run, or labels of a Bento.
    """
    hashes = tags.get("training_key"), tags.get("model_md5"), *json.loads(tags.get("inputs", "{}")).values()
    sha256 = len(name) >= 7 and tags.get("model_sha256", "").startswith(name)
    return name in hashes or f"{name}.dir" in hashes or sha256


def find(**tags: str) -> "Run | None":
    """The latest run with these tags, or None."""
    client = store.client()
    query = " and ".join(f"tags.{name} = '{value}'" for name, value in tags.items())
    return next(iter(client.search_runs([store.experiment(client)], query, max_results=1)), None)


def resolve(key: str, model: str) -> "Run | None":
    """The run of a training or of the same model, or None.

    If a change of the code does not change the model, DVC takes the evaluation from its cache and logs nothing: the
    run that first gave this model then stands for the training.

    Args:
        key: The training's key.
        model: MD5 of models/model.onnx.
    """
    return find(training_key=key) or find(model_md5=model)


def get(run_id: str) -> "Run | None":
    """The run with an id, or None.

    Args:
        run_id: The id of a run, or any other text.
    """
    from mlflow.exceptions import MlflowException

    try:
        return store.client().get_run(run_id)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):  # the second: not an id
            raise
        return None


def search(name: str) -> "list[Run]":
    """The trainings' runs that match a hash or parameter, the latest first.

    Args:
        name: A hash, see `has_hash`, or a parameter, `key=value`.
    """
    from yaml import YAMLError, safe_load

    key, parameter, value = (part.strip() for part in name.partition("="))
    values = {value}
    if parameter:
        with contextlib.suppress(YAMLError):
            values.add(str(safe_load(value)))  # as it was logged: "true" became "True"

    def matches(run: "Run") -> bool:
        return run.data.params.get(key) in values if parameter else has_hash(name, run.data.tags)

    client = store.client()
    trainings = client.search_runs([store.experiment(client)], "tags.training_key LIKE '%'", max_results=MAX_RUNS)
    return [run for run in trainings if matches(run)]


def summary(run: "Run") -> str:
    """The id, commit, data and model of a run, in one line."""
    commit, data, model = (run.data.tags.get(name, "?")[:12] for name in ("git_commit", "data_md5", "model_sha256"))
    return f"{run.info.run_id} from commit {commit}, data {data}, model {model}"


def training_of(run: "Run") -> lockfile.Training:
    """The training that a run recorded.

    Raises:
        UserError: If the run is not the run of a training.
    """
    tags = run.data.tags
    if "training_key" not in tags:
        raise UserError(f"run {run.info.run_id} is not a training of this pipeline")
    return lockfile.Training(tags["training_key"], json.loads(tags["inputs"]), run.data.params, tags["model_md5"])
