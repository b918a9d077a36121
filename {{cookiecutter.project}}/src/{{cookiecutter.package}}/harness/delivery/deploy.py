"""The command `deploy`: production becomes the committed release.yaml, by its steps."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .. import audit
from ..core.errors import UserError, one_line
from ..core.paths import NAME
from ..release import mutex, versions
from ..tracking import git, store
from . import description, target
from .description import Spec

if TYPE_CHECKING:
    from mlflow import MlflowClient

# What hosts get is in the first ones.
FOLDERS = Path("deploy"), Path("monitoring"), Path("src", NAME, "harness", "delivery"), target.CLUSTER


def deploy(again: bool = False) -> str:
    """Deploys the committed release, and moves the alias `production`.

    Args:
        again: Whether to try a release again that was rolled back.

    Returns:
        A message.

    Raises:
        UserError: If release.yaml is not committed, the tool fails, or the release was rolled back.
    """
    spec, place = description.require().spec, target.chosen()
    place.reach(spec.release, again)  # or nothing is done
    commit = _committed()
    registry = store.client()
    _require_registered(registry, spec)
    audit.record("deploy", version=label(spec), release=spec.release, image=spec.image, commit=commit)
    missed = UserError(f"{label(spec)}, release {spec.release}, did not arrive: the output above says why")
    failed = place.bring(commit, again)
    try:
        state = place.state()
    except UserError as error:  # the tool failed before there was anything to ask
        raise (missed if failed else error) from None
    if state.get("refused") == spec.release:
        reason = str(state.get("reason"))
        audit.record("rolled back", version=label(spec), release=spec.release, reason=reason)
        registry.set_model_version_tag(versions.MODEL, spec.model.version, versions.ROLLED_BACK, reason)
        raise UserError(f"{label(spec)}, release {spec.release}, was rolled back: {reason}")
    if failed:
        raise missed
    if (served := target.serving(state)) != spec.release:
        raise UserError(f"{served or 'nothing'} serves, not {spec.release}: `python -m {versions.MODEL} status`")
    if not target.is_served(state):
        told = "; ".join(target.unreached(state))
        raise UserError(f"{label(spec)}, release {spec.release}, should serve, and no request reaches it: {told}")
    _mark(registry, spec)
    return f"{label(spec)}, release {spec.release}, serves all requests: alias {versions.PRODUCTION}"


def label(spec: Spec) -> str:
    """Name of the version of a release."""
    return f"{spec.model.name}/{spec.model.version}"


def _committed() -> str:
    """The commit that is deployed.

    Raises:
        UserError: If files of the deployment differ from it.
    """
    folders = [str(each) for each in FOLDERS if each.is_dir()]
    if changed := git.git("status", "--porcelain", "-z", "--", *folders):
        path = one_line(changed.split("\0")[0][3:])
        raise UserError(f"{path} is not committed: a deployment is a commit; commit it, then deploy")
    commit = git.git("rev-parse", "HEAD")
    if commit is None:
        raise UserError("there is no commit: a deployment is one; commit the project, then deploy")
    return commit


def _require_registered(registry: MlflowClient, spec: Spec) -> None:
    version = versions.version(registry, spec.model.version)
    if spec.model.name != versions.MODEL or version.tags.get("model_sha256") != spec.model.sha256:
        raise UserError(
            f"{description.PATH} has {label(spec)} with the model {spec.model.sha256[:12]}, and the registry "
            f"{str(version.tags.get('model_sha256'))[:12]}: run `python -m {versions.MODEL} release`"
        )


def _mark(registry: MlflowClient, spec: Spec) -> None:
    """Moves the alias, with tags that say when and as which release."""
    tags: Mapping[str, str] = {
        versions.DEPLOYED: f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
        versions.RELEASE: spec.release,
    }
    with mutex.exclusive(registry) as require_lock:
        for name, value in tags.items():
            registry.set_model_version_tag(versions.MODEL, spec.model.version, name, value)
        require_lock()
        if versions.aliases(registry).get(versions.PRODUCTION) != spec.model.version:
            audit.record("production", version=label(spec), release=spec.release)
            registry.set_registered_model_alias(versions.MODEL, versions.PRODUCTION, spec.model.version)


@click.command()
@click.option("--again", is_flag=True, help="Try a release again that was rolled back or undone.")
def command(again: bool) -> None:
    """Deploy the committed release.

    Ansible, Puppet or kubectl brings it; then traffic moves by the steps of deploy/release.yaml.
    """
    with store.in_one_line():
        print(deploy(again))
