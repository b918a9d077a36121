"""The command `undo`: production goes back to the release before, without registry, network or build."""

import click

from .. import audit
from ..core import files
from ..core.paths import NAME
from . import description
from .description import PATH
from .target import chosen, serving


def undo() -> str:
    """Goes back to the release before, and writes its release.yaml.

    Returns:
        A message, with what is next.

    Raises:
        UserError: If there is nothing to go back to, or the balancer or the cluster cannot be asked.
    """
    place = chosen()
    undone = serving(place.state())
    audit.record("undo", release=undone)
    place.undo()
    served = serving(place.state())
    told = f"{served} serves all requests instead of {undone}"
    written = description.earlier(served)
    if written is None:
        return f"{told}; no commit here has its {PATH}: `git pull`, or revert the commit that released {undone}"
    files.write_text(PATH, written)
    return (
        f"{told}; next, or the next deployment brings it back:\n"
        f"  git commit --message 'Undo release {undone}' -- {PATH}\n"
        f"  python -m {NAME} deploy"
    )


@click.command()
def command() -> None:
    """Go back to the release before, and write its deploy/release.yaml."""
    print(undo())
