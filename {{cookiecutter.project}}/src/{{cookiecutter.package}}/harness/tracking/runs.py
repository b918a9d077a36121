"""MLflow runs, found by the key of their inputs."""

import contextlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..core import errors
from . import lockfile
from . import store as tracking_store

if TYPE_CHECKING:
    from mlflow.entities import Run


def is_of(name: str, tags: Mapping[str, str]) -> bool:
    """Says whether a hash names the training or the model of which tags of a run or labels of a Bento speak.

    Args:
        name: Training key or MD5, or the first digits of the model's SHA-256, as answers of the service have them.
        tags: Of a run, or labels.
    """
    hashes = tags.get("training_key"), tags.get("model_md5"), *json.loads(tags.get("inputs", "{}")).values()
    sha256 = len(name) >= 7 and tags.get("model_sha256", "").startswith(name)
    return name in hashes or f"{name}.dir" in hashes or sha256


def find(**tags: str) -> "Run | None":
    """Returns the run that carries these tags, if one was logged."""
    store = tracking_store.client()
    wanted = " and ".join(f"tags.{name} = '{value}'" for name, value in tags.items())
    found = store.search_runs([tracking_store.experiment(store)], wanted, max_results=1)
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

    store = tracking_store.client()
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
        return run.data.params.get(key) in values if parameter else is_of(name, run.data.tags)

    store = tracking_store.client()
    every = store.search_runs(
        [tracking_store.experiment(store)], "tags.training_key LIKE '%'", max_results=50_000
    )  # its limit
    return [run for run in every if is_meant(run)]


def in_short(run: "Run") -> str:
    """Returns a run in a line, to choose from several."""
    tags = run.data.tags
    commit, data, model = (tags.get(name, "?")[:12] for name in ("git_commit", "data_md5", "model_sha256"))
    return f"{run.info.run_id} from commit {commit}, data {data}, model {model}"


def training_of(run: "Run") -> lockfile.Training:
    """Returns the training that a run recorded.

    Raises:
        UserError: Where it is another kind of run.
    """
    tags = run.data.tags
    if "training_key" not in tags:
        raise errors.UserError(f"run {run.info.run_id} is no training of this pipeline")
    return lockfile.Training(tags["training_key"], json.loads(tags["inputs"]), run.data.params, tags["model_md5"])
