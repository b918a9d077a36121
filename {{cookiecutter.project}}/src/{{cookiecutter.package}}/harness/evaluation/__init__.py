"""Evaluation of a model: metrics, plots, model card."""

import importlib
from typing import cast

from ..contracts import Manifest
from .contracts import Evaluator, Presenter


def evaluator(described: Manifest) -> Evaluator:
    """The module that evaluates a target: `classification` or `regression`.

    Args:
        described: Manifest of the prepared data, or content of models/model.json.
    """
    return cast(Evaluator, importlib.import_module(f".{described['target']}", __package__))


def presenter(described: Manifest) -> Presenter:
    """The module that presents examples: `images` or `tables`.

    Args:
        described: Manifest of the prepared data, or content of models/model.json.
    """
    return cast(Presenter, importlib.import_module(f".{described['input']}", __package__))
