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
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from . import cli, config

# What a Bento holds of the pipeline's outputs, or says of them in its labels.
PACKED = ("models/model.json", "models/model.onnx", "models/page.json", "reports/metrics.json")


class Training(NamedTuple):
    """What dvc.lock says of one training.

    Attributes:
        key: SHA-256 of the inputs: code, data and parameters.
        inputs: Path -> MD5 of what the stages `prepare` and `train` read.
        parameters: Dotted key -> value.
        model: MD5 of models/model.onnx.
    """

    key: str
    inputs: dict[str, str]
    parameters: dict[str, Any]
    model: str


def git(*arguments: str) -> str | None:
    """Returns what git prints, or None where it fails or is missing."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def read_lock(commit: str | None = None) -> str:
    """Returns the text of dvc.lock in the workspace or in a commit.

    Args:
        commit: Anything that git resolves to a commit; None for the workspace.

    Raises:
        UserError: Where there is none.
    """
    if commit is not None:
        text = git("show", f"{commit}:./dvc.lock")
    else:
        text = Path("dvc.lock").read_text(encoding="utf-8") if Path("dvc.lock").exists() else None
    if text is None:
        raise cli.UserError(f"{commit or 'the workspace'} has no dvc.lock: run `dvc repro`")
    return text


def training(lock: str) -> Training:
    """Reads a training from dvc.lock.

    Args:
        lock: The text of dvc.lock.

    Raises:
        UserError: Where the stage `train` has not run.
    """
    from yaml import safe_load

    stages = safe_load(lock)["stages"]
    if "train" not in stages:
        raise cli.UserError("dvc.lock has no stage train: run `dvc repro`")
    stage = stages["train"]
    read = {dependency["path"]: dependency["md5"] for dependency in stage["deps"]}
    parameters = stage["params"]["params.yaml"]
    key = hashlib.sha256(json.dumps([read, parameters], sort_keys=True).encode()).hexdigest()
    prepare = stages.get("prepare", {"deps": [], "params": {}})
    return Training(
        key,
        {dependency["path"]: dependency["md5"] for dependency in prepare["deps"]} | read,
        config.flatten(prepare["params"].get("params.yaml", {}) | parameters),
        next(out["md5"] for out in stage["outs"] if out["path"] == "models/model.onnx"),
    )


def stale(files: Iterable[str], root: Path = Path()) -> list[str]:
    """Returns the files that are missing, or not what dvc.lock records of its training.

    git brings dvc.lock alone: until `dvc checkout`, it speaks of other files than those that lie beside it.

    Args:
        files: Outputs of the pipeline.
        root: The project's.
    """
    from yaml import safe_load

    lock = (root / "dvc.lock").read_text(encoding="utf-8")
    recorded: dict[str, str] = {}
    model = training(lock).model
    for stage in safe_load(lock)["stages"].values():
        read = {dependency["path"]: dependency["md5"] for dependency in stage.get("deps", [])}
        if read.get("models/model.onnx", model) == model:  # not the evaluation that `dvc repro train` left behind
            recorded |= {out["path"]: out["md5"] for out in stage.get("outs", [])}

    def is_recorded(name: str) -> bool:
        file = root / name
        return file.is_file() and hashlib.md5(file.read_bytes()).hexdigest() == recorded.get(name)

    return [name for name in files if not is_recorded(name)]


def check(files: Iterable[str]) -> None:
    """Stops where outputs of the workspace are not those of its dvc.lock, in whose name they would be passed on.

    Raises:
        UserError: Naming them.
    """
    read_lock()
    if found := stale(files):
        raise cli.UserError(f"not what dvc.lock records, or missing: {', '.join(found)}: `dvc checkout` or `dvc repro`")


def labels() -> dict[str, str]:
    """Returns what a Bento built from this workspace should carry: commit, dvc.lock, run, model and metrics.

    Needs git and files only; the run is asked for in a process of its own, because importing MLflow takes seconds and
    whoever asks may be about to serve.

    Raises:
        UserError: Where what would be packed is not what dvc.lock records.
    """
    if not Path("dvc.lock").exists():
        return {}
    check(PACKED)
    lock = read_lock()
    trained = training(lock)
    commit = committed(trained)
    found = {
        "git_commit": commit or "",
        "git_dirty": str(uncommitted(commit)).lower(),
        "dvc_lock": hashlib.sha256(lock.encode()).hexdigest(),
        "training_key": trained.key,
        "model_md5": trained.model,
    }
    asked = subprocess.run(
        [sys.executable, "-m", f"{__package__}.tracking", "--find", trained.key, trained.model],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},  # also where the package is not installed
    )  # fmt: skip
    found["mlflow_run"] = asked.stdout.strip()
    found["model_sha256"] = json.loads(Path("models/model.json").read_text(encoding="utf-8"))["sha256"]
    metrics = json.loads(Path("reports/metrics.json").read_text(encoding="utf-8"))
    found |= {f"test_{name}": str(value) for name, value in metrics.items()}
    return {name: value for name, value in found.items() if value}


def dirty(*written: str) -> bool:
    """Says whether files of this project differ from HEAD.

    Args:
        written: Files that do not count.
    """
    # The repository may hold other projects, too.
    return bool(git("status", "--porcelain", "--", ".", *(f":(exclude){path}" for path in written)))


def uncommitted(commit: str | None) -> bool:
    """Says whether the workspace is more than a commit: by a changed file, or by results that the commit does not hold.

    Args:
        commit: The one that `committed` found for it.
    """
    return dirty("dvc.lock", "params.yaml") or git("show", f"{commit}:./dvc.lock") != read_lock().strip()


def holding(model: str) -> str | None:
    """Returns the first commit whose dvc.lock holds a model: a run only knows the one that it started from.

    One of a branch or tag, which others have too; otherwise the one that `dvc exp run` has made.

    Args:
        model: MD5 of models/model.onnx.
    """
    for refs in (("HEAD", "--branches", "--tags", "--remotes"), ("--all",)):
        if commits := git("log", *refs, "--format=%H", "-S", model, "--", "dvc.lock"):
            return commits.splitlines()[-1]
    return None


def commit_named(name: str) -> str | None:
    """Returns the commit that a name stands for: one of git's, or that of a DVC experiment.

    Args:
        name: Anything that git resolves, or what `dvc exp show` calls the experiment.
    """
    experiments = ("for-each-ref", "--sort=-committerdate", "--count=1", "--format=%(objectname)")
    return (
        git("rev-parse", "--verify", "--quiet", name + "^{commit}")
        or git(*experiments, f"refs/exps/*/*/{name}")
        or None
    )


def committed(trained: Training) -> str | None:
    """Returns the commit of the workspace's training.

    That is HEAD, unless its dvc.lock has another model: after `dvc exp run` it is the experiment's own commit.

    Args:
        trained: From dvc.lock in the workspace.
    """
    if trained.model not in (git("show", "HEAD:./dvc.lock") or "") and (commit := holding(trained.model)):
        return commit
    return git("rev-parse", "HEAD")


@contextlib.contextmanager
def work_tree(commit: str, label: str, folder: Path) -> Iterator[Path]:
    """Checks a commit out beside the workspace, and removes it afterwards.

    Args:
        commit: The commit.
        label: Whose commit it is, for messages.
        folder: Where to; must not exist.

    Yields:
        The project's root in it.

    Raises:
        UserError: Where this clone does not have it.
    """
    # Without hooks: one of pre-commit's would check DVC's files out.
    add = ["git", "-c", f"core.hooksPath={os.devnull}", "worktree", "add", "--quiet", "--detach", str(folder), commit]
    added = subprocess.run(add, capture_output=True, text=True, check=False)
    if added.returncode:
        reason = " ".join(added.stderr.split())
        raise cli.UserError(f"{label} is of commit {commit}: git fetch, or dvc exp pull, brings it here ({reason})")
    try:
        yield folder / (git("rev-parse", "--show-prefix") or "")
    finally:
        git("worktree", "remove", "--force", str(folder))


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
    from . import image, registry, tracking

    bentos, run = stored_bentos(), None
    carried: dict[str, str] = {}
    named = commit_named(name) if name else None
    if name and not named and not (carried := bentos.get(name) or image.labels_of(name) or {}):
        run = tracking.get(registry.run_of(name) or name)
        runs = [run] if run else tracking.search(name)
        if len(runs) > 1:
            return [("run", tracking.in_short(one)) for one in runs]
        run = next(iter(runs), None)
        if run is None:  # recorded elsewhere: Bentos and commits know hashes, too
            carried = next((labelled for labelled in bentos.values() if is_of(name, labelled)), {})
            named = None if carried or not re.fullmatch(r"[0-9a-f]{32}(\.dir)?", name) else holding(name)
            if not carried and not named:
                raise cli.UserError(
                    f"{name!r} is no commit, MLflow run, registered version, Bento, image, hash or parameter found here"
                )
    if carried:
        # Its labels, not the commit: it may have been built from a workspace that was not committed.
        commit, more = carried.get("git_commit"), carried.get("git_dirty") == "true"
        key, model = carried.get("training_key", ""), carried.get("model_md5", "")
        run = tracking.resolve(key, model)
        known = [tracking.training_of(run)] if run else []
        with contextlib.suppress(cli.UserError):
            known.append(training(read_lock(commit)))
        # Another training may have given the same model: its code is not this one's.
        found = next((one for one in known if one.key == key), Training(key, {}, {}, model))
    elif run:
        if "sweep" in run.data.tags:
            raise cli.UserError(
                f"{name} is a run of the sweep {run.data.tags['sweep']}: it left no model; its winner is "
                "conf/experiment/, reproduce that"
            )
        found = tracking.training_of(run)
        commit, more = holding(found.model), False
    else:
        found = training(read_lock(named))
        commit = named or committed(found)
        run = tracking.resolve(found.key, found.model)
        more = named is None and uncommitted(commit)
    registered = registry.versions_of(found.model)
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
        ("run", run.info.run_id if run else f"none recorded: `python -m {__package__}.tracking` logs it"),
        ("model", f"models/model.onnx md5 {found.model}" + (f" sha256 {sha256}" if sha256 else "")),
        ("version", ", ".join(registered) or "none registered"),
        ("bento", ", ".join(packed) or "none built"),
        *(("image", stored) for stored in image.stored(found.model) or ["none here"]),
    ]


def is_of(name: str, tags: Mapping[str, str]) -> bool:
    """Says whether a hash names the training or the model of which tags of a run or labels of a Bento speak.

    Args:
        name: Training key or MD5, or the first digits of the model's SHA-256, as answers of the service have them.
        tags: Of a run, or labels.
    """
    hashes = tags.get("training_key"), tags.get("model_md5"), *json.loads(tags.get("inputs", "{}")).values()
    sha256 = len(name) >= 7 and tags.get("model_sha256", "").startswith(name)
    return name in hashes or f"{name}.dir" in hashes or sha256


def stored_bentos() -> dict[str, dict[str, str]]:
    """Returns tag -> labels of the Bentos in the local store."""
    import bentoml

    return {str(bento.tag): dict(bento.info.labels) for bento in bentoml.bentos.list()}


def main() -> None:
    """Prints the chain."""
    import argparse

    parser = argparse.ArgumentParser(
        prog=f"python -m {__package__}.lineage", description=(__doc__ or "").split("\n")[0]
    )
    links = "a commit, run id, registered version, Bento tag, image, hash or key=value; default: the workspace"
    parser.add_argument("name", nargs="?", help=links)
    name = parser.parse_args().name

    from . import tracking

    with tracking.in_one_line():
        found = chain(name)
    for link, value in found:
        print(f"{link:<10} {value}")


if __name__ == "__main__":
    cli.run(main)
