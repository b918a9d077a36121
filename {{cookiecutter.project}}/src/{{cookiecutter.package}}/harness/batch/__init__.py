"""Batch prediction of files into a table."""

import importlib
from typing import cast

from ..contracts import Description
from .contracts import BatchReader


def reader(description: Description) -> BatchReader:
    """The module that reads the input: `images` or `tables`.

    Args:
        description: Content of models/model.json.
    """
    return cast(BatchReader, importlib.import_module(f".{description['input']}", __package__))
