"""Targets: head, loss and answers, a module for each kind of target."""

import importlib
from typing import Any

from ..contracts import Manifest


def target(described: Manifest) -> Any:
    """The module of a kind of target: `classification` or `regression`.

    Args:
        described: The manifest, or models/model.json.
    """
    return importlib.import_module(f".{described['target']}", __package__)
