"""The command `delivery`: checks what is committed for a delivery."""

from importlib import import_module
from pathlib import Path

import click

from ..core.errors import UserError
from . import description, settings, write, written
from .target import CLUSTER

HOSTS = Path("deploy/hosts.yaml")  # not in a project for a cluster


def check() -> list[Path]:
    """The files that are right; a project has no release before its first one.

    Raises:
        UserError: If one of them is wrong, or the gates are not those of the configuration.
    """
    configured = settings.delivery()
    if not write.PATH.exists() or written.text(write.PATH) != write.text():
        raise UserError(f"{write.PATH} is not what conf/ says: run `make gates`, and commit what it writes")
    found = [write.PATH]
    if released := description.read():
        found.append(description.PATH)
    if CLUSTER.is_dir():
        cluster = import_module(".kubernetes", __package__)
        cluster.check(configured.replicas, "conf/delivery.yaml")
        if released:
            cluster.check(released.spec.replicas, str(description.PATH))
        found.append(cluster.FILE)
    if HOSTS.exists():
        import_module(".hosts", __package__).read()
        found.append(HOSTS)
    return found


@click.command()
def command() -> None:
    """Check conf/delivery.yaml and the files in deploy/: keys, values, and whether the gates are up to date."""
    print("\n".join(map(str, check())))
