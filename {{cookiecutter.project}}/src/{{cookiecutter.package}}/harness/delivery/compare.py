"""The command `compare`: two models on the same requests, before any of them is released."""

from __future__ import annotations

from pathlib import Path

import click

from ..core.commands import FILE
from ..tracking import store
from . import comparison


@click.command()
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option(
    "--requests", type=FILE, metavar="FOLDER", help="Kept requests of the service, instead of the test split."
)
def command(first: str, second: str, requests: Path | None) -> None:
    """Compare two models on the same requests.

    A and B are numbers or aliases of registered versions, or `workspace`. Without --requests, they answer the test
    split of the workspace.
    """
    with store.in_one_line():
        print("\n".join(comparison.told(comparison.pair(first, second, requests))))
