"""Evaluation of a model: metrics, plots, model card."""

import importlib
from typing import Any

from ..contracts import Manifest


def evaluator(described: Manifest) -> Any:
    """The module that evaluates a kind of target: `classification` or `regression`.

    Args:
        described: The manifest, or models/model.json.
    """
    return importlib.import_module(f".{described['target']}", __package__)


def presenter(described: Manifest) -> Any:
    """The module that shows examples of an input: `images` or `tables`.

    Args:
        described: The manifest, or models/model.json.
    """
    return importlib.import_module(f".{described['input']}", __package__)
