"""The model registry: what is ready to be served, which version is, and which one was before.

    python -m <package>.registry register                      the model of dvc.lock: a version, alias challenger
    python -m <package>.registry promote                       challenger becomes champion if it passes conf/gates
    python -m <package>.registry promote 3 gates.latency_ms=50     version 3, another gate (Hydra's grammar)
    python -m <package>.registry rollback                      the champion before becomes champion again
    python -m <package>.registry show                          versions and aliases
    python -m <package>.registry unlock                        after a command that died while it wrote

MLflow keeps it, in the store of the runs. Who writes holds a lock there, for moments: see `exclusive`.
"""

import contextlib
import getpass
import hashlib
import json
import os
import re
import socket
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from . import cli, config, lineage, tracking

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

    from .gates import Gate, Gates

MODEL = str(__package__)
CHALLENGER, CHAMPION = "challenger", "champion"
LOCK = f"{MODEL}.lock"
WAIT = 30.0  # seconds for the lock, which others hold for moments
CARD = 5000  # characters that a database keeps of a description
# Version tag: the champions before this one, the latest last, as JSON. It counts only while the version is champion.
BEFORE = "champions_before"


class Stored(NamedTuple):
    """A model on this disk.

    Attributes:
        name: <model>/<version>, where it is registered.
        model: The ONNX file.
        description: The content of its model.json.
        data: MD5 of the data/prepared that it was trained on, if known.
    """

    name: str
    model: Path
    description: dict[str, Any]
    data: str | None


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
        raise cli.UserError(f"no version of {MODEL} is {name}: see `python -m {MODEL}.registry show`")
    try:
        return store.get_model_version(MODEL, number)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise cli.UserError(f"{MODEL} has no version {number}: see `python -m {MODEL}.registry show`") from None


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
    store = tracking.client()
    named = aliases(store)
    found = {}
    for one in search(store, model_md5=model):
        own = _among(named, one)
        found[f"{MODEL}/{one.version}" + (f" ({own})" if own else "")] = one.tags.get("git_commit", "")
    return found


def _among(named: dict[str, str], found: "ModelVersion") -> str:
    return ", ".join(sorted(alias for alias, number in named.items() if number == str(found.version)))


def run_of(name: str) -> str | None:
    """Returns the MLflow run of a registered version; None where `name` is none.

    Args:
        name: `<model>/<version>` or `<model>@<alias>`, with or without `models:/`.
    """
    match = re.fullmatch(rf"(?:models:/)?{re.escape(MODEL)}(?:/(\d+)|@([\w-]+))", name)
    if match is None:
        return None
    found = version(tracking.client(), match[1] or match[2])
    if not found.run_id:
        raise cli.UserError(f"{MODEL}/{found.version} names no run: `registry register` has not registered it")
    return str(found.run_id)


@contextlib.contextmanager
def exclusive(store: "MlflowClient") -> Iterator[Callable[[], None]]:
    """Lets one process at a time, of all machines that use the store, write to the registry.

    MLflow knows no "set this alias if it still is that". But the name of a registered model is a primary key: of two
    that create `<model>.lock` at once, the database refuses one, be it SQLite or the one behind a server.

    Args:
        store: The registry.

    Yields:
        Raises where the lock was taken away (`unlock`): to be called right before what must not happen twice.

    Raises:
        UserError: Naming the holder, where it is not released.
    """
    token, deadline = uuid.uuid4().hex, time.monotonic() + WAIT
    tags = {
        "token": token,
        "holder": f"{getpass.getuser()}@{socket.gethostname()}, process {os.getpid()}",
        "since": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
    }
    while not _take(store, tags):
        taken = _lock(store)
        if time.monotonic() > deadline and taken:
            raise cli.UserError(
                f"{MODEL} is locked since {taken.get('since')} by {taken.get('holder')}: wait for it, or, if that has "
                f"died, `python -m {MODEL}.registry unlock`"
            )
        time.sleep(0.1)  # between two looks at the lock
    try:

        def held() -> None:
            if (_lock(store) or {}).get("token") != token:
                raise cli.UserError("the lock was taken away by `unlock` meanwhile: nothing was moved")

        yield held
    finally:
        if (_lock(store) or {}).get("token") == token:
            store.delete_registered_model(LOCK)


def _take(store: "MlflowClient", tags: dict[str, str]) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        store.create_registered_model(LOCK, tags, "Held for moments by who moves aliases; see `registry unlock`.")
    except MlflowException as error:
        # The second: another one has it, and releases it while MLflow looks.
        if error.error_code not in ("RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST"):
            raise
        # An answer that got lost on the way is asked for again, and finds what the first has made.
        return (_lock(store) or {}).get("token") == tags["token"]
    return True


def _lock(store: "MlflowClient") -> dict[str, str] | None:
    from mlflow.exceptions import MlflowException

    try:
        return dict(store.get_registered_model(LOCK).tags)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def register() -> str:
    """Registers the model of dvc.lock and makes it challenger; the same training is the same version.

    Returns:
        What was done, for a person.

    Raises:
        UserError: Where the model is in no commit, or its training in no run.
    """
    import mlflow

    trained = lineage.training(lineage.read_lock())
    commit = lineage.holding(trained.model)
    if commit is None:
        raise cli.UserError("no commit holds this model: commit dvc.lock first, so that others can reproduce it")
    store = tracking.client()
    run = tracking.resolve(trained.key, trained.model)
    if run is None or not (run.outputs and run.outputs.model_outputs):
        raise cli.UserError(f"this training is in no run of {tracking.uri()}: `python -m {MODEL}.tracking` logs it")
    recorded = tracking.training_of(run)  # a cache hit's key may be another one than that of the run
    tags = {
        "training_key": recorded.key,
        "data_md5": run.data.tags["data_md5"],
        "model_md5": recorded.model,
        "model_sha256": run.data.tags["model_sha256"],
        "git_commit": commit,
        **{name: str(value) for name, value in run.data.metrics.items() if name.startswith("test_")},
    }
    with tempfile.TemporaryDirectory() as folder:
        card = mlflow.artifacts.download_artifacts(
            run_id=run.info.run_id, artifact_path="reports/model_card.md", dst_path=folder
        )
        text = Path(card).read_text(encoding="utf-8")
    if len(text) > CARD:
        rest = f"\n\n(The rest: reports/model_card.md of run {run.info.run_id})"
        text = text[: CARD - len(rest)] + rest
    logged = run.outputs.model_outputs[-1].model_id
    with exclusive(store):
        if not aliases(store):
            _create(store)
        found = next(iter(search(store, training_key=recorded.key)), None)
        known = found is not None
        if found is None:
            found = store.create_model_version(
                MODEL, f"models:/{logged}", run.info.run_id, tags, description=text, model_id=logged
            )
        number = str(found.version)
        champion = aliases(store).get(CHAMPION) == number
        if not champion:
            store.set_registered_model_alias(MODEL, CHALLENGER, number)
    return f"{MODEL}/{number}{' was registered before' * known}, alias {CHAMPION if champion else CHALLENGER}"


def _create(store: "MlflowClient") -> None:
    from mlflow.exceptions import MlflowException

    try:
        store.create_registered_model(MODEL)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def fetch(found: "ModelVersion", folder: Path) -> Stored:
    """Copies a registered version's model from the registry.

    Args:
        found: The version.
        folder: Where to; other versions may lie there.

    Raises:
        UserError: Where it is not complete, or not what was registered.
    """
    import mlflow

    name = f"{MODEL}/{found.version}"
    own = folder / str(found.version)
    own.mkdir(exist_ok=True)  # a second comparison fetches it again
    at = Path(mlflow.artifacts.download_artifacts(f"models:/{name}", dst_path=str(own)))
    model, description = at / "model.onnx", at / "extra_files" / "model.json"
    if not model.is_file() or not description.is_file():
        raise cli.UserError(
            f"{name} lacks {model.name} or {description.name}: its artifacts are gone, or not of this project"
        )
    if hashlib.sha256(model.read_bytes()).hexdigest() != found.tags.get("model_sha256"):
        raise cli.UserError(f"{name}: its model.onnx is not the file that was registered (SHA-256); nothing was used")
    return Stored(name, model, json.loads(description.read_text(encoding="utf-8")), found.tags.get("data_md5"))


def promote(name: str, settings: "Gates") -> str:
    """Makes a version champion if it passes every gate; otherwise nothing changes.

    The gates take their time and hold no lock. Only if the champion is still the one that was compared with does
    the alias move; otherwise the version is compared with the new one.

    Args:
        name: Number or alias of the version.
        settings: The gates.

    Returns:
        What was done, for a person.

    Raises:
        UserError: Where a gate is not passed, or cannot be judged.
    """
    from . import gates

    store = tracking.client()
    own = version(store, name)
    number = str(own.version)
    with tempfile.TemporaryDirectory() as folder:
        while True:
            before = aliases(store).get(CHAMPION)
            if before == number:
                return f"{MODEL}/{number} is {CHAMPION} already"
            champion = version(store, before) if before else None
            other = fetch(champion, Path(folder)) if champion and compares(settings) else None
            found = judge(fetch(own, Path(folder)), other, settings)
            against = f", compared with {MODEL}/{before}" if before else f"; there is no {CHAMPION} yet"
            print(f"{MODEL}/{number}{against}\n\n{gates.table(found)}\n", flush=True)
            if failed := [gate.name for gate in found if gate.passed is False]:
                raise cli.UserError(f"{MODEL}/{number} does not pass: {', '.join(failed)}; no alias was moved")
            with exclusive(store) as held:
                now = aliases(store)
                if now.get(CHAMPION) == before:
                    earlier = [*_before(champion), str(before)] if champion else []
                    _move(store, number, earlier, held)
                    # Last: without it, nothing is wrong but that the champion is called challenger, too.
                    if now.get(CHALLENGER) == number:
                        store.delete_registered_model_alias(MODEL, CHALLENGER)
                    return f"{MODEL}/{number} is {CHAMPION}" + (f" instead of {MODEL}/{before}" if before else "")
            print(f"{MODEL}/{now.get(CHAMPION)} has become {CHAMPION} meanwhile: once more", file=sys.stderr)


def rollback() -> str:
    """Makes the champion before champion again; repeated, the one before that.

    Returns:
        What was done, for a person.

    Raises:
        UserError: Where there is none.
    """
    store = tracking.client()
    number = str(version(store, CHAMPION).version)
    with exclusive(store) as held:
        champion = version(store, CHAMPION)
        if str(champion.version) != number:
            raise cli.UserError(f"{MODEL}/{champion.version} has become {CHAMPION} meanwhile: nothing was moved")
        there = {str(one.version) for one in search(store)}
        earlier = [one for one in _before(champion) if one in there]  # others were deleted
        if not earlier:
            raise cli.UserError(f"{MODEL}/{number} is the first {CHAMPION}: there is none before; nothing was moved")
        _move(store, earlier[-1], earlier[:-1], held)
    return f"{MODEL}/{earlier[-1]} is {CHAMPION} again instead of {MODEL}/{number}"


def _before(champion: "ModelVersion") -> list[str]:
    return [str(number) for number in json.loads(champion.tags.get(BEFORE, "[]"))]


def _move(store: "MlflowClient", number: str, earlier: Sequence[str], held: Callable[[], None]) -> None:
    # In this order: the tag alone changes nothing, and setting the alias is one transaction.
    store.set_model_version_tag(MODEL, number, BEFORE, json.dumps(list(earlier[-1000:])))
    held()
    store.set_registered_model_alias(MODEL, CHAMPION, number)


def compares(settings: "Gates") -> bool:
    """Says whether a gate asks for the champion."""
    return bool(settings.champion or settings.slices)


def judge(candidate: Stored, champion: Stored | None, settings: "Gates") -> "list[Gate]":
    """Measures a model, and the champion, on the test split of the workspace.

    Args:
        candidate: The model.
        champion: The champion, if there is one to compare with.
        settings: The gates.

    Raises:
        UserError: Where a model cannot be asked with these data, or the configuration names what there is not.
    """
    import numpy as np

    from . import gates, inference
    from .data import prepared
    from .targets.common import grouped

    manifest = prepared.manifest()
    target, modality = prepared.target(manifest), prepared.modality(manifest)
    targets = np.asarray(prepared.targets("test"))
    first = next(iter(modality.feeds("test")))
    data = lineage.training(lineage.read_lock()).inputs["data/prepared"]

    def measured(stored: Stored) -> Any:
        problem = inference.misfit(stored.model, first)
        for key in ("target", "target_name", "classes"):
            if stored.description.get(key) != manifest.get(key):
                problem = f"its {key} is {stored.description.get(key)}, not {manifest.get(key)}"
        if problem:
            only = "; to judge without it: gates.champion=null gates.slices=null" if stored is champion else ""
            raise cli.UserError(f"{stored.name} cannot be asked about the present test data: {problem}{only}")
        if stored.data != data:
            print(
                f"note: {stored.name} was trained on other data; it may know some of these test data", file=sys.stderr
            )
        outputs = inference.predict(stored.model, modality.feeds("test"))
        if bad := int((~np.isfinite(outputs)).any(1).sum()):
            raise cli.UserError(f"{stored.name} answers no finite number for {bad} of {len(targets)} test examples")
        return target.measured(outputs, targets, stored.description)

    mine = measured(candidate)
    metrics = mine(np.ones(len(targets)))
    if unknown := [name for name in settings.absolute if name not in metrics]:
        raise cli.UserError(f"gates.absolute: {unknown[0]} is not measured; choose from {', '.join(metrics)}")
    found = gates.absolute(metrics, settings.absolute)
    if champion is not None:
        theirs = measured(champion)
        metric = gates.Metric(target.METRIC, target.HIGHER_IS_BETTER)
        if settings.champion:
            found.append(gates.champion(metric, mine, theirs, len(targets), settings.champion))
        if settings.slices:
            groups = target.groups(targets, manifest)
            group = manifest.get("group")  # no input of the model
            columns = [name for name, values in first.items() if values.ndim == 1] + [group] * (group is not None)
            if unknown := [name for name in settings.slices.columns if name not in columns]:
                told = f"choose from {', '.join(columns)}" if columns else "pictures have none"
                raise cli.UserError(f"gates.slices.columns: {unknown[0]} is neither an input nor data.group: {told}")
            for name in settings.slices.columns:
                values = (
                    modality.groups("test")
                    if name == group
                    else np.concatenate([feed[name] for feed in modality.feeds("test")])
                )
                groups |= grouped(name, values)
            found.append(gates.slices(metric, mine, theirs, groups, settings.slices))
    if settings.latency_ms is not None:
        found.append(gates.at_most("latency", inference.latency(candidate.model, first), settings.latency_ms, " ms"))
    if settings.size_mb is not None:
        found.append(gates.at_most("size", candidate.model.stat().st_size / 1e6, settings.size_mb, " MB"))
    if settings.calibration is not None:
        found.append(gates.at_most("calibration", target.miscalibration(metrics), settings.calibration))
    return found


def read(overrides: Sequence[str]) -> "Gates":
    """Composes and checks conf/gates.yaml.

    Args:
        overrides: In Hydra's grammar.

    Raises:
        UserError: Where it is not valid.
    """
    from omegaconf import OmegaConf

    from .gates import Gates

    sections: Any = OmegaConf.to_container(OmegaConf.create(config.compose(name="gates", overrides=overrides)))
    config.check(sections, {"gates": Gates}, origin="conf/gates.yaml")
    return Gates.model_validate_json(json.dumps(sections["gates"]))


def show() -> str:
    """Returns the versions with their aliases, the latest first."""
    store = tracking.client()
    named = aliases(store)
    rows = [("version", "aliases", "commit", "run", "model")]
    for one in search(store):
        # A version may have been registered otherwise, in MLflow's page for instance, and then has none of these.
        commit, sha256 = (one.tags.get(name, "-")[:12] for name in ("git_commit", "model_sha256"))
        short = commit, one.run_id or "-", sha256
        rows.append((f"{MODEL}/{one.version}", _among(named, one) or "-", *short))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    if CHAMPION in named and (earlier := _before(version(store, CHAMPION))):
        lines.append(f"champions before, the latest last: {', '.join(earlier)}")
    return "\n".join(lines) if len(rows) > 1 else f"{MODEL} has no version: `python -m {MODEL}.registry register`"


def unlock() -> str:
    """Takes the lock away from a process that died, and returns whose it was."""
    store = tracking.client()
    taken = _lock(store)
    if taken is None:
        return f"{MODEL} is not locked"
    store.delete_registered_model(LOCK)
    return f"{MODEL} was locked since {taken.get('since')} by {taken.get('holder')}; it is not any more"


def main() -> None:
    """Runs the command that the command line names."""
    import argparse

    parser = argparse.ArgumentParser(prog=f"python -m {MODEL}.registry", description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("register", help="the model of dvc.lock becomes a version, alias challenger")
    promoted = commands.add_parser("promote", help="a version becomes champion if it passes conf/gates")
    promoted.add_argument(
        "arguments", nargs="*", metavar="VERSION|KEY=VALUE", help="default: challenger, conf/gates.yaml"
    )
    commands.add_parser("rollback", help="the champion before becomes champion again")
    commands.add_parser("show", help="versions and aliases")
    commands.add_parser("unlock", help="after a command that died while it wrote")
    given = parser.parse_args()
    with tracking.in_one_line():
        if given.command == "promote":
            names = [argument for argument in given.arguments if "=" not in argument] or [CHALLENGER]
            if len(names) > 1:
                raise cli.UserError(f"promote one version at a time, not {' and '.join(names)}")
            print(promote(names[0], read([argument for argument in given.arguments if "=" in argument])))
        else:
            print({"register": register, "rollback": rollback, "show": show, "unlock": unlock}[given.command]())


if __name__ == "__main__":
    cli.run(main)
