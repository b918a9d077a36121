"""The model registry: registers, promotes, rolls back and lists versions.

The registry is in MLflow, in the store of the runs. A command that writes holds a lock there: see `mutex`.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .. import audit
from ..core import text
from ..core.errors import UserError
from ..evaluation.metadata import without
from ..tracking import git, lockfile, runs, store
from . import judge, mutex, signing, versions
from .versions import BEFORE, CHALLENGER, CHAMPION, MODEL

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

    from .settings import Gates

DESCRIPTION = 5000  # characters: MLflow's limit for the description of a version
HISTORY = 1000  # champions: limit for the list in a version's tag


def register() -> str:
    """Registers the model of dvc.lock as challenger.

    A training that is registered already keeps its version. The model is signed if there is a key.

    Returns:
        A message with the version and its alias.

    Raises:
        UserError: If no commit holds the model, or no run has logged its training, or the model cannot be signed.
    """
    trained = lockfile.training(lockfile.read_lock())
    commit = git.commit_with(trained.model)
    if commit is None:
        raise UserError("no commit holds this model: commit dvc.lock first, so that others can reproduce it")
    registry = store.client()
    run = runs.resolve(trained.key, trained.model)
    if run is None or not (run.outputs and run.outputs.model_outputs):
        raise UserError(f"no run in {store.uri()} has this training: run `python -m {MODEL} log`")
    key = runs.training_of(run).key  # differs from the key of dvc.lock after a cache hit
    description = model_card(run)
    private = signing.key(signing.SIGNING)
    signature = signing.sign(private) if private else None
    with mutex.exclusive(registry):
        if not versions.aliases(registry):
            _create(registry)
        existing = next(iter(versions.search(registry, training_key=key)), None)
        version = existing or _new_version(registry, run, commit, description)
        number = str(version.version)
        alias = CHAMPION if versions.aliases(registry).get(CHAMPION) == number else CHALLENGER
        audit.record("register", version=f"{MODEL}/{number}", alias=alias, commit=commit)
        if signature:
            registry.log_text(str(version.run_id), signature, signing.SIGNATURE)
        if alias == CHALLENGER:
            registry.set_registered_model_alias(MODEL, CHALLENGER, number)
    return f"{MODEL}/{number}{' was registered before' if existing else ''}, alias {alias}"


def model_card(run: "Run") -> str:
    """The model card of a run for readers, cut to the registry's limit.

    Args:
        run: The run.
    """
    import mlflow

    path, run_id = "reports/model_card.md", run.info.run_id
    with tempfile.TemporaryDirectory() as folder:
        card = Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=path, dst_path=folder))
        content = without(card.read_text(encoding="utf-8"))
    if len(content) <= DESCRIPTION:
        return content
    rest = f"\n\n(The rest: {path} of run {run_id})"
    return content[: DESCRIPTION - len(rest)] + rest


def _create(registry: "MlflowClient") -> None:
    from mlflow.exceptions import MlflowException

    try:
        registry.create_registered_model(MODEL)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _new_version(registry: "MlflowClient", run: "Run", commit: str, description: str) -> "ModelVersion":
    assert run.outputs is not None  # `register` refuses a run without a model
    training, model_id = runs.training_of(run), run.outputs.model_outputs[-1].model_id
    tags = {
        "training_key": training.key,
        "data_md5": run.data.tags["data_md5"],
        "model_md5": training.model,
        "model_sha256": run.data.tags["model_sha256"],
        "git_commit": commit,
        **{name: str(value) for name, value in run.data.metrics.items() if name.startswith("test_")},
    }
    return registry.create_model_version(
        MODEL, f"models:/{model_id}", run.info.run_id, tags, description=description, model_id=model_id
    )


def promote(name: str, settings: "Gates") -> str:
    """Makes a version champion if it passes every gate; otherwise nothing changes.

    The gates run without the lock, because they take long. If the champion has changed meanwhile, the version is
    compared with the new champion before the alias moves.

    Args:
        name: Number or alias of the version.
        settings: The gates.

    Returns:
        A message with the new and the former champion.

    Raises:
        UserError: If a gate fails, or cannot be judged.
    """
    registry = store.client()
    aliases = versions.aliases(registry)
    if name == CHALLENGER not in aliases and CHAMPION in aliases:  # a job of CI that runs again
        return f"there is no {CHALLENGER}: {MODEL}/{aliases[CHAMPION]} is {CHAMPION}"
    version = versions.version(registry, name)
    number = str(version.version)
    while True:
        before = versions.aliases(registry).get(CHAMPION)
        if before == number:
            return f"{MODEL}/{number} is {CHAMPION} already"
        champion = versions.version(registry, before) if before else None
        require_passed(version, champion, settings)
        now = _replace(registry, number, champion)
        if now == before:
            return f"{MODEL}/{number} is {CHAMPION}" + (f" instead of {MODEL}/{before}" if before else "")
        print(f"{MODEL}/{now} has become {CHAMPION} meanwhile: comparing again", file=sys.stderr)


def require_passed(version: "ModelVersion", champion: "ModelVersion | None", settings: "Gates") -> None:
    """Judges a version at the gates and prints the outcomes.

    Args:
        version: The version.
        champion: The champion, if there is one.
        settings: The gates.

    Raises:
        UserError: If a gate fails, or cannot be judged.
    """
    from . import gates

    label = f"{MODEL}/{version.version}"
    with tempfile.TemporaryDirectory() as folder:
        other = judge.fetch(champion, Path(folder)) if champion and judge.compares(settings) else None
        outcomes = judge.judge(judge.fetch(version, Path(folder)), other, settings)
    beside = "" if champion else f"; there is no {CHAMPION} yet"
    if other:
        beside = f", compared with {other.name}"
    print(f"{label}{beside}\n\n{gates.table(outcomes)}\n", flush=True)
    if failed := gates.failed(outcomes):
        raise UserError(f"{label} does not pass: {', '.join(failed)}; no alias was moved")


def _replace(registry: "MlflowClient", number: str, champion: "ModelVersion | None") -> str | None:
    """Makes a version champion, unless the champion has changed.

    Returns:
        The champion before the move; if it is not `champion`, no alias was moved.
    """
    before = str(champion.version) if champion else None
    with mutex.exclusive(registry) as require_lock:
        aliases = versions.aliases(registry)
        if aliases.get(CHAMPION) != before:
            return aliases.get(CHAMPION)
        earlier = [*versions.champions_before(champion), str(before)] if champion else []
        _move(registry, number, earlier, require_lock)
        # As the last step: if it is interrupted, the champion only has both aliases.
        if aliases.get(CHALLENGER) == number:
            registry.delete_registered_model_alias(MODEL, CHALLENGER)
    return before


def rollback() -> str:
    """Restores the previous champion; a second call restores the champion before that.

    Returns:
        A message with the restored and the former champion.

    Raises:
        UserError: If there is no champion, or no previous champion.
    """
    registry = store.client()
    number = str(versions.version(registry, CHAMPION).version)
    with mutex.exclusive(registry) as require_lock:
        champion = versions.version(registry, CHAMPION)
        if str(champion.version) != number:
            raise UserError(f"{MODEL}/{champion.version} has become {CHAMPION} meanwhile: no alias was moved")
        existing = {str(version.version) for version in versions.search(registry)}
        earlier = [before for before in versions.champions_before(champion) if before in existing]
        if not earlier:
            raise UserError(f"{MODEL}/{number} has no previous {CHAMPION}: no alias was moved")
        _move(registry, earlier[-1], earlier[:-1], require_lock)
    return f"{MODEL}/{earlier[-1]} is {CHAMPION} again instead of {MODEL}/{number}"


def _move(registry: "MlflowClient", number: str, earlier: Sequence[str], require_lock: Callable[[], None]) -> None:
    # The tag comes first: without the alias it has no effect, and setting the alias is one transaction.
    registry.set_model_version_tag(MODEL, number, BEFORE, json.dumps(list(earlier[-HISTORY:])))
    require_lock()
    audit.record("champion", version=f"{MODEL}/{number}")
    registry.set_registered_model_alias(MODEL, CHAMPION, number)


def show() -> str:
    """The versions with their aliases, the latest first, as a table."""
    registry = store.client()
    aliases = versions.aliases(registry)
    rows = [
        (
            f"{MODEL}/{version.version}",
            versions.aliases_of(aliases, version) or "-",
            # A version that was registered otherwise, for instance on MLflow's page, lacks these values.
            version.tags.get("git_commit", "-")[:12],
            version.run_id or "-",
            version.tags.get("model_sha256", "-")[:12],
        )
        for version in versions.search(registry)
    ]
    if not rows:
        return f"{MODEL} has no version: run `python -m {MODEL} registry register`"
    lines = text.aligned([("version", "aliases", "commit", "run", "model"), *rows])
    if CHAMPION in aliases and (earlier := versions.champions_before(versions.version(registry, CHAMPION))):
        lines.append(f"previous champions, the latest last: {', '.join(earlier)}")
    return "\n".join(lines)


@click.group()
def command() -> None:
    """Register, promote, roll back and list versions of the model.

    The registry is in MLflow, beside the runs. The alias `challenger` marks the version that was registered last, until
    it is promoted, the alias `champion` the version to serve.
    """


@command.command("register")
@store.in_one_line()
def _register() -> None:
    """Register the model of dvc.lock as challenger."""
    print(register())


@command.command("promote")
@click.argument("arguments", nargs=-1, metavar="[VERSION] [KEY=VALUE]...")
@store.in_one_line()
def _promote(arguments: tuple[str, ...]) -> None:
    """Make a version champion if it passes the gates.

    VERSION is a number or an alias; without it, the challenger. KEY=VALUE changes a setting of conf/gates.yaml in
    Hydra's grammar, for instance gates.latency_ms=50.
    """
    overrides = [argument for argument in arguments if "=" in argument]
    names = [argument for argument in arguments if "=" not in argument] or [CHALLENGER]
    if len(names) > 1:
        raise UserError(f"promote one version at a time, not {' and '.join(names)}")
    print(promote(names[0], judge.read_gates(overrides)))


@command.command("rollback")
@store.in_one_line()
def _rollback() -> None:
    """Restore the previous champion."""
    print(rollback())


@command.command("show")
@store.in_one_line()
def _show() -> None:
    """List versions and aliases."""
    print(show())


@command.command("unlock")
@store.in_one_line()
def _unlock() -> None:
    """Remove the lock that a killed command left."""
    print(mutex.unlock())
