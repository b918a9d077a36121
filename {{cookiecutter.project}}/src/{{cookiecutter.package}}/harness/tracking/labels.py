"""Labels of a Bento: commit, dvc.lock, run, model and metrics."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

from ..core.paths import SOURCES
from . import lockfile
from .lockfile import PACKED


def labels() -> dict[str, str]:
    """Returns what a Bento built from this workspace should carry: commit, dvc.lock, run, model and metrics.

    Needs git and files only; the run is asked for in a process of its own, because importing MLflow takes seconds and
    whoever asks may be about to serve.

    Raises:
        UserError: Where what would be packed is not what dvc.lock records.
    """
    if not Path("dvc.lock").exists():
        return {}
    lockfile.check(PACKED)
    lock = lockfile.read_lock()
    trained = lockfile.training(lock)
    commit = lockfile.committed(trained)
    found = {
        "git_commit": commit or "",
        "git_dirty": str(lockfile.uncommitted(commit)).lower(),
        "dvc_lock": hashlib.sha256(lock.encode()).hexdigest(),
        "training_key": trained.key,
        "model_md5": trained.model,
    }
    asked = subprocess.run(
        [sys.executable, "-m", f"{__package__}.log", "--find", trained.key, trained.model],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(SOURCES)},  # also where the package is not installed
    )  # fmt: skip
    found["mlflow_run"] = asked.stdout.strip()
    found["model_sha256"] = json.loads(Path("models/model.json").read_text(encoding="utf-8"))["sha256"]
    metrics = json.loads(Path("reports/metrics.json").read_text(encoding="utf-8"))
    found |= {f"test_{name}": str(value) for name, value in metrics.items()}
    return {name: value for name, value in found.items() if value}
