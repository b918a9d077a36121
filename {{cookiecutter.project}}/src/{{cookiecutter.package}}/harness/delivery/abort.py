"""The command `abort`: ends a rollout, all requests go to the stable release."""

import click

from .. import audit
from . import hosts


def abort() -> str:
    """Ends a rollout.

    Returns:
        A message.

    Raises:
        UserError: If the balancer cannot be asked.
    """
    balancer = hosts.read().balancer
    state = hosts.state(balancer)
    candidate = state.get("candidate")
    if not candidate:
        return f"no rollout is under way: {hosts.serving(state) or 'nothing'} serves all requests"
    audit.record("abort", release=candidate)
    hosts.rollout(balancer, "abort")
    return f"the rollout of {candidate} is aborted: {hosts.serving(hosts.state(balancer))} serves all requests"


@click.command()
def command() -> None:
    """End a rollout: all requests go to the stable release."""
    print(abort())
