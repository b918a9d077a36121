"""Labels of a Bento: commit, dvc.lock, run, model and metrics."""

import os
import sys
from pathlib import Path

from ..core import files, programs
from ..core.paths import MODELS, NAME, REPORTS, SOURCES
from . import lockfile


def labels() -> dict[str, str]:
    """The labels of a Bento built from this workspace.

    They come from git and files, except the MLflow run, which a separate process looks up: BentoML calls this function
    also when it imports the service to serve it, and importing MLflow takes seconds.

    Returns:
        Label -> value; empty without a dvc.lock.

    Raises:
        UserError: If an output to be packed differs from dvc.lock.
    """
    if not lockfile.LOCK.exists():
        return {}
    lockfile.check(lockfile.PACKED)
    for path in lockfile.PACKED:  # BentoML copies a link as a link, which leads nowhere on another machine
        files.replace_link(Path(path))
    trained = lockfile.training(lockfile.read_lock())
    commit = lockfile.committed(trained)
    content = {
        "git_commit": commit,
        "git_dirty": str(lockfile.uncommitted(commit)).lower(),
        "dvc_lock": files.digest(lockfile.LOCK),
        "training_key": trained.key,
        "model_md5": trained.model,
        "mlflow_run": _run_id(trained),
        "model_sha256": files.read_json(MODELS / "model.json")["sha256"],
    }
    content |= {f"test_{name}": str(value) for name, value in files.read_json(REPORTS / "metrics.json").items()}
    return {name: value for name, value in content.items() if value}


def _run_id(trained: lockfile.Training) -> str | None:
    environment = {**os.environ, "PYTHONPATH": str(SOURCES)}  # the package need not be installed
    command = (sys.executable, "-m", NAME, "log", "--find", trained.key, trained.model)
    return programs.answer(*command, env=environment)
