"""The way back from production: what the service has kept, joined with labels, becomes data."""

import importlib
from typing import cast

from .contracts import Destination


def destination(input: str) -> Destination:
    """The module that writes labeled examples: `images` or `tables`.

    Args:
        input: Kind of input.
    """
    return cast(Destination, importlib.import_module(f".{input}", __package__))
