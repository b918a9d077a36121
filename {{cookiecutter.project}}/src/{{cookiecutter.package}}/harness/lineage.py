"""Lineage: the links of a model, from any one of them.

The links are commit, data, parameters, machine, run, version, Bento and image. A training is identified by a key made
of its inputs in dvc.lock: code, data and parameters. The same inputs give the same key in every clone, so that the run
is also found after a cache hit or from a new commit.
"""

import contextlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import click

from .core.errors import UserError
from .core.paths import NAME
from .packaging import bento, engines
from .release import versions
from .tracking import git, lockfile, machine, runs, store
from .tracking.lockfile import Training

if TYPE_CHECKING:
    from mlflow.entities import Run

Labels = Mapping[str, str]
Bentos = Mapping[str, Labels]  # tag -> labels


class Origin(NamedTuple):
    """A training with its commit and run.

    Attributes:
        training: The training; without inputs and parameters if no commit and no run here has them.
        commit: The commit that holds the training, if known.
        uncommitted: Whether files differed from the commit when they were trained or packed.
        run: The MLflow run of the training, or a run that gave the same model.
        sha256: SHA-256 of models/model.onnx, if known.
    """

    training: Training
    commit: str | None
    uncommitted: bool
    run: "Run | None"
    sha256: str | None = None

    def tag(self, name: str) -> str | None:
        """A tag of the run, or None.

        Args:
            name: The tag.
        """
        value: str | None = self.run.data.tags.get(name) if self.run else None
        return value


def chain(name: str | None) -> list[tuple[str, str]]:
    """The lineage of a model, from one of its links.

    Args:
        name: A commit, an MLflow run id, a registered version, a Bento tag, an image, a hash, a parameter's value as
            `key=value`, or None for the workspace.

    Returns:
        (link, value) rows in order; if several trainings match, a row for each of their runs.

    Raises:
        UserError: If no link has this name.
    """
    bentos = bento.stored_bentos()
    if name is None:
        origin = _of_workspace()
    elif commit := git.commit_named(name):
        origin = _of_commit(commit)
    elif labels := bentos.get(name) or engines.labels_of(name):
        origin = _of_labels(labels)
    else:
        run = runs.get(versions.run_of(versions.of_release(name) or name) or name)
        matches = [run] if run else runs.search(name)
        if len(matches) > 1:
            return [("run", runs.summary(match)) for match in matches]
        origin = _of_run(matches[0], name) if matches else _of_hash(name, bentos)
    return _rows(origin, bentos)


def _of_workspace() -> Origin:
    training = lockfile.training(lockfile.read_lock())
    commit = lockfile.committed(training)
    return Origin(training, commit, lockfile.uncommitted(commit), runs.resolve(training.key, training.model))


def _of_commit(commit: str) -> Origin:
    training = lockfile.training(lockfile.read_lock(commit))
    return Origin(training, commit, False, runs.resolve(training.key, training.model))


def _of_labels(labels: Labels) -> Origin:
    """The origin of a Bento or image, whose training may be uncommitted."""
    commit, key, model = (labels.get(label, "") for label in ("git_commit", "training_key", "model_md5"))
    run = runs.resolve(key, model)
    recorded = [runs.training_of(run)] if run else []
    with contextlib.suppress(UserError):
        recorded.append(lockfile.training(lockfile.read_lock(commit or None)))
    # A training with another key may have given the same model, from other code.
    training = next((candidate for candidate in recorded if candidate.key == key), Training(key, {}, {}, model))
    return Origin(training, commit or None, labels.get("git_dirty") == "true", run, labels.get("model_sha256"))


def _of_run(run: "Run", name: str) -> Origin:
    if "sweep" in run.data.tags:
        raise UserError(
            f"{name} is a run of the sweep {run.data.tags['sweep']}, which stores no model: reproduce the sweep's best "
            "trial, which is in conf/experiment/"
        )
    training = runs.training_of(run)
    return Origin(training, git.commit_with(training.model), False, run)


def _of_hash(name: str, bentos: Bentos) -> Origin:
    """The origin of a hash that only Bentos or commits have."""
    if labels := next((labels for labels in bentos.values() if runs.has_hash(name, labels)), None):
        return _of_labels(labels)
    if re.fullmatch(r"[0-9a-f]{32}(\.dir)?", name) and (commit := git.commit_with(name)):
        return _of_commit(commit)
    raise UserError(
        f"{name!r} is not a commit, MLflow run, registered version, Bento, image, hash or parameter known here"
    )


def _rows(origin: Origin, bentos: Bentos) -> list[tuple[str, str]]:
    training = origin.training
    registered = versions.versions_of(training.model)
    # If no commit of this clone holds the training: the registry's commit, else the commit from which the run started.
    commit = origin.commit or next(filter(None, registered.values()), origin.tag("git_commit"))
    sha256 = origin.tag("model_sha256") or origin.sha256
    packed = [tag for tag, labels in bentos.items() if labels.get("model_md5") == training.model]
    return [
        ("commit", f"{commit or 'none'}{_changes(origin)}"),
        *_inputs(training),
        ("training", training.key),
        ("machine", _machine(origin)),
        ("run", origin.run.info.run_id if origin.run else f"none recorded: `python -m {NAME} log` logs it"),
        ("model", f"{lockfile.MODEL} md5 {training.model}" + (f" sha256 {sha256}" if sha256 else "")),
        ("version", ", ".join(registered) or "none registered"),
        *(("deployed", each) for each in versions.deployments(training.model)),
        ("bento", ", ".join(packed) or "none built"),
        *(("image", stored) for stored in engines.describe(training.model) or ["none here"]),
    ]


def _inputs(training: Training) -> list[tuple[str, str]]:
    if not training.inputs:
        return [("data", "unknown, as are code and parameters: no commit or run here has them")]
    files = sorted(training.inputs.items())
    return [
        *(("data" if path.startswith("data/") else "code", f"{path} {md5}") for path, md5 in files),
        *(("parameter", f"{key} = {value}") for key, value in sorted(training.parameters.items())),
    ]


def _machine(origin: Origin) -> str:
    """The machine that trained, from machine.json, else from the run of this model."""
    if record := machine.recorded(origin.training.model):
        return machine.describe(record["machine"])
    same = origin.run is not None and origin.tag("model_md5") == origin.training.model
    return machine.describe(machine.of_tags(origin.run.data.tags) if same and origin.run else None)


def _changes(origin: Origin) -> str:
    changes = " (and uncommitted changes)" if origin.uncommitted else ""
    # The run may belong to another training that gave the same model.
    if origin.tag("training_key") == origin.training.key and origin.tag("git_dirty") == "true":
        changes += " (trained with uncommitted changes)"
    return changes


@click.command()
@click.argument("name", required=False)
def command(name: str | None) -> None:
    """Find all links of a model from any one of them.

    Links are commit, data, parameters, run, version, Bento and image.

    \b
    NAME is one of:
      (nothing)        the workspace
      COMMIT           a commit, branch, tag or DVC experiment
      RUN              an MLflow run id
      MODEL/VERSION    a registered version, or MODEL@ALIAS, with or without models:/
      NAME:VERSION     a Bento, or an image by name, id or digest
      HASH             of data, code or model (model_version of an answer), a training key, or a release
      KEY=VALUE        a parameter; if several trainings match, their runs are listed
    """  # noqa: D301  (click reads the backspace: the lines below it stay as they are)
    with store.in_one_line():
        rows = chain(name)
    for link, value in rows:
        print(f"{link:<10} {value}")
