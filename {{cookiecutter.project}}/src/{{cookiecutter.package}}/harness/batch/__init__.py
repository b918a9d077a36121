"""Batch prediction: files to a table of predictions."""

import importlib
from typing import cast

from ..contracts import Description
from .contracts import BatchReader


def reader(description: Description) -> BatchReader:
    """The module that reads the input of a batch prediction: `images` or `tables`.

    Args:
        description: The content of models/model.json.
    """
    return cast(BatchReader, importlib.import_module(f".{description['input']}", __package__))
