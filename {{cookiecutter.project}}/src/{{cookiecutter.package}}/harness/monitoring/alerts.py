"""Alerts: who is told, when, and which paragraph of the runbook says what to do."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from ..drift.evidence import LIMIT
from ..serving import metrics
from . import promql, rules
from .settings import Monitoring

RUNBOOK = "docs/runbook.md"

# Burns: window -> how many times faster than allowed the budget of 30 days is used, and who is told.
BURNS = {"1h": (14.4, "page"), "6h": (6, "page"), "1d": (3, "ticket"), "3d": (1, "ticket")}

WHICH = (
    "{{ $labels.job }}{{ with $labels.release }}, release {{ . }}{{ end }}"
    "{{ with $labels.track }}, track {{ . }}{{ end }}"
)
TRIED = 100  # requests without a right key in ten minutes: a client that has lost its key, or somebody who tries
EXPIRING = 14  # days: renewals that work come earlier
VERSION = f"model {{{{ $labels.model_version }}}} of {WHICH}"


@dataclass(frozen=True)
class Alert:
    """An alert.

    Attributes:
        name: Its name, and that of its paragraph in the runbook.
        expr: When it fires.
        severity: Who is told: `page` or `ticket`.
        summary: One line, a template of Prometheus.
        wait: For how long `expr` holds before.
        labels: Further labels.
    """

    name: str
    expr: str
    severity: str
    summary: str
    wait: str | None = None
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def runbook(self) -> str:
        """The paragraph of the runbook."""
        return f"{RUNBOOK}#{self.name.lower()}"


def of_requests(settings: Monitoring) -> Iterator[Alert]:
    """Alerts of the server.

    Args:
        settings: The objectives.

    Yields:
        The alerts.
    """
    jobs = f"group by (job, namespace) (last_over_time({metrics.INFO}[1d]))"
    down = f"(up and on (job, namespace) {jobs}) == 0\nor ({jobs} unless on (job, namespace) up)"
    yield Alert("ServiceDown", down, "page", f"{WHICH}: {{{{ $labels.instance }}}} does not answer", "2m")
    for name, ratio, share, what in (
        ("ErrorBudgetBurn", rules.failures, settings.availability, "requests fail"),
        ("LatencyBudgetBurn", rules.slow, settings.fast, f"answers take more than {settings.latency:g} s"),
    ):
        for window, (factor, severity) in BURNS.items():
            short, allowed = rules.BURNS[window], f"{factor} * {1 - share:g}"
            expr = (
                f"{ratio(window)} > {allowed}\nand {ratio(short)} > {allowed}\n"
                f"and {rules.requests(window)} * {rules.seconds(window)} >= {settings.requests}"
            )
            summary = f"{WHICH}: {{{{ $value | humanizePercentage }}}} of {what} ({window}; allowed: {1 - share:.2%})"
            yield Alert(name, expr, severity, summary, labels={"window": window})
    enough = f"{rules.requests('5m')} * 300 >= {settings.requests}"
    summary = (
        f"{WHICH}: {{{{ $value | humanizePercentage }}}} of requests are refused, it is asked more than it can answer"
    )
    yield Alert("Refusing", f"{rules.REFUSED} > 0.01\nand {enough}", "ticket", summary, "5m")
    tried = f'sum by ({promql.SERVICE}) (increase({metrics.REFUSED}{{reason=~"key|role"}}[10m]))'
    summary = f"{WHICH}: {{{{ $value | humanize }}}} requests in ten minutes had no key that opens what they asked"
    yield Alert("KeysRefused", f"{tried} >= {TRIED}", "ticket", summary)
    dropped = f"sum by ({promql.MODEL}, reason) (increase({metrics.LOG_DROPPED}[10m]))"
    yield Alert(
        "LogDropping",
        f"{dropped} > 0",
        "ticket",
        f"{VERSION}: {{{{ $value }}}} rows were not kept ({{{{ $labels.reason }}}})",
        "5m",
    )
    yield Alert(
        "CertificateExpires",
        f"{metrics.CERTIFICATE_DAYS} < {EXPIRING}",
        "ticket",
        f"{WHICH}: the certificate of {{{{ $labels.instance }}}} expires in {{{{ $value | humanize }}}} days",
        "1h",
    )


def of_model(window: str, settings: Monitoring) -> Iterator[Alert]:
    """Alerts of drift and quality in a window.

    Args:
        window: A duration.
        settings: From what size on a change matters.

    Yields:
        The alerts.
    """
    limit, psi = promql.limit(rules.evidence(window), LIMIT), rules.psi(window)
    estimated, realised = rules.estimated(window), rules.realised(window)
    labels, share = {"window": window}, "{{ $value | humanizePercentage }}"

    def changed(kinds: str) -> str:
        return f"{rules.drift(window, kinds)}\n> {limit}\nand {psi} > {settings.psi:g}"

    sure, correct = (rules.drift(window, f'kind="{kind}"') for kind in ("confidence", "outcome"))
    told = f"are distributed otherwise than in training ({window}, evidence {{{{ $value | humanize }}}})"
    yield Alert(
        "InputDrift",
        changed('kind="input"'),
        "ticket",
        f"{VERSION}: values of {{{{ $labels.column }}}} {told}",
        labels=labels,
    )
    yield Alert(
        "AnswerDrift",
        changed('kind=~"answer|confidence"'),
        "ticket",
        f"{VERSION}: {{{{ $labels.kind }}}}s {told}",
        labels=labels,
    )
    summary = (
        f"{VERSION}: {share} of answers are estimated to be right ({window}), clearly fewer than in the test split"
    )
    less = f"{estimated}\n< {rules.REFERENCE_QUALITY} - {settings.quality:g}\nand on ({promql.MODEL}) {sure} > {limit}"
    yield Alert("EstimatedQualityLow", less, "ticket", summary, labels=labels)
    less = f"{realised}\n< {rules.REFERENCE_QUALITY}\nand on ({promql.MODEL}) {correct} > {LIMIT:g}"
    summary = f"{VERSION}: {share} of the labeled answers are right ({window}), fewer than in the test split"
    yield Alert("QualityLow", less, "page", summary, labels=labels)
