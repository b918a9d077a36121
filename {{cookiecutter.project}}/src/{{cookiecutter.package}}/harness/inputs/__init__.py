"""Decoding of files and requests, shared by the pipeline and the service."""

import importlib
from typing import cast

from ..contracts import Description
from .contracts import RequestDecoder


def decoder(description: Description) -> RequestDecoder:
    """The module that decodes requests: `images` or `tables`.

    Args:
        description: Content of models/model.json.
    """
    return cast(RequestDecoder, importlib.import_module(f".{description['input']}", __package__))
