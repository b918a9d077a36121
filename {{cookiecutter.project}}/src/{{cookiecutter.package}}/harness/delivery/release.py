"""The command `release`: writes deploy/release.yaml for a registered version whose image is pushed."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .. import audit
from ..core import files
from ..core.errors import UserError, one_line
from ..packaging import engines
from ..release import versions
from ..tracking import git, proposal, store
from . import comparison, description
from .description import PATH, Model, Release, Spec
from .settings import Delivery, delivery, seconds

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

LABEL = "model_sha256"  # of an image
EXAMPLE = "registry.example.org/"  # the registry in conf/delivery.yaml, until its owner names one


def release(name: str, proposes: bool = False) -> str:
    """Writes release.yaml for a version, unless it describes that release already.

    Args:
        name: Number or alias of the version.
        proposes: Whether to write it on a branch for a pull request, instead of into the workspace.

    Returns:
        A message: what was released, how it differs, and what is next.

    Raises:
        UserError: If the version's image is not in the repository, or holds another model.
    """
    settings, registry = delivery(), store.client()
    if proposes:
        proposal.forget()
    version, before = versions.version(registry, name), description.read()
    label = f"{versions.MODEL}/{version.version}"
    image = pushed(version, settings, before.spec.image if before else "")
    spec = Spec(
        release=description.name(image),
        image=image,
        model=Model(name=versions.MODEL, version=str(version.version), sha256=version.tags[LABEL]),
        replicas=settings.replicas,
        memory=settings.memory,
        startSeconds=seconds(settings.start),
        deadlineSeconds=seconds(settings.deadline),
        steps=settings.steps,
    )
    found = description.release(spec)
    if found == before:
        return f"{PATH} describes {label} already, release {spec.release}: nothing changed"
    lines = _changes(served(registry, before), str(version.version))
    audit.record("release", version=label, release=spec.release, image=image)
    if proposes:
        return _proposed(found, label, lines)
    files.write_text(PATH, description.text(found))
    return "\n".join(
        [
            *lines,
            f"{PATH} describes {label}, release {spec.release}; next:",
            f"  git add {PATH} && git commit --message 'Release {label}'",
            f"  python -m {versions.MODEL} deploy",
        ]
    )


def _proposed(found: Release, label: str, lines: Sequence[str]) -> str:
    """Commits a release on a branch, unless that is there already; the workspace stays as it is."""
    remote, spec = proposal.remote(), found.spec
    branch = f"release/{spec.model.version}-{spec.release}"
    what = f"Image `{spec.image}`, model `{spec.model.sha256[:12]}`. After the merge, `make deploy`.\n"
    report = "\n".join([f"Release {label}", "", what, *(("```text", *lines, "```") if lines else ()), ""])
    files.write_text(proposal.REPORT, f"# {report}")
    where = ("ls-remote", remote) if remote else ("for-each-ref",)
    is_there = git.run(*where, f"refs/heads/{branch}")
    if not is_there:
        with (
            tempfile.TemporaryDirectory() as folder,
            git.work_tree("HEAD", "HEAD", Path(folder).resolve() / "tree") as tree,
        ):
            files.write_text(tree / PATH, description.text(found))
            proposal.commit(tree, report, str(PATH))
            proposal.publish(tree, branch, remote)
    files.write_text(proposal.BRANCH, f"{branch}\n")
    place = f"on {remote}" if remote else "a branch here (git has no remote)"
    return f"{branch} is {place}{' already' if is_there else ''}, and describes {label}: merge it, then deploy"


def pushed(version: ModelVersion, settings: Delivery, known: str = "") -> str:
    """Repository and digest of a version's image, whose label names the version's model.

    Args:
        version: The version.
        settings: Where images are.
        known: Repository and digest of the last release, which stays if it is the same image.

    Raises:
        UserError: If no repository is named, there is no such image, or it holds another model.
    """
    if settings.repository.startswith(EXAMPLE):
        raise UserError(
            f"{settings.repository} is an example: set `repository` in conf/delivery.yaml to "
            f"REGISTRY/{versions.MODEL}, where `make push REGISTRY=...` puts images"
        )
    label, commit = f"{versions.MODEL}/{version.version}", version.tags.get("git_commit")
    if commit is None or LABEL not in version.tags:
        raise UserError(
            f"{label} has no commit: it was not registered by `python -m {versions.MODEL} registry register`"
        )
    builder, problem = engines.engine(), ""
    # As `bento --from` and `make bento` name the Bento.
    for tag in (f"{version.version}-{commit[:12]}", commit[:12]):
        name = f"{settings.repository}:{tag}"
        try:
            image = engines.pull(builder, name)
        except UserError as error:
            problem = problem or one_line(error)
            continue
        model = image.labels.get(LABEL, "no model")
        if model != version.tags[LABEL]:
            raise UserError(
                f"{name} holds {model[:12]}, and {label} is {version.tags[LABEL][:12]}: build and push it again"
            )
        digests = [each for each in image.digests if each.startswith(f"{settings.repository}@")]
        if not digests:
            raise UserError(f"{builder} names no digest of {name}: use another engine (BENTOML_CONTAINERIZE_BACKEND)")
        return known if known in digests else sorted(digests)[0]
    registry, _, name = settings.repository.rpartition("/")
    if name != versions.MODEL:
        raise UserError(
            f"no image of {label} is in {settings.repository} ({problem}): `make push REGISTRY={registry}` would "
            f"put it into {registry}/{versions.MODEL}; set `repository` in conf/delivery.yaml to that"
        )
    raise UserError(
        f"no image of {label} is in {settings.repository} ({problem}): `python -m {versions.MODEL} bento --from "
        f"{version.version}`, then `make image` and `make push REGISTRY={registry}`, both with "
        f"BENTO={versions.MODEL}:{version.version}-{commit[:12]}"
    )


def served(registry: MlflowClient, before: Release | None) -> str | None:
    """Number of the version in production; None if it is unknown.

    Args:
        registry: The MLflow store.
        before: The release in the workspace, if there is one.
    """
    known = versions.aliases(registry).get(versions.PRODUCTION)
    return known or (before.spec.model.version if before else None)


def _changes(before: str | None, after: str) -> list[str]:
    """How the answers will differ, in words."""
    if before is None or before == after:
        return []
    try:
        return [*comparison.told(comparison.pair(before, after)), ""]
    except (UserError, FileNotFoundError) as error:
        reason = f"{error.filename} is missing" if isinstance(error, FileNotFoundError) else one_line(error)
        return [f"{versions.MODEL}/{before} and {versions.MODEL}/{after} were not compared: {reason}", ""]


@click.command()
@click.argument("version", default=versions.CHAMPION)
@click.option("--propose", "proposes", is_flag=True, help="Commit it on a branch, and push that for a pull request.")
def command(version: str, proposes: bool) -> None:
    """Write deploy/release.yaml for a version.

    VERSION is a number or an alias; without it, the champion. Its image must be in the repository of
    conf/delivery.yaml.
    """
    with store.in_one_line():
        print(release(version, proposes))
