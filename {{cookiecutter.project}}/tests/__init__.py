"""Tests of the code, of the prepared data, of the trained model.

The package's name is an answer to the template, and these files are the same in every project: they ask for its
modules with `module`. In tests of your own, plain imports will do.
"""

import importlib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
(PACKAGE,) = (stages.parent.name for stages in ROOT.glob("src/*/stages"))


def module(name: str) -> Any:
    """Imports a module of the package, `module("data.prepared")` for instance."""
    return importlib.import_module(f"{PACKAGE}.{name}")
