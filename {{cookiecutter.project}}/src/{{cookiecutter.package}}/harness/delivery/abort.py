"""The command `abort`: ends a rollout, all requests go to the stable release."""

import click

from .. import audit
from .target import chosen, serving


def abort() -> str:
    """Ends a rollout.

    Returns:
        A message.

    Raises:
        UserError: If the balancer or the cluster cannot be asked.
    """
    place = chosen()
    state = place.state()
    candidate = state.get("candidate")
    if not candidate:
        served = serving(state)
        return f"no rollout is under way: {f'{served} serves all requests' if served else 'nothing was deployed yet'}"
    audit.record("abort", release=candidate)
    place.abort()
    return f"the rollout of {candidate} is aborted: {serving(place.state())} serves all requests"


@click.command()
def command() -> None:
    """End a rollout: all requests go to the stable release."""
    print(abort())
