"""Drift: how far production is from the rows that the model was trained and tested on."""

import importlib
from typing import cast

from ..contracts import Description
from .contracts import Subject, Verdicts


def subject(described: Description) -> Subject:
    """The module of a kind of input: `images` or `tables`.

    Args:
        described: Content of models/model.json, or manifest of the prepared data.
    """
    return cast(Subject, importlib.import_module(f".{described['input']}", __package__))


def verdicts(described: Description) -> Verdicts:
    """The module of a kind of target: `classification` or `regression`.

    Args:
        described: Content of models/model.json, or manifest of the prepared data.
    """
    return cast(Verdicts, importlib.import_module(f".{described['target']}", __package__))
