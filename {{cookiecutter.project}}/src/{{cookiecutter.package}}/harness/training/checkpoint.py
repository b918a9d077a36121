"""Checkpoints of a distributed training, to resume after a lost worker."""

import hashlib
import io
import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core import files
from .quiet import keras
from .workers import Group

CHECKPOINTS = Path(".dvc/tmp/checkpoint")  # beside DVC's temporary files, which git ignores
STOPPING = ("wait", "best", "best_epoch", "stopped_epoch")  # attributes of keras.callbacks.EarlyStopping


class Checkpoint(keras.callbacks.Callback):
    """A callback that saves the training state, to resume bit for bit.

    Unlike keras.callbacks.BackupAndRestore, it also saves early stopping, history and the random state of dropout. The
    chief writes it for all workers, and a checkpoint of another training is never used.
    """

    def __init__(
        self,
        group: Group,
        key: str,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        best: keras.callbacks.EarlyStopping,
    ) -> None:
        """Stores references to the parts of the state.

        Args:
            group: The workers.
            key: Digest of everything that determines the training; it names the file.
            model: The model without `compile`, with its weights and random states.
            optimizer: Optimizer of the compiled model.
            best: Early stopping, which must precede this callback.
        """
        super().__init__()
        optimizer.build(model.trainable_variables)
        self.group, self.best = group, best
        self.file = CHECKPOINTS / f"{key}.npz"
        self.variables = [*model.variables, *optimizer.variables]
        self.history: list[dict[str, float]] = []
        self.stopping: dict[str, Any] = {}
        self.best_weights: list[NDArray[Any]] | None = None
        self.ended = False

    @property
    def finished(self) -> int:
        """Number of finished epochs."""
        return len(self.history)

    def restore(self) -> None:
        """Sets every worker to the chief's checkpoint or initial state."""
        content = b""
        if self.group.chief:
            content = self.file.read_bytes() if self.file.exists() else self._pack()
        with np.load(io.BytesIO(self.group.broadcast(content))) as read:
            state = json.loads(str(read["state"]))
            arrays = [read[f"arr_{index}"] for index in range(len(read.files) - 1)]
        for variable, array in zip(self.variables, arrays, strict=False):
            # Different random states: otherwise all workers would drop the same units.
            random = variable.path.endswith("seed_generator_state")
            variable.assign(array + np.array([self.group.cluster.rank, 0]) if random else array)
        self.history, self.stopping, self.ended = state["history"], state["stopping"], state["ended"]
        self.best_weights = arrays[len(self.variables) :] or None
        if self.history and self.group.chief:
            print(f"train: resumes the interrupted training after epoch {self.finished - 1}", file=sys.stderr)

    def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:
        """Restores early stopping, which Keras resets when training begins."""
        vars(self.best).update(self.stopping, best_weights=self.best_weights)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Writes the state, atomically: a worker may be lost at any time."""
        self.history.append({name: float(value) for name, value in (logs or {}).items()})
        if not self.group.chief or not np.isfinite(list(self.history[-1].values())).all():  # NaN ends the training
            return
        self.stopping = {name: getattr(self.best, name) for name in STOPPING}
        self.best_weights, self.ended = self.best.best_weights, bool(self.model.stop_training)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with files.replacing(self.file) as temporary:
            temporary.write_bytes(self._pack())

    def _pack(self) -> bytes:
        state = {"history": self.history, "stopping": self.stopping, "ended": self.ended}
        arrays = [*map(np.asarray, self.variables), *(self.best_weights or [])]
        content = io.BytesIO()
        np.savez(content, *arrays, state=np.array(json.dumps(state)))
        return content.getvalue()


def forget() -> None:
    """Removes all checkpoints, also of trainings that never finished."""
    shutil.rmtree(CHECKPOINTS, ignore_errors=True)


def digest(*parts: Any) -> str:
    """Hexadecimal SHA-256 of values that determine a training.

    Args:
        *parts: Arrays, or values that JSON can hold.
    """
    sha256 = hashlib.sha256()
    for part in parts:
        sha256.update(part.tobytes() if isinstance(part, np.ndarray) else json.dumps(part, sort_keys=True).encode())
    return sha256.hexdigest()
