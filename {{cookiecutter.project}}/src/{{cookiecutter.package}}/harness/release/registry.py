"""The model registry: what is ready to be served, which version is, and which one was before.

    python -m <package>.registry register                      the model of dvc.lock: a version, alias challenger
    python -m <package>.registry promote                       challenger becomes champion if it passes conf/gates
    python -m <package>.registry promote 3 gates.latency_ms=50     version 3, another gate (Hydra's grammar)
    python -m <package>.registry rollback                      the champion before becomes champion again
    python -m <package>.registry show                          versions and aliases
    python -m <package>.registry unlock                        after a command that died while it wrote

MLflow keeps it, in the store of the runs. Who writes holds a lock there, for moments: see `exclusive`.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..core import errors, stages
from ..tracking import git, lockfile, runs, store
from ..tracking import store as tracking_store
from . import judge, mutex, versions
from .versions import BEFORE, CHALLENGER, CHAMPION, MODEL

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from .gates import Gates

CARD = 5000  # characters that a database keeps of a description


def register() -> str:
    """Registers the model of dvc.lock and makes it challenger; the same training is the same version.

    Returns:
        What was done, for a person.

    Raises:
        UserError: Where the model is in no commit, or its training in no run.
    """
    import mlflow

    trained = lockfile.training(lockfile.read_lock())
    commit = git.holding(trained.model)
    if commit is None:
        raise errors.UserError("no commit holds this model: commit dvc.lock first, so that others can reproduce it")
    store = tracking_store.client()
    run = runs.resolve(trained.key, trained.model)
    if run is None or not (run.outputs and run.outputs.model_outputs):
        raise errors.UserError(
            f"this training is in no run of {tracking_store.uri()}: `python -m {MODEL}.tracking` logs it"
        )
    recorded = runs.training_of(run)  # a cache hit's key may be another one than that of the run
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
    with mutex.exclusive(store):
        if not versions.aliases(store):
            _create(store)
        found = next(iter(versions.search(store, training_key=recorded.key)), None)
        known = found is not None
        if found is None:
            found = store.create_model_version(
                MODEL, f"models:/{logged}", run.info.run_id, tags, description=text, model_id=logged
            )
        number = str(found.version)
        champion = versions.aliases(store).get(CHAMPION) == number
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

    store = tracking_store.client()
    own = versions.version(store, name)
    number = str(own.version)
    with tempfile.TemporaryDirectory() as folder:
        while True:
            before = versions.aliases(store).get(CHAMPION)
            if before == number:
                return f"{MODEL}/{number} is {CHAMPION} already"
            champion = versions.version(store, before) if before else None
            other = judge.fetch(champion, Path(folder)) if champion and judge.compares(settings) else None
            found = judge.judge(judge.fetch(own, Path(folder)), other, settings)
            against = f", compared with {MODEL}/{before}" if before else f"; there is no {CHAMPION} yet"
            print(f"{MODEL}/{number}{against}\n\n{gates.table(found)}\n", flush=True)
            if failed := [gate.name for gate in found if gate.passed is False]:
                raise errors.UserError(f"{MODEL}/{number} does not pass: {', '.join(failed)}; no alias was moved")
            with mutex.exclusive(store) as held:
                now = versions.aliases(store)
                if now.get(CHAMPION) == before:
                    earlier = [*versions.champions_before(champion), str(before)] if champion else []
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
    store = tracking_store.client()
    number = str(versions.version(store, CHAMPION).version)
    with mutex.exclusive(store) as held:
        champion = versions.version(store, CHAMPION)
        if str(champion.version) != number:
            raise errors.UserError(f"{MODEL}/{champion.version} has become {CHAMPION} meanwhile: nothing was moved")
        there = {str(one.version) for one in versions.search(store)}
        earlier = [one for one in versions.champions_before(champion) if one in there]  # others were deleted
        if not earlier:
            raise errors.UserError(f"{MODEL}/{number} is the first {CHAMPION}: there is none before; nothing was moved")
        _move(store, earlier[-1], earlier[:-1], held)
    return f"{MODEL}/{earlier[-1]} is {CHAMPION} again instead of {MODEL}/{number}"


def _move(store: "MlflowClient", number: str, earlier: Sequence[str], held: Callable[[], None]) -> None:
    # In this order: the tag alone changes nothing, and setting the alias is one transaction.
    store.set_model_version_tag(MODEL, number, BEFORE, json.dumps(list(earlier[-1000:])))
    held()
    store.set_registered_model_alias(MODEL, CHAMPION, number)


def show() -> str:
    """Returns the versions with their aliases, the latest first."""
    store = tracking_store.client()
    named = versions.aliases(store)
    rows = [("version", "aliases", "commit", "run", "model")]
    for one in versions.search(store):
        # A version may have been registered otherwise, in MLflow's page for instance, and then has none of these.
        commit, sha256 = (one.tags.get(name, "-")[:12] for name in ("git_commit", "model_sha256"))
        short = commit, one.run_id or "-", sha256
        rows.append((f"{MODEL}/{one.version}", versions.aliases_of(named, one) or "-", *short))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    if CHAMPION in named and (earlier := versions.champions_before(versions.version(store, CHAMPION))):
        lines.append(f"champions before, the latest last: {', '.join(earlier)}")
    return "\n".join(lines) if len(rows) > 1 else f"{MODEL} has no version: `python -m {MODEL}.registry register`"


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
    with store.in_one_line():
        if given.command == "promote":
            names = [argument for argument in given.arguments if "=" not in argument] or [CHALLENGER]
            if len(names) > 1:
                raise errors.UserError(f"promote one version at a time, not {' and '.join(names)}")
            print(promote(names[0], judge.read_gates([argument for argument in given.arguments if "=" in argument])))
        else:
            print({"register": register, "rollback": rollback, "show": show, "unlock": mutex.unlock}[given.command]())


if __name__ == "__main__":
    stages.run(main)
