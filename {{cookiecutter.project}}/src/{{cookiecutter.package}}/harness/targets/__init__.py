"""Targets: head, loss and predictions for each kind of target."""

import importlib
import importlib.util
from typing import cast

from ..contracts import Manifest, Target
from ..core.errors import UserError


def target(described: Manifest) -> Target:
    """The module of a kind of target: `classification` or `regression`.

    Args:
        described: Manifest of the prepared data, or content of models/model.json.

    Raises:
        UserError: If this project has no such kind.
    """
    kind = described["target"]
    if importlib.util.find_spec(f"{__package__}.{kind}") is None:
        raise UserError(f"data.problem: this project has no {kind}; its task was chosen when it was made")
    return cast(Target, importlib.import_module(f".{kind}", __package__))
