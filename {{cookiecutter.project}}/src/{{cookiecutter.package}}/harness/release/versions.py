"""Registered versions and their aliases."""

import json
import re
from typing import TYPE_CHECKING

from ..core import errors
from ..core.paths import NAME
from ..tracking import store
from ..tracking import store as tracking_store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

MODEL = NAME
CHALLENGER, CHAMPION = "challenger", "champion"
# Version tag: the champions before this one, the latest last, as JSON. It counts only while the version is champion.
BEFORE = "champions_before"


def aliases(store: "MlflowClient") -> dict[str, str]:
    """Returns alias -> version; empty where nothing was registered."""
    from mlflow.exceptions import MlflowException

    try:
        return {alias: str(version) for alias, version in store.get_registered_model(MODEL).aliases.items()}
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return {}


def version(store: "MlflowClient", name: str) -> "ModelVersion":
    """Returns a registered version.

    Args:
        store: The registry.
        name: Its number, or an alias.

    Raises:
        UserError: Where there is none.
    """
    from mlflow.exceptions import MlflowException

    number = name if name.isdigit() else aliases(store).get(name)
    if number is None:
        raise errors.UserError(f"no version of {MODEL} is {name}: see `python -m {MODEL}.registry show`")
    try:
        return store.get_model_version(MODEL, number)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise errors.UserError(f"{MODEL} has no version {number}: see `python -m {MODEL}.registry show`") from None


def search(store: "MlflowClient", **tags: str) -> "list[ModelVersion]":
    """Returns the versions that carry these tags, the latest first."""
    wanted = [f"name = '{MODEL}'", *(f"tags.{name} = '{value}'" for name, value in tags.items())]
    found = store.search_model_versions(" and ".join(wanted), max_results=1000)
    return sorted(found, key=lambda one: -int(one.version))


def versions_of(model: str) -> dict[str, str]:
    """Returns `<model>/<version> (aliases)` -> git commit, of the versions that are a model.

    Args:
        model: MD5 of models/model.onnx.
    """
    store = tracking_store.client()
    named = aliases(store)
    found = {}
    for one in search(store, model_md5=model):
        own = aliases_of(named, one)
        found[f"{MODEL}/{one.version}" + (f" ({own})" if own else "")] = one.tags.get("git_commit", "")
    return found


def aliases_of(named: dict[str, str], found: "ModelVersion") -> str:
    return ", ".join(sorted(alias for alias, number in named.items() if number == str(found.version)))


def run_of(name: str) -> str | None:
    """Returns the MLflow run of a registered version; None where `name` is none.

    Args:
        name: `<model>/<version>` or `<model>@<alias>`, with or without `models:/`.
    """
    match = re.fullmatch(rf"(?:models:/)?{re.escape(MODEL)}(?:/(\d+)|@([\w-]+))", name)
    if match is None:
        return None
    found = version(store.client(), match[1] or match[2])
    if not found.run_id:
        raise errors.UserError(f"{MODEL}/{found.version} names no run: `registry register` has not registered it")
    return str(found.run_id)


def champions_before(champion: "ModelVersion") -> list[str]:
    return [str(number) for number in json.loads(champion.tags.get(BEFORE, "[]"))]
