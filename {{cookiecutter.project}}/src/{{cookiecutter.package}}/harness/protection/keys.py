"""Command `keys`: the clients of the service, and their keys."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import click

from .. import audit
from ..core.commands import FILE
from ..core.errors import UserError, shortened
from . import clients
from .clients import Client, Role
from .settings import KEYS

FILE_OPTION = click.option(
    "--file", type=FILE, envvar=KEYS, required=True, show_envvar=True, help="File of the clients."
)


@click.group()
def command() -> None:
    """Make, list and revoke keys of the service.

    A running service reads the file again within a second after it has changed.
    """


@command.command()
@click.argument("name")
@click.option("--role", "roles", type=click.Choice(get_args(Role)), multiple=True, help="What it may do; repeatable.")
@click.option("--rate", help="Limit of its requests, for instance 100/second.")
@click.option("--answers", type=click.IntRange(1), help="Limit of its predictions in a day.")
@FILE_OPTION
def new(name: str, roles: Sequence[Role], rate: str | None, answers: int | None, file: Path) -> None:
    """Print a new key for the client NAME.

    The key cannot be printed again. A client in the file gets one more key, so that it can change to it before `revoke
    NAME --old` ends the earlier ones.
    """
    if not clients.is_name(name):
        raise UserError(f"{name[:80]!r}: a name has at most 64 letters, digits, dots, hyphens, underscores and @")
    if rate and not re.fullmatch(clients.RATE, rate):
        raise UserError(f"--rate {rate[:40]}: a number of requests in a time is expected, 100/second, /minute or /hour")
    token, digest = clients.new_key()
    with clients.exclusive(file):
        known = clients.read(file) if file.exists() else []
        before = next((client for client in known if client.name == name), None)
        if before and (roles or rate or answers):
            raise UserError(f"{name} is in {file}: leave out the options to make one more key, or edit the file")
        if not (before or roles):
            raise UserError(f"{name} is not in {file}: say what it may do, --role {' or --role '.join(get_args(Role))}")
        if before:
            added = before.model_copy(update={"sha256": (*before.sha256, digest)})
        else:
            added = Client(name=name, sha256=(digest,), roles=tuple(roles), rate=rate, answers=answers)
        audit.record("key new", client=name, roles=", ".join(added.roles), file=str(file))
        others = [added if client is before else client for client in known]
        clients.write(file, others if before else [*known, added])
    print(f"The key of {name}, which is not printed again:", file=sys.stderr)
    print(token)


@command.command("list")
@FILE_OPTION
def list_(file: Path) -> None:
    """List clients: roles, limits, and the first digits of the hashes of their keys."""
    for client in clients.read(file):
        limits = [client.rate or "any rate", f"{client.answers:,} answers a day" if client.answers else "any answers"]
        keys = shortened([digest[:8] for digest in client.sha256]) or "no key: named by a proxy"
        print(f"{client.name}: {', '.join(client.roles)}; {', '.join(limits)}; {keys}")


@command.command()
@click.argument("name")
@click.option("--old", is_flag=True, help="Keep the newest key.")
@FILE_OPTION
def revoke(name: str, old: bool, file: Path) -> None:
    """Remove the client NAME and its keys."""
    with clients.exclusive(file):
        known = clients.read(file)
        client = next((client for client in known if client.name == name), None)
        if client is None:
            raise UserError(f"{file}: there is no client {name[:80]!r}")
        audit.record("key revoked", client=name, old=old, file=str(file))
        kept = [client.model_copy(update={"sha256": client.sha256[-1:]})] if old else []
        clients.write(file, [each for other in known for each in (kept if other is client else [other])])
    print(f"{len(client.sha256) - len(kept and client.sha256[-1:])} key(s) of {name} revoked")
