"""Section `delivery` of conf/delivery.yaml."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from ..core import config
from ..core.config import Section

UNITS = {"s": 1, "m": 60, "h": 3600}
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
        raise ValueError(f"a duration such as 30s, 2m or 1h is expected, not {duration!r}")
    return int(match[1]) * UNITS[match[2]]


def _duration(text: str) -> str:
    seconds(text)
    return text


Duration = Annotated[str, AfterValidator(_duration)]


def _step(step: dict[str, Any]) -> dict[str, Any]:
    match step:
        case {"setWeight": int(weight)} if len(step) == 1 and 0 <= weight <= 100:
            return step
        case {"pause": {"duration": str(duration), **more}} if len(step) == 1 and not more:
            seconds(duration)
            return step
        case {"analysis": analysis} if len(step) == 1 and analysis == ANALYSIS:
            return step
    raise ValueError(f"{step} is none of these steps: {', '.join(STEPS)}")


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
        steps: Steps of a rollout, in the words of Argo Rollouts.
        deadline: Time after which an undecided analysis ends the rollout.
        gates: Gates of a rollout.
    """

    repository: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*(:\d+)?(/[a-z0-9._-]+)+$")
    replicas: int = Field(ge=1, le=99)
    memory: str = Field(pattern=r"^[1-9]\d*(Mi|Gi)$")
    steps: list[Step]
    deadline: Duration
    gates: Gates


def delivery() -> Delivery:
    """Composes and checks conf/delivery.yaml.

    Raises:
        UserError: If the configuration is not valid.
    """
    return config.load_file("delivery", "delivery", Delivery)
