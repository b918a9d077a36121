"""dvc.lock: its stages, its training, and comparisons of files with it."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from ..core import config, files
from ..core.errors import UserError
from . import git

LOCK = Path("dvc.lock")
# What the pipeline writes and git keeps: a change of these files alone is a change of results.
RECORD = (str(LOCK), str(config.PARAMS), "machine.json")
MODEL = "models/model.onnx"
# Outputs of `evaluate` that the service reads.
SHIPPED = ("models/page.json", "models/decision.json", "models/explain.json", "models/reference.json")
# Outputs of the pipeline that a Bento holds (`include` in bentofile.yaml) or quotes in its labels.
PACKED = ("models/model.json", MODEL, *SHIPPED, "reports/metrics.json")


class Stage(NamedTuple):
    """A stage in dvc.lock.

    Attributes:
        command: The command of the stage.
        inputs: Path -> MD5.
        parameters: Section of params.yaml -> value.
        outputs: Path -> MD5, which ends in ".dir" for a folder.
    """

    command: str
    inputs: dict[str, str]
    parameters: dict[str, Any]
    outputs: dict[str, str]


class Training(NamedTuple):
    """A training in dvc.lock.

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


@cache  # one command asks several times, and YAML takes a tenth of a second
def stages(lock: str) -> Mapping[str, Stage]:
    """The stages of a dvc.lock by name.

    Args:
        lock: The text of dvc.lock; "" has no stages.
    """
    from yaml import safe_load

    def hashes(items: Iterable[dict[str, str]]) -> dict[str, str]:
        return {item["path"]: item["md5"] for item in items}

    return {
        name: Stage(
            str(stage.get("cmd")),
            hashes(stage.get("deps", [])),
            stage.get("params", {}).get("params.yaml", {}),
            hashes(stage.get("outs", [])),
        )
        for name, stage in (safe_load(lock) or {}).get("stages", {}).items()
    }


def lock_at(commit: str) -> str | None:
    """The text of dvc.lock in a commit, or None if absent.

    Args:
        commit: Anything that git resolves to a commit.
    """
    return git.git("show", f"{commit}:./{LOCK}")


def read_lock(commit: str | None = None) -> str:
    """The text of dvc.lock in the workspace or in a commit.

    Args:
        commit: Anything that git resolves to a commit; None for the workspace.

    Raises:
        UserError: If there is no dvc.lock.
    """
    if commit is None and LOCK.exists():
        return LOCK.read_text(encoding="utf-8")
    if commit is None:
        raise UserError("the workspace has no dvc.lock: run `dvc repro`")
    if (text := lock_at(commit)) is None:
        if git.git("rev-parse", "--verify", "--quiet", commit) is None:
            raise UserError(f"git has no {commit} here: `git init` if there is no repository, then commit the project")
        raise UserError(
            f"{commit} has no dvc.lock: run `dvc repro`, then commit dvc.lock, machine.json and params.yaml"
        )
    return text


def stage(lock: str, name: str) -> Stage:
    """A stage of a dvc.lock.

    Args:
        lock: The text of dvc.lock.
        name: The stage's name.

    Raises:
        UserError: If the stage has not run.
    """
    recorded = stages(lock)
    if name not in recorded:
        raise UserError(f"dvc.lock has no stage {name}: run `dvc repro`")
    return recorded[name]


def training(lock: str) -> Training:
    """The training in a dvc.lock.

    Args:
        lock: The text of dvc.lock.

    Raises:
        UserError: If the stage `train` has not run.
    """
    train = stage(lock, "train")
    prepare = stages(lock).get("prepare", Stage("", {}, {}, {}))
    inputs = json.dumps([train.inputs, train.parameters], sort_keys=True)
    return Training(
        hashlib.sha256(inputs.encode()).hexdigest(),
        prepare.inputs | train.inputs,
        config.flatten(prepare.parameters | train.parameters),
        train.outputs[MODEL],
    )


def differing(before: str, after: str) -> tuple[list[str], list[str]]:
    """The inputs and outputs that differ between two versions of dvc.lock.

    Args:
        before: The text of the earlier version; "" has no stages.
        after: The text of the later version.

    Returns:
        The paths of the inputs and the paths of the outputs, sorted.
    """
    pairs = zip(_contents(before), _contents(after), strict=True)
    inputs, outputs = (sorted(path for path in old | new if old.get(path) != new.get(path)) for old, new in pairs)
    return inputs, outputs


def _contents(lock: str) -> tuple[dict[str, str], dict[str, str]]:
    """Path -> MD5 of the pipeline's inputs, and of its outputs."""
    inputs: dict[str, str] = {}
    outputs: dict[str, str] = {}
    for recorded in stages(lock).values():
        inputs |= recorded.inputs
        outputs |= recorded.outputs
    return {path: md5 for path, md5 in inputs.items() if path not in outputs}, outputs


def outputs(lock: str) -> dict[str, str]:
    """Path -> MD5 of the pipeline's outputs.

    Args:
        lock: The text of dvc.lock; "" has no stages.
    """
    return _contents(lock)[1]


def files_of(*names: str) -> list[str]:
    """The files, without folders, that stages of the workspace's dvc.lock wrote.

    Args:
        *names: The stages' names.

    Raises:
        UserError: If a stage has not run.
    """
    outputs = [output for name in names for output in stage(read_lock(), name).outputs.items()]
    return [path for path, md5 in outputs if not md5.endswith(".dir")]


def stale(paths: Iterable[str], root: Path = Path()) -> list[str]:
    """The outputs that are missing or differ from dvc.lock.

    After `git checkout`, dvc.lock describes other outputs than those on disk until `dvc checkout`.

    Args:
        paths: Output files of the pipeline.
        root: The project's root.
    """
    lock = (root / LOCK).read_text(encoding="utf-8")
    model = training(lock).model
    recorded: dict[str, str] = {}
    for previous in stages(lock).values():
        if previous.inputs.get(MODEL, model) == model:  # not an evaluation of the model before `dvc repro train`
            recorded |= previous.outputs
    return [
        path for path in paths if not (root / path).is_file() or files.digest(root / path, "md5") != recorded.get(path)
    ]


def check(paths: Iterable[str]) -> None:
    """Rejects outputs of the workspace that differ from its dvc.lock.

    They would be published under the hashes of other files.

    Args:
        paths: Output files of the pipeline.

    Raises:
        UserError: If files are missing or differ; the message names them.
    """
    read_lock()
    if differing := stale(paths):
        raise UserError(
            f"missing or different from dvc.lock: {', '.join(differing)}: run `dvc checkout` or `dvc repro`"
        )


def uncommitted(commit: str | None) -> bool:
    """Whether the workspace has changed files, or results that a commit lacks.

    Args:
        commit: The commit that `committed` returned.
    """
    return git.dirty(*RECORD) or lock_at(str(commit)) != read_lock().strip()


def committed(trained: Training) -> str | None:
    """The commit of the workspace's training.

    It is HEAD, unless HEAD records another model: after `dvc exp run` it is the commit of the experiment.

    Args:
        trained: The training in the workspace's dvc.lock.
    """
    if trained.model not in (lock_at("HEAD") or "") and (commit := git.commit_with(trained.model)):
        return commit
    return git.git("rev-parse", "HEAD")
