"""Registered versions of the model, and their aliases."""

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..core.errors import UserError
from ..core.paths import NAME
from ..tracking import store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

MODEL = NAME  # of the registered model
CHALLENGER, CHAMPION = "challenger", "champion"
PRODUCTION = "production"  # alias: the version that is served, set at the end of a deployment
# Version tags: when it was deployed last, as which release, and why a rollout of it was ended.
DEPLOYED, RELEASE, ROLLED_BACK = "deployed", "release", "rolled_back"
# Version tag: the previous champions, the latest last, as JSON. It is valid only while the version is champion.
BEFORE = "champions_before"


def aliases(registry: "MlflowClient") -> dict[str, str]:
    """Alias -> version; empty if no version is registered."""
    from mlflow.exceptions import MlflowException

    try:
        return {alias: str(number) for alias, number in registry.get_registered_model(MODEL).aliases.items()}
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return {}


def version(registry: "MlflowClient", name: str) -> "ModelVersion":
    """A registered version.

    Args:
        registry: The MLflow store.
        name: Number or alias of the version.

    Raises:
        UserError: If no version has this name.
    """
    from mlflow.exceptions import MlflowException

    number = name if name.isdigit() else aliases(registry).get(name)
    if number is None:
        raise UserError(f"no version of {MODEL} is {name}: see `python -m {MODEL} registry show`")
    try:
        return registry.get_model_version(MODEL, number)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise UserError(f"{MODEL} has no version {number}: see `python -m {MODEL} registry show`") from None


def search(registry: "MlflowClient", **tags: str) -> "list[ModelVersion]":
    """The versions with these tags, the latest first."""
    query = [f"name = '{MODEL}'", *(f"tags.{name} = '{value}'" for name, value in tags.items())]
    registered = registry.search_model_versions(" and ".join(query), max_results=1000)
    return sorted(registered, key=lambda version: int(version.version), reverse=True)


def versions_of(model: str) -> dict[str, str]:
    """The versions of a model: `<model>/<version> (aliases)` -> git commit.

    Args:
        model: MD5 of models/model.onnx.
    """
    registry = store.client()
    names = aliases(registry)
    commits = {}
    for registered in search(registry, model_md5=model):
        given = aliases_of(names, registered)
        label = f"{MODEL}/{registered.version}" + (f" ({given})" if given else "")
        commits[label] = registered.tags.get("git_commit", "")
    return commits


def deployments(model: str) -> list[str]:
    """What is known of the deployments of a model, a line each.

    Args:
        model: MD5 of models/model.onnx.
    """
    lines = []
    for registered in search(store.client(), model_md5=model):
        label, tags = f"{MODEL}/{registered.version}", registered.tags
        if DEPLOYED in tags:
            lines.append(f"{label} {tags[DEPLOYED]}, release {tags.get(RELEASE, 'unknown')}")
        if ROLLED_BACK in tags:
            lines.append(f"{label} rolled back: {tags[ROLLED_BACK]}")
    return lines


def of_release(name: str) -> str | None:
    """A version that was deployed as a release, as `<model>/<version>`; None if none was.

    Args:
        name: Name of the release, twelve hexadecimal digits.
    """
    if not re.fullmatch("[0-9a-f]{12}", name):
        return None
    found = search(store.client(), **{RELEASE: name})
    return f"{MODEL}/{found[0].version}" if found else None


def aliases_of(names: Mapping[str, str], registered: "ModelVersion") -> str:
    """The aliases of a version, separated by commas.

    Args:
        names: Alias -> version.
        registered: The version.
    """
    return ", ".join(sorted(alias for alias, number in names.items() if number == str(registered.version)))


def run_of(name: str) -> str | None:
    """The id of the MLflow run of a registered version.

    Args:
        name: `<model>/<version>` or `<model>@<alias>`, with or without `models:/`.

    Returns:
        The run's id, or None if `name` has another form.

    Raises:
        UserError: If the version does not exist, or has no run.
    """
    match = re.fullmatch(rf"(?:models:/)?{re.escape(MODEL)}(?:/(\d+)|@([\w-]+))", name)
    if match is None:
        return None
    registered = version(store.client(), match[1] or match[2])
    if not registered.run_id:
        raise UserError(f"{MODEL}/{registered.version} has no run: it was not registered by `registry register`")
    return str(registered.run_id)


def champions_before(champion: "ModelVersion") -> list[str]:
    """The previous champions, the latest last."""
    return [str(number) for number in json.loads(champion.tags.get(BEFORE, "[]"))]
