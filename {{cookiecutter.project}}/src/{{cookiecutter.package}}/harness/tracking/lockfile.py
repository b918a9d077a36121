"""dvc.lock: which training it records, and whether files are what it records."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ..core import config, errors
from . import git

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


def read_lock(commit: str | None = None) -> str:
    """Returns the text of dvc.lock in the workspace or in a commit.

    Args:
        commit: Anything that git resolves to a commit; None for the workspace.

    Raises:
        UserError: Where there is none.
    """
    if commit is not None:
        text = git.git("show", f"{commit}:./dvc.lock")
    else:
        text = Path("dvc.lock").read_text(encoding="utf-8") if Path("dvc.lock").exists() else None
    if text is None:
        raise errors.UserError(f"{commit or 'the workspace'} has no dvc.lock: run `dvc repro`")
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
        raise errors.UserError("dvc.lock has no stage train: run `dvc repro`")
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
        raise errors.UserError(
            f"not what dvc.lock records, or missing: {', '.join(found)}: `dvc checkout` or `dvc repro`"
        )


def uncommitted(commit: str | None) -> bool:
    """Says whether the workspace is more than a commit: by a changed file, or by results that the commit does not hold.

    Args:
        commit: The one that `committed` found for it.
    """
    return git.dirty("dvc.lock", "params.yaml") or git.git("show", f"{commit}:./dvc.lock") != read_lock().strip()


def committed(trained: Training) -> str | None:
    """Returns the commit of the workspace's training.

    That is HEAD, unless its dvc.lock has another model: after `dvc exp run` it is the experiment's own commit.

    Args:
        trained: From dvc.lock in the workspace.
    """
    if trained.model not in (git.git("show", "HEAD:./dvc.lock") or "") and (commit := git.holding(trained.model)):
        return commit
    return git.git("rev-parse", "HEAD")
