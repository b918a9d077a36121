"""A small network, and data from which it learns, for the tests of gradient descent."""

from typing import Any

import numpy as np
import yaml
from my_experiment.harness import contracts, targets
from my_experiment.harness.core import config
from my_experiment.harness.targets import monitor
from numpy.typing import NDArray
from support import HARNESS, ROOT

# A bake has one of them, or both.
TARGET = "classification" if (HARNESS / "targets/classification.py").exists() else "regression"
MANIFEST = {"target": TARGET, "classes": ["low", "middle", "high"]}
SETTINGS: dict[str, Any] = {
    "seed": 0,
    "epochs": 3,
    "batch_size": 16,
    "learning_rate": 0.003,
    "monitor": "val_loss",
    "patience": 6,
    "class_weights": "none",
}


def split(seed: int, count: int) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """Rows whose sum determines the target, a class or a number."""
    rows = np.random.default_rng(seed).normal(size=(count, 4)).astype(np.float32)
    total = rows.sum(1)
    return rows, np.digitize(total, [-1, 1]) if TARGET == "classification" else 50 + 10 * total.astype(np.float64)


def build(precision: str = "float32", **changes: Any) -> Any:
    """The untrained mlp of conf/model/, with changes of its parameters."""
    from my_experiment.harness.training import devices
    from my_experiment.harness.training.quiet import keras

    keras.utils.clear_session()  # layers are numbered within a process; a stage has a process of its own
    devices.make_deterministic(0)

    def layers() -> tuple[Any, Any]:
        entry = keras.Input((4,), name="encoded")
        return entry, entry

    section = yaml.safe_load((ROOT / "conf/model/mlp.yaml").read_text(encoding="utf-8"))
    head = targets.target(MANIFEST).head(MANIFEST, split(0, 240)[1])
    with devices.precision(precision):
        return config.instantiate({**section, **changes}, layers, head)


def fit(
    model: Any, count: int = 240, report: Any = lambda epoch, metrics: None, group: Any = None,
    target: Any = None, compiled: Any = None, ball: Any = None, **changes: Any
) -> Any:  # fmt: skip
    """Trains a model, and returns its history."""
    from my_experiment.harness.training import descent

    settings = descent.Settings(**{**SETTINGS, **changes})
    splits = {"train": split(0, count), "validation": split(1, 60)}
    labels = {name: its[1] for name, its in splits.items()}
    target = target or targets.target(MANIFEST)
    compiled = compiled or target.compile_arguments(MANIFEST, labels["train"])
    inputs = contracts.Inputs("encoded", lambda name: splits[name][0], lambda: (None, None))
    mode = monitor.mode(settings.monitor, target)
    return descent.train(model, inputs, descent.Training(settings, labels, compiled, mode, report, group, ball))
