"""Section `delivery` of conf/delivery.yaml."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from ..core import config
from ..core.config import Section

UNITS = {"s": 1, "m": 60, "h": 3600}
LONGEST_START = 600  # seconds; systemd and Puppet wait a little longer
ANALYSIS = {"templates": [{"templateName": "gates"}]}
STEPS = "{setWeight: 0 to 100}", "{pause: {duration: 2m}}", "{analysis: {templates: [{templateName: gates}]}}"


def seconds(duration: str) -> int:
    """Seconds of a duration.

    Args:
        duration: A whole number and a unit: s, m or h.

    Raises:
        ValueError: If it has another form.
    """
    match = re.fullmatch(r"(\d+)([smh])", duration)
    if match is None:
        raise ValueError("a duration such as 30s, 2m or 1h is expected")
    return int(match[1]) * UNITS[match[2]]


def text(pattern: str, expected: str, example: str) -> AfterValidator:
    """A validator whose message is in words: pydantic would show the pattern.

    Args:
        pattern: Regular expression of the whole text.
        expected: What it describes.
        example: A text that it accepts.
    """

    def check(value: str) -> str:
        if re.fullmatch(pattern, value) is None:
            raise ValueError(f"{expected} is expected, such as {example}")
        return value

    return AfterValidator(check)


def _deadline(duration: str) -> str:
    if seconds(duration) == 0:
        raise ValueError("a time in which the gates can decide is expected, such as 1h")
    return duration


def _start(duration: str) -> str:
    if not 0 < seconds(duration) <= LONGEST_START:
        raise ValueError(f"a time in which a container starts, of at most {LONGEST_START} s, is expected, such as 80s")
    return duration


Deadline = Annotated[str, AfterValidator(_deadline)]
Start = Annotated[str, AfterValidator(_start)]
Memory = Annotated[str, text("[1-9][0-9]*(Mi|Gi)", "a whole number of Mi or Gi", "512Mi")]
Repository = Annotated[
    str,
    text(
        r"[a-z0-9][a-z0-9.-]*(:[0-9]+)?(/[a-z0-9._-]+)+",
        "a repository in lower case, without https://, tag and digest,",
        "registry.example.org/model",
    ),
]


def _step(step: dict[str, Any]) -> dict[str, Any]:
    match step:
        case {"setWeight": int(weight)} if len(step) == 1 and not isinstance(weight, bool) and 0 <= weight <= 100:
            return step
        case {"pause": {"duration": str(duration), **more}} if len(step) == 1 and not more:
            seconds(duration)
            return step
        case {"analysis": analysis} if len(step) == 1 and analysis == ANALYSIS:
            return step
    raise ValueError(f"this is none of the steps {', '.join(STEPS)}")


def _steps(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    weights = [step["setWeight"] for step in steps if "setWeight" in step]
    if weights != sorted(weights):
        raise ValueError("a setWeight is lower than the one before it: only `abort` takes requests back")
    if {"analysis": ANALYSIS} not in steps:
        raise ValueError(f"no step asks the gates, so that any release would pass: add {STEPS[-1]}")
    return steps


Step = Annotated[dict[str, Any], AfterValidator(_step)]


class Shares(Section):
    """Shares of bad requests that a sequential test tells apart.

    Attributes:
        tolerable: A release with this share of bad requests is fine.
        intolerable: A release with this share is not.
    """

    tolerable: float = Field(gt=0, lt=1)
    intolerable: float = Field(gt=0, lt=1)

    @model_validator(mode="after")
    def _ordered(self) -> "Shares":
        if self.intolerable <= self.tolerable:
            raise ValueError("intolerable must be larger than tolerable")
        return self


class Gates(Section):
    """Gates of a rollout.

    Attributes:
        errors: Shares of failed requests.
        slow: Shares of slow answers.
        ratio: Factor to the stable release's share above which a canary is worse, if stable itself exceeds `tolerable`.
        false_abort: Probability that a gate rejects a release that is fine.
        false_promotion: Probability that a gate accepts a release that is not.
        shift: Population stability index between the answers of both releases that is accepted.
    """

    errors: Shares
    slow: Shares
    ratio: float = Field(ge=1.5)
    false_abort: float = Field(gt=0, lt=0.5)
    false_promotion: float = Field(gt=0, lt=0.5)
    shift: float = Field(gt=0)


class Delivery(Section):
    """How a release reaches production.

    Attributes:
        repository: The image's repository, without tag and digest.
        replicas: Containers of a slot on each host.
        memory: Memory limit of a container, as Kubernetes writes it, such as 512Mi.
        start: Time after which a container that is not ready is refused, on hosts.
        steps: Steps of a rollout, in the words of Argo Rollouts.
        deadline: Time after which an undecided analysis ends the rollout.
        gates: Gates of a rollout.
    """

    repository: Repository
    replicas: int = Field(ge=1, le=99)
    memory: Memory
    start: Start
    steps: Annotated[list[Step], AfterValidator(_steps)]
    deadline: Deadline
    gates: Gates


def delivery() -> Delivery:
    """Composes and checks conf/delivery.yaml.

    Raises:
        UserError: If the configuration is not valid.
    """
    return config.load_file("delivery", "delivery", Delivery)
