"""A dvc.lock, and the files that it records."""

import copy
import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import yaml
from my_experiment.harness.tracking import lockfile

LOCK: dict[str, Any] = {
    "schema": "2.0",
    "stages": {
        "prepare": {
            "cmd": "python -m x.stages.prepare",
            "deps": [{"path": "data/raw", "hash": "md5", "md5": "aa.dir"}, {"path": "src/x/images.py", "md5": "bb"}],
            "params": {"params.yaml": {"prepare": {"seed": 0}}},
            "outs": [{"path": "data/prepared", "md5": "cc.dir"}],
        },
        "train": {
            "cmd": "python -m x.stages.train",
            "deps": [{"path": "data/prepared", "md5": "cc.dir"}, {"path": "src/x/training.py", "md5": "dd"}],
            "params": {"params.yaml": {"train": {"epochs": 3}, "model": {"units": [8, 4]}}},
            "outs": [{"path": "models/model.json", "md5": "ee"}, {"path": "models/model.onnx", "md5": "ff"}],
        },
    },
}
PACKED = sorted(lockfile.PACKED)


def git(*arguments: str) -> str:
    """Runs git as an author who exists nowhere."""
    done = subprocess.run(
        ["git", "-c", "user.name=A", "-c", "user.email=a@b.c", *arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def record(epochs: int = 3, evaluated: bool = True) -> dict[str, Any]:
    """Writes what a pipeline leaves: files whose content depends on `epochs`, and the dvc.lock that records them."""
    lock = copy.deepcopy(LOCK)
    outs: dict[str, list[dict[str, str]]] = {"train": [], "evaluate": []}
    for name in PACKED:
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(json.dumps({"sha256": str(epochs), "of": name}))
        stage = "train" if name.startswith("models/model") else "evaluate"
        outs[stage].append({"path": name, "md5": hashlib.md5(Path(name).read_bytes()).hexdigest()})
    model = next(out for out in outs["train"] if out["path"] == "models/model.onnx")
    lock["stages"]["train"]["outs"] = outs["train"]
    lock["stages"]["train"]["params"]["params.yaml"]["train"]["epochs"] = epochs
    read = model if evaluated else model | {"md5": "00"}
    lock["stages"]["evaluate"] = {
        "deps": [read],
        "outs": [*outs["evaluate"], {"path": "reports/plots", "md5": "0.dir"}],
    }
    Path("dvc.lock").write_text(yaml.safe_dump(lock))
    return lock


def training(lock: dict[str, Any]) -> lockfile.Training:
    """The training in a dvc.lock of that content."""
    return lockfile.training(yaml.safe_dump(lock))
