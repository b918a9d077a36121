"""Explanations: what each column, or part of a picture, adds to a model's answers."""

import importlib
from typing import cast

from ..contracts import Manifest
from .contracts import Answers, Modality


def modality(described: Manifest) -> Modality:
    """The module that explains a kind of input: `images` or `tables`.

    Args:
        described: Manifest of the prepared data.
    """
    return cast(Modality, importlib.import_module(f".{described['input']}", __package__))


def answers(described: Manifest) -> Answers:
    """The module of a kind of target: `classification` or `regression`.

    Args:
        described: Manifest of the prepared data.
    """
    return cast(Answers, importlib.import_module(f".{described['target']}", __package__))
