"""Targets: head, loss and answers, a module for each kind of target."""

import importlib
from typing import cast

from ..contracts import Manifest, Target


def target(described: Manifest) -> Target:
    """The module of a kind of target: `classification` or `regression`.

    Args:
        described: The manifest, or models/model.json.
    """
    return cast(Target, importlib.import_module(f".{described['target']}", __package__))
