"""The trained Keras model, built again from its description and weights."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import keras


def load_keras(folder: Path) -> "keras.Model":
    """Builds the trained Keras model again, from its description and weights.

    Args:
        folder: Where `save` has written.

    Returns:
        What was fitted: it takes prepared rows, for a table the encoded ones.
    """
    from . import keras_fit  # noqa: F401, I001  loads TensorFlow quietly, before Keras would
    import keras

    description = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    described = description["keras"] | {"compile_config": None}  # to be asked, not trained: without its own loss
    model = keras.models.model_from_json(json.dumps(described))
    with np.load(folder / "weights.npz") as weights:
        for variable, name in zip(model.weights, weights.files, strict=True):
            variable.assign(weights[name])
    return model
