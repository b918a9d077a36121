"""Where a model comes from: commit - data - parameters - run - version - Bento - image, from any one of them.

    python -m <package>.lineage                   the workspace
    python -m <package>.lineage COMMIT            a commit, branch, tag or DVC experiment
    python -m <package>.lineage RUN               an MLflow run id
    python -m <package>.lineage MODEL/VERSION     a registered version; MODEL@ALIAS; with or without models:/
    python -m <package>.lineage SERVICE:VERSION   a Bento, or an image by name, id or digest
    python -m <package>.lineage HASH              of data, code or model (model_version of an answer), or a training key
    python -m <package>.lineage KEY=VALUE         a parameter; where several trainings match, their runs are listed

A training is identified by a key made of its inputs as dvc.lock records them: code, data and parameters. The same
inputs give the same key in every clone, so that neither a cache hit nor a new commit loses the way to the run.
"""

import contextlib
import re

from .core import errors, stages
from .core.paths import NAME
from .packaging import bento
from .tracking import git, lockfile
from .tracking import runs as tracking_runs
from .tracking.lockfile import Training


def chain(name: str | None) -> list[tuple[str, str]]:
    """Finds the whole chain from one of its links.

    Args:
        name: A commit, an MLflow run id, a registered version, a Bento tag, an image, a hash, a parameter's value as
            `key=value`, or None for the workspace.

    Returns:
        (link, value) rows in order; where `name` is of several trainings, a row for the run of each.

    Raises:
        UserError: Where `name` is nothing of that kind.
    """
    from .packaging import engines
    from .release import versions

    bentos, run = bento.stored_bentos(), None
    carried: dict[str, str] = {}
    named = git.commit_named(name) if name else None
    if name and not named and not (carried := bentos.get(name) or engines.labels_of(name) or {}):
        run = tracking_runs.get(versions.run_of(name) or name)
        runs = [run] if run else tracking_runs.search(name)
        if len(runs) > 1:
            return [("run", tracking_runs.in_short(one)) for one in runs]
        run = next(iter(runs), None)
        if run is None:  # recorded elsewhere: Bentos and commits know hashes, too
            carried = next((labelled for labelled in bentos.values() if tracking_runs.is_of(name, labelled)), {})
            named = None if carried or not re.fullmatch(r"[0-9a-f]{32}(\.dir)?", name) else git.holding(name)
            if not carried and not named:
                raise errors.UserError(
                    f"{name!r} is no commit, MLflow run, registered version, Bento, image, hash or parameter found here"
                )
    if carried:
        # Its labels, not the commit: it may have been built from a workspace that was not committed.
        commit, more = carried.get("git_commit"), carried.get("git_dirty") == "true"
        key, model = carried.get("training_key", ""), carried.get("model_md5", "")
        run = tracking_runs.resolve(key, model)
        known = [tracking_runs.training_of(run)] if run else []
        with contextlib.suppress(errors.UserError):
            known.append(lockfile.training(lockfile.read_lock(commit)))
        # Another training may have given the same model: its code is not this one's.
        found = next((one for one in known if one.key == key), Training(key, {}, {}, model))
    elif run:
        if "sweep" in run.data.tags:
            raise errors.UserError(
                f"{name} is a run of the sweep {run.data.tags['sweep']}: it left no model; its winner is "
                "conf/experiment/, reproduce that"
            )
        found = tracking_runs.training_of(run)
        commit, more = git.holding(found.model), False
    else:
        found = lockfile.training(lockfile.read_lock(named))
        commit = named or lockfile.committed(found)
        run = tracking_runs.resolve(found.key, found.model)
        more = named is None and lockfile.uncommitted(commit)
    registered = versions.versions_of(found.model)
    tags = run.data.tags if run else {}
    # Where no commit of this clone holds it, the registry still says which one does; a run, where it started from.
    commit = commit or next(filter(None, registered.values()), tags.get("git_commit"))
    packed = [tag for tag, labelled in bentos.items() if labelled.get("model_md5") == found.model]
    sha256 = tags.get("model_sha256") or carried.get("model_sha256")
    changes = " (and uncommitted changes)" * more
    # The run may be that of another training, which gave the same model.
    changes += " (trained with uncommitted changes)" * (
        {"training_key": found.key, "git_dirty": "true"}.items() <= tags.items()
    )
    return [
        ("commit", f"{commit or 'none'}{changes}"),
        *(
            ("data" if path.startswith("data/") else "code", f"{path} {md5}")
            for path, md5 in sorted(found.inputs.items())
        ),
        *(("parameter", f"{key} = {value}") for key, value in sorted(found.parameters.items())),
        *([] if found.inputs else [("data", "unknown, as are code and parameters: no commit or run here has them")]),
        ("training", found.key),
        ("run", run.info.run_id if run else f"none recorded: `python -m {NAME} log` logs it"),
        ("model", f"models/model.onnx md5 {found.model}" + (f" sha256 {sha256}" if sha256 else "")),
        ("version", ", ".join(registered) or "none registered"),
        ("bento", ", ".join(packed) or "none built"),
        *(("image", stored) for stored in engines.describe(found.model) or ["none here"]),
    ]


def main() -> None:
    """Prints the chain."""
    import argparse

    parser = argparse.ArgumentParser(prog=f"python -m {NAME} lineage", description=(__doc__ or "").split("\n")[0])
    links = "a commit, run id, registered version, Bento tag, image, hash or key=value; default: the workspace"
    parser.add_argument("name", nargs="?", help=links)
    name = parser.parse_args().name

    from .tracking import store

    with store.in_one_line():
        found = chain(name)
    for link, value in found:
        print(f"{link:<10} {value}")


if __name__ == "__main__":
    stages.run(main)
