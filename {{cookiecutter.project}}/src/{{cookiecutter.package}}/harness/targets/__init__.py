"""Targets: head, loss and predictions for each kind of target."""

import importlib
from typing import cast

from ..contracts import Manifest, Target


def target(described: Manifest) -> Target:
    """The module of a kind of target: `classification` or `regression`.

    Args:
        described: Manifest of the prepared data, or content of models/model.json.
    """
    return cast(Target, importlib.import_module(f".{described['target']}", __package__))
