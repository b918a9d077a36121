"""Recording rules: what alerts and dashboard read, computed once."""

from dataclasses import dataclass, field

from . import promql
from .settings import Monitoring

# Windows of burn rates: long -> short, which ends an alert soon after its cause.
BURNS = {"1h": "5m", "6h": "30m", "1d": "2h", "3d": "6h"}
# Windows of drift and quality.
DRIFT = ("1h", "1d")

REFERENCE = "model:reference:rows"
RIGHT = "model:reference:right_rows"
REFERENCE_QUALITY = "model:quality:reference"


@dataclass(frozen=True)
class Rule:
    """A recording rule.

    Attributes:
        record: Name of the series that it makes.
        expr: The expression.
        labels: Labels of the series, beside those of the expression.
    """

    record: str
    expr: str
    labels: dict[str, str] = field(default_factory=dict)


def answers(window: str) -> str:
    """Name of the rate of answers by status."""
    return f"service:answers:rate{window}"


def requests(window: str) -> str:
    """Name of the rate of requests."""
    return f"service:requests:rate{window}"


def failures(window: str) -> str:
    """Name of the share of failed requests."""
    return f"service:errors:ratio_rate{window}"


def slow(window: str) -> str:
    """Name of the share of slow answers."""
    return f"service:slow:ratio_rate{window}"


def rows(window: str) -> str:
    """Name of the rows of production by bin."""
    return f"model:rows:increase{window}"


def both(window: str) -> str:
    """Name of the rows of production and reference together, by bin."""
    return f"model:both:rows{window}"


def evidence(window: str) -> str:
    """Name of the evidence of a change."""
    return f"model:drift:evidence{window}"


def drift(window: str, *matchers: str) -> str:
    """The evidence that alarms: of an hour, or of a day beyond its loudest hour."""
    selected = f"{evidence(window)}{{{','.join(matchers)}}}" if matchers else evidence(window)
    return selected if window == "1h" else f"({promql.lasting(selected, evidence('1h'))})"


def psi(window: str) -> str:
    """Name of the population stability index."""
    return f"model:drift:psi{window}"


def estimated(window: str) -> str:
    """Name of the estimated quality."""
    return f"model:quality:estimated{window}"


def realised(window: str) -> str:
    """Name of the quality by labels."""
    return f"model:quality:realised{window}"


REFUSED = "service:refused:ratio_rate5m"


def of_requests(settings: Monitoring) -> list[Rule]:
    """Rules of requests, failures and latency, in all windows.

    Args:
        settings: The objectives.
    """
    windows = sorted({*BURNS, *BURNS.values()}, key=seconds)
    found = []
    for window in windows:
        found += [
            Rule(answers(window), promql.answers(window)),
            Rule(requests(window), promql.requests(window, answers(window))),
            Rule(failures(window), promql.failures(answers(window), requests(window))),
            Rule(slow(window), promql.slow(window, settings.latency)),
        ]
    return [*found, Rule(REFUSED, promql.refused("5m", requests("5m")))]


def of_reference() -> list[Rule]:
    """Rules of the reference, which the service exports with its model."""
    return [
        Rule(REFERENCE, promql.reference()),
        Rule(RIGHT, promql.right()),
        Rule(REFERENCE_QUALITY, promql.realised(REFERENCE)),
    ]


def of_model(window: str) -> list[Rule]:
    """Rules of drift and quality in a window.

    Args:
        window: A duration.
    """
    counted = rows(window)
    return [
        Rule(counted, promql.rows(window)),
        Rule(both(window), f"{counted} + {REFERENCE}"),
        Rule(evidence(window), promql.evidence(counted, REFERENCE, both(window))),
        Rule(psi(window), promql.psi(counted, REFERENCE)),
        Rule(estimated(window), promql.estimated(counted, REFERENCE, RIGHT)),
        Rule(realised(window), promql.realised(counted)),
    ]


def seconds(window: str) -> int:
    """Seconds of a duration.

    Args:
        window: A number and a unit: m, h or d.
    """
    return int(window[:-1]) * {"m": 60, "h": 3600, "d": 86400}[window[-1]]
