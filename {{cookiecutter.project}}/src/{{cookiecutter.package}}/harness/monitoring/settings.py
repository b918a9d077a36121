"""Section `monitoring` of conf/monitoring.yaml."""

from typing import Any

from pydantic import Field, field_validator

from ..core import config
from ..core.config import Section
from ..serving.metrics import BUCKETS


class Monitoring(Section):
    """What the service promises, when people are told, and how.

    Attributes:
        availability: Share of requests that are answered, neither refused nor with a 5xx.
        latency: Seconds within which answers come; a bucket of the service's histogram.
        fast: Share of answers that come within it.
        requests: Requests in a window below which a share of them says nothing.
        psi: Population stability index above which a change is worth a person's time.
        quality: Difference of the estimated quality to that of the test split that is.
        scrape: More of Prometheus' scrape configuration: how the service is reached.
        receivers: Alertmanager's receivers, among them `page` (at once) and `ticket` (in working hours).
    """

    availability: float = Field(gt=0, lt=1)
    latency: float
    fast: float = Field(gt=0, lt=1)
    requests: int = Field(ge=1)
    psi: float = Field(gt=0)
    quality: float = Field(gt=0, lt=1)
    scrape: dict[str, Any]
    receivers: list[dict[str, Any]]

    @field_validator("latency")
    @classmethod
    def _bucket(cls, seconds: float) -> float:
        if seconds not in BUCKETS:
            raise ValueError(f"a bucket of the service's histogram is expected: {', '.join(map(str, BUCKETS))}")
        return seconds

    @field_validator("receivers")
    @classmethod
    def _named(cls, receivers: list[dict[str, Any]]) -> list[dict[str, Any]]:
        missing = {"page", "ticket"} - {receiver.get("name") for receiver in receivers}
        if missing:
            raise ValueError(f"a receiver named {' and one named '.join(sorted(missing))} is missing")
        return receivers


def monitoring() -> Monitoring:
    """Composes and checks conf/monitoring.yaml.

    Raises:
        UserError: If the configuration is not valid.
    """
    return config.load_file("monitoring", "monitoring", Monitoring)
