"""Switches: variables of the environment that are `on` or `off`, and what answers tell."""

import difflib
import os
from collections.abc import Sequence

from bentoml.exceptions import BentoMLException

PREFIX = "SERVICE_"
DEFAULTS = {"SERVICE_PAGE": "on", "SERVICE_EXPLAIN": "off", "SERVICE_FEEDBACK": "off"}
ANSWER, FULL, LABEL = "SERVICE_ANSWER", "full", "label"
ALIKE = 0.8  # from which a name is a misspelled one: a variable of the owner's may be called SERVICE_LOGGING


def is_on(name: str) -> bool:
    """Whether a switch is on; an empty variable is like none."""
    return (os.environ.get(name) or DEFAULTS[name]) == "on"


def tells_labels_only() -> bool:
    """Whether answers are classes or numbers alone: SERVICE_ANSWER is `label`."""
    return os.environ.get(ANSWER) == LABEL


def check(others: Sequence[str] = ()) -> None:
    """Verifies the values of all switches, and that no variable of the service is misspelled.

    With SERVICE_KEY in place of SERVICE_KEYS, anybody could ask the service.

    Args:
        others: Names of variables of the service that are no switches.

    Raises:
        BentoMLException: If a switch is neither `on` nor `off`, what answers tell is no choice, or a name is nearly
            that of a variable.
    """
    known = {name.removeprefix(PREFIX): name for name in (*DEFAULTS, ANSWER, *others)}
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and name not in known.values():
            for close in difflib.get_close_matches(name.removeprefix(PREFIX), known, 1, ALIKE):
                raise BentoMLException(f"{name}: there is no such variable; did you mean {known[close]}?")
    _check_values()


def _check_values() -> None:
    for name in DEFAULTS:
        value = os.environ.get(name)
        if value and value not in ("on", "off"):
            raise BentoMLException(f"{name}={value}: a switch is `on` or `off`")
    told = os.environ.get(ANSWER)
    if told and told not in (FULL, LABEL):
        raise BentoMLException(f"{ANSWER}={told}: it is `{FULL}` or `{LABEL}`")
    if tells_labels_only() and is_on("SERVICE_EXPLAIN"):
        raise BentoMLException(
            f"{ANSWER}={LABEL} and SERVICE_EXPLAIN=on: explanations tell what it leaves out; set one of them"
        )
