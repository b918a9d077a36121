"""Batch prediction: files to a table of predictions."""

import importlib
from typing import Any

from ..contracts import Manifest


def reader(description: Manifest) -> Any:
    """The module that reads the input of a batch prediction: `images` or `tables`.

    Args:
        description: The content of models/model.json.
    """
    return importlib.import_module(f".{description['input']}", __package__)
