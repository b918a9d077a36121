"""Evaluation of a model: metrics, plots, model card."""

import importlib
from typing import cast

from ..contracts import Manifest
from .contracts import Evaluator, Presenter


def evaluator(described: Manifest) -> Evaluator:
    """The module that evaluates a kind of target: `classification` or `regression`.

    Args:
        described: The manifest, or models/model.json.
    """
    return cast(Evaluator, importlib.import_module(f".{described['target']}", __package__))


def presenter(described: Manifest) -> Presenter:
    """The module that shows examples of an input: `images` or `tables`.

    Args:
        described: The manifest, or models/model.json.
    """
    return cast(Presenter, importlib.import_module(f".{described['input']}", __package__))
