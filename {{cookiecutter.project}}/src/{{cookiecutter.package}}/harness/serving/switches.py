"""Switches: variables of the environment that are `on` or `off`."""

import os

from bentoml.exceptions import BentoMLException

DEFAULTS = {"SERVICE_PAGE": "on", "SERVICE_EXPLAIN": "off", "SERVICE_FEEDBACK": "off"}


def is_on(name: str) -> bool:
    """Whether a switch is on; an empty variable is like none."""
    return (os.environ.get(name) or DEFAULTS[name]) == "on"


def check() -> None:
    """Verifies the values of all switches.

    Raises:
        BentoMLException: If one is neither `on` nor `off`.
    """
    for name in DEFAULTS:
        value = os.environ.get(name)
        if value and value not in ("on", "off"):
            raise BentoMLException(f"{name}={value}: a switch is `on` or `off`")
