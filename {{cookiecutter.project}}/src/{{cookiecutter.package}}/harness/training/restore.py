"""The trained Keras model, rebuilt from its description and weights."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import keras


def load_keras(folder: Path) -> "keras.Model":
    """The trained Keras model, whose input is images or encoded rows.

    Args:
        folder: Folder of model.json and weights.npz.
    """
    from .quiet import keras  # here, not above: takes seconds, and not every command needs it

    description = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    config = description["keras"] | {"compile_config": None}  # without the custom loss, which inference does not need
    model = keras.models.model_from_json(json.dumps(config))
    with np.load(folder / "weights.npz") as weights:
        for variable, name in zip(model.weights, weights.files, strict=True):
            variable.assign(weights[name])
    return model
