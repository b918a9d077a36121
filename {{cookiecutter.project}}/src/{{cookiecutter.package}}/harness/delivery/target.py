"""Where releases go: plain hosts or a cluster, whichever the project was made for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

CLUSTER = Path("kubernetes")
RESTING = ("idle", "warm", "aborted")  # states without a rollout
State = Mapping[str, Any]  # what `rollout.py status --json` prints on the balancer of hosts


class Target(Protocol):
    """A module for one kind of place. All of them raise UserError where the place does not answer."""

    def reach(self, release: str, again: bool) -> None:
        """Returns if the place answers, whatever is there, and can take a release now.

        Args:
            release: Name of the release.
            again: Whether to try a release again that was rolled back.
        """

    def bring(self, commit: str, again: bool) -> int:
        """The exit status of bringing the committed release there, at the end of its rollout.

        Args:
            commit: The commit.
            again: Whether to try a release again that was rolled back.
        """

    def state(self) -> State:
        """Where the rollout is."""

    def abort(self) -> None:
        """Gives all requests to the stable release."""

    def undo(self) -> None:
        """Gives all requests to the release before."""


def chosen() -> Target:
    """The module of this project's place."""
    return cast(Target, import_module(".kubernetes" if CLUSTER.is_dir() else ".fleet", __package__))


def unreached(state: State) -> Sequence[str]:
    """Containers that should serve, and which the balancer does not reach, with its reason; a cluster sees to its own.

    Args:
        state: What a target tells.
    """
    found: Sequence[str] = state.get("haproxy", {}).get("away", []) if serving(state) else []
    return found


def is_served(state: State) -> bool:
    """Whether the balancer reaches a container of the release that serves.

    Args:
        state: What a target tells.
    """
    return bool(serving(state)) and state.get("haproxy", {}).get("up", 1) > 0


def serving(state: State) -> str:
    """The release that serves all requests; "" if none does.

    Args:
        state: What a target tells.
    """
    found: str = state["release"].get(state["stable"]) or ""
    return found
