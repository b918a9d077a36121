"""Lineage: a training is identified by its inputs, as dvc.lock records them."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import module

cli, lineage = module("cli"), module("lineage")

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


def training(lock: dict[str, Any]) -> Any:
    """The training in a dvc.lock of that content."""
    return lineage.training(yaml.safe_dump(lock))


def test_a_training_is_read() -> None:
    found = training(LOCK)
    assert found.model == "ff"
    assert found.inputs == {
        "data/raw": "aa.dir",
        "src/x/images.py": "bb",
        "data/prepared": "cc.dir",
        "src/x/training.py": "dd",
    }
    assert found.parameters == {"prepare.seed": 0, "train.epochs": 3, "model.units": [8, 4]}
    assert len(found.key) == 64


def test_the_key_follows_the_inputs() -> None:
    changed = [copy.deepcopy(LOCK) for _ in range(3)]
    changed[0]["stages"]["train"]["deps"][0]["md5"] = "c2.dir"
    changed[1]["stages"]["train"]["deps"][1]["md5"] = "d2"
    changed[2]["stages"]["train"]["params"]["params.yaml"]["train"]["epochs"] = 4
    assert len({training(lock).key for lock in (LOCK, *changed)}) == 4


def test_the_key_follows_nothing_else() -> None:
    lock = copy.deepcopy(LOCK)
    stage = lock["stages"]["train"]
    stage["deps"].reverse()
    stage["cmd"] = "python -m y.stages.train"
    stage["outs"][1]["md5"] = "f2"
    stage["params"]["params.yaml"] = dict(reversed(stage["params"]["params.yaml"].items()))
    assert training(lock).key == training(LOCK).key


def test_without_a_training_it_says_what_to_run(workspace: Path) -> None:
    with pytest.raises(cli.UserError, match="dvc repro"):
        lineage.read_lock()
    lock = copy.deepcopy(LOCK)
    del lock["stages"]["train"]
    with pytest.raises(cli.UserError, match="dvc repro"):
        training(lock)


def test_nested_values_become_dotted_keys() -> None:
    assert module("config").flatten({"a": {"b": 1, "c": {"d": [2]}}, "e": None}) == {"a.b": 1, "a.c.d": [2], "e": None}
