"""Robustness: how the exported model answers changed examples, at random or by an attacker's search.

Stage `robustness` calls the function that section `robustness` names: `none.nothing`, `images.pictures` or
`tables.table`.
"""

import importlib
from typing import cast

from ..contracts import Manifest
from .contracts import Kind


def kind(described: Manifest) -> Kind:
    """The module with the scores of a target: `classification` or `regression`.

    Args:
        described: Manifest of the prepared data, or content of models/model.json.
    """
    return cast(Kind, importlib.import_module(f".{described['target']}", __package__))
