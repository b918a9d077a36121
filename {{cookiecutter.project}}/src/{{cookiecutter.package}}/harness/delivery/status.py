"""The command `status`: what should be served, what is, and how far a rollout is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import click

from ..core import text
from ..core.errors import UserError
from ..release import versions
from ..tracking import git, store
from . import description
from .target import RESTING, State, chosen, is_served, serving, unreached

AGREE, UNDER_WAY, DIFFER = 0, 2, 3
WORDS = {1: "good", 0: "undecided", -1: "bad"}


class Known(NamedTuple):
    """What should be served, as far as this machine knows.

    Attributes:
        champion: Number of the version with this alias, if any.
        production: Number of the version with this alias, if any.
        registry: Why the registry does not tell; "" if it does.
        release: The release in release.yaml, if any.
        is_committed: Whether release.yaml is that of HEAD.
    """

    champion: str | None
    production: str | None
    registry: str
    release: description.Release | None
    is_committed: bool


def known() -> Known:
    """What should be served; the registry may be away.

    Raises:
        UserError: If release.yaml is wrong.
    """
    release, trouble, aliases = description.read(), "", {}
    try:
        with store.in_one_line():
            aliases = versions.aliases(store.client())
    except UserError as error:
        trouble = str(error)
    changed = git.git("status", "--porcelain", "--", str(description.PATH))
    return Known(
        aliases.get(versions.CHAMPION),
        aliases.get(versions.PRODUCTION),
        trouble,
        release,
        release is None or not changed,
    )


def judge(found: Known, state: State) -> tuple[int, list[str]]:
    """The exit status, and what differs in words.

    Args:
        found: What should be served.
        state: What is: what the target tells.
    """
    served, wanted, reasons = serving(state), found.release, [*_unanswered(state)]
    if state["state"] not in RESTING:
        return UNDER_WAY, reasons
    if wanted is None:
        reasons.append(f"there is no {description.PATH}")
    elif served != wanted.spec.release:
        why = ""
        if state.get("refused") == wanted.spec.release:
            why = f", which was rolled back: {state.get('reason')}"
        elif state.get("described") == wanted.spec.release:
            why = ", which the hosts know: a deployment prepares it, or has failed before its rollout"
        reasons.append(f"{served or 'nothing'} serves, {description.PATH} has {wanted.spec.release}{why}")
    if not found.is_committed:
        reasons.append(f"{description.PATH} is not committed")
    version = wanted.spec.model.version if wanted else None
    if found.champion and found.champion != version:
        reasons.append(f"champion is {found.champion}, {description.PATH} has {version or 'no version'}")
    if not found.registry and found.production != version and wanted and served == wanted.spec.release:
        reasons.append(f"alias {versions.PRODUCTION} is {found.production or 'unset'}: `deploy` sets it at its end")
    return (DIFFER if reasons else AGREE), reasons


def _unanswered(state: State) -> Sequence[str]:
    away = unreached(state)
    if away and not is_served(state):
        return [f"no request reaches {serving(state)}: {'; '.join(away)}"]
    return [f"the balancer does not reach a container of {serving(state)}: {each}" for each in away]


def lines(found: Known, state: State) -> Iterator[str]:
    """Yields the lines of the report.

    Args:
        found: What should be served.
        state: What is: what the target tells.
    """
    yield from text.aligned([*_wanted(found), *_served(state)])
    verdicts = state.get("verdicts") or []
    if verdicts:
        yield ""
        rows = [
            (each["gate"], WORDS[each["verdict"]], each["requests"], each["bad"], each["needed"]) for each in verdicts
        ]
        yield from text.aligned([("gate", "verdict", "requests", "bad", "still needed"), *rows])


def _wanted(found: Known) -> Iterator[tuple[str, str]]:
    def version(number: str | None) -> str:
        return f"{versions.MODEL}/{number}" if number else "none"

    yield "champion", f"unknown: {found.registry}" if found.registry else version(found.champion)
    spec = found.release.spec if found.release else None
    kept = "" if found.is_committed else " (not committed)"
    yield "release.yaml", f"{version(spec.model.version)}, release {spec.release}{kept}" if spec else "none"
    if not found.registry:
        yield "production", version(found.production)


def _served(state: State) -> Iterator[tuple[str, str]]:
    yield "serves", f"{serving(state) or 'nothing'} ({state['stable']})"
    if candidate := state.get("candidate"):
        steps, step = state.get("steps") or [], int(state.get("step") or 0)
        at = f", step {step + 1} of {len(steps)}" if state["state"] == "step" else ""
        yield "candidate", f"{candidate}, {text.percent(state['share'] / 10000)} of the requests{at}"
    yield "state", f"{state['state']}{': ' + state['reason'] if state.get('reason') else ''}"


@click.command()
def command() -> None:
    """Show champion, release and production.

    Exit codes: 0 all agree, 2 a rollout is under way, 3 something differs, 1 who serves cannot be asked.
    """
    found = known()
    try:
        state = chosen().state()
    except UserError:
        print("\n".join(text.aligned(list(_wanted(found)))), flush=True)  # what is known here
        raise
    code, reasons = judge(found, state)
    print("\n".join(lines(found, state)))
    for reason in reasons:
        print(f"differs: {reason}")
    raise SystemExit(code)
