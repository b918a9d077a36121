"""The command line: a table of commands, each loaded when it is called."""

import importlib
import sys
from collections.abc import Mapping

from .paths import NAME


def run(table: Mapping[str, str]) -> None:
    """Runs the command that the command line names.

    Args:
        table: Command -> its module, below the package.
    """
    name = sys.argv.pop(1)
    importlib.import_module(f"{NAME}.{table[name]}").main()
