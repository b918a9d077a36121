"""What the dashboard shows: rows of panels with their queries, as data."""

from dataclasses import dataclass
from typing import Literal

from ..drift.evidence import LIMIT
from ..serving import metrics
from . import promql, rules
from .alerts import EXPIRING
from .settings import Monitoring

Kind = Literal["stat", "lines", "shares", "heatmap", "table", "bars"]

# What the dashboard's variables choose; a target without `release` and `track` has them empty.
CHOSEN = 'job=~"$job",release=~"$release",track=~"$track"'
RATE = "$__rate_interval"
WINDOW = "1h"
BY = "max by (model_version, track, kind, column)"


@dataclass(frozen=True)
class Panel:
    """A panel.

    Attributes:
        title: Its title.
        text: What it says, and what to think of when reading it.
        kind: How it is drawn: `stat` (a number), `lines`, `shares` (lines stacked to 100 %), `heatmap`, `table` or
            `bars`.
        unit: Grafana's name of the unit.
        queries: Legend, or name of the column of a table -> PromQL.
        width: Width of 24.
        height: Height; 30 pixels each.
        limit: A value above which it is drawn red.
        below: Whether values below `limit` are drawn red instead.
        zero: Whether the axis of lines begins at 0.
    """

    title: str
    text: str
    kind: Kind
    unit: str
    queries: dict[str, str]
    width: int = 8
    height: int = 8
    limit: float | None = None
    below: bool = False
    zero: bool = True


def chosen(name: str, *labels: str) -> str:
    """A selector of what the dashboard's variables choose.

    Args:
        name: Name of a metric.
        *labels: Further matchers.
    """
    return f"{name}{{{','.join([CHOSEN, *labels])}}}"


def rate(name: str, *labels: str) -> str:
    """A rate over the dashboard's interval.

    Args:
        name: Name of a counter.
        *labels: Further matchers.
    """
    return f"rate({chosen(name, *labels)}[{RATE}])"


def rows(settings: Monitoring) -> dict[str, list[Panel]]:
    """Title of a row -> its panels, from left to right.

    Args:
        settings: The objectives.
    """
    return {
        "Now": _now(settings),
        "Requests": _requests(settings),
        "Model": _model(),
        "Drift": _drift(settings),
        "Rollout": _rollout(),
        "Log": _log(),
        "Access": _access(),
    }


def _now(settings: Monitoring) -> list[Panel]:
    firing = chosen("ALERTS", 'alertstate="firing"')
    failed, slow = (chosen(name("1h")) for name in (rules.failures, rules.slow))
    version = f"max by (model_version, git_commit, training_key, mlflow_run, release, track) ({chosen(metrics.INFO)})"
    return [
        Panel(
            "Alerts",
            "Alerts that fire now. The runbook has a paragraph on each.",
            "stat",
            "none",
            {"firing": f"count({firing}) or vector(0)"},
            3,
            4,
            1,
        ),
        Panel(
            "Targets",
            "Processes that answer a scrape.",
            "stat",
            "none",
            {"up": f"sum({chosen('up')})"},
            3,
            4,
            1,
            below=True,
        ),
        Panel(
            "Failed",
            "Share of the requests of one hour that were refused or answered with 5xx.",
            "stat",
            "percentunit",
            {"{{track}}": failed},
            3,
            4,
            1 - settings.availability,
        ),
        Panel(
            "Slow",
            f"Share of the answers of one hour that took more than {settings.latency:g} s; explanations do not count.",
            "stat",
            "percentunit",
            {"{{track}}": slow},
            3,
            4,
            1 - settings.fast,
        ),
        Panel(
            "Versions",
            "The models that are served, and where each comes from: `lineage` finds the rest.",
            "table",
            "none",
            {"replica": version},
            12,
            4,
        ),
    ]


def _requests(settings: Monitoring) -> list[Panel]:
    budget = 1 - settings.availability
    buckets = f"sum by (le) ({rate(f'{promql.DURATION}_bucket', promql.FAST)})"
    quantiles = {f"{share:.0%}": f"histogram_quantile({share}, {buckets})" for share in (0.5, 0.9, 0.99)}
    asked = f"sum by (endpoint, http_response_code) ({rate(promql.REQUESTS, promql.ASKED)})"
    return [
        Panel(
            "Requests",
            "Requests a second by path and status; those refused because too many wait are not among them.",
            "lines",
            "reqps",
            {"{{endpoint}} {{http_response_code}}": asked},
        ),
        Panel(
            "Failures",
            f"Share of the requests that were refused or answered with 5xx. {budget:.2%} may fail; a share above that "
            "uses up the budget of 30 days early.",
            "lines",
            "percentunit",
            {"{{track}} 5 min": chosen(rules.failures("5m")), "{{track}} 1 h": chosen(rules.failures("1h"))},
            limit=budget,
        ),
        Panel(
            "Refused",
            "Requests a second that were refused: `busy` (too many wait), `bytes` (their bodies are too large "
            "together), `slow` (a body came too late), `gone` (the client left), `path` (there is no such path); with "
            "keys `key` (none, or a wrong one), `role` (of another role), `rate`, `answers` (more than a client may "
            "ask).",
            "lines",
            "reqps",
            {"{{reason}}": f"sum by (reason) ({rate(metrics.REFUSED)})"},
        ),
        Panel(
            "Latency",
            "Quantiles, interpolated within the buckets of the histogram. Explanations do not count.",
            "lines",
            "s",
            quantiles,
        ),
        Panel(
            "Latencies",
            "Answers a second by latency. Two bands are two kinds of requests, or two kinds of replicas.",
            "heatmap",
            "s",
            {"{{le}}": buckets},
        ),
        Panel(
            "In progress",
            "Requests that a process works on, by path. A line that only rises: requests come faster than answers.",
            "lines",
            "none",
            {"{{endpoint}}": f"sum by (endpoint) ({chosen(promql.IN_PROGRESS, promql.ASKED)})"},
        ),
    ]


def _model() -> list[Panel]:
    counted = chosen(rules.rows(WINDOW), 'kind="confidence"')
    quality = {
        "{{track}} estimated": chosen(rules.estimated("1h")),
        "{{track}} by labels": chosen(rules.realised("1h")),
        "{{track}} test split": chosen(rules.REFERENCE_QUALITY),
    }
    estimate = (
        "Share of right answers in one hour. The estimate needs no labels: it takes how sure the model is, and how "
        "often it was "
        "right when it was as sure on the test split. It sees harder inputs, but **not** that the same inputs now "
        "mean something else (concept drift): then only the line by labels falls. It has feedback alone, as soon as "
        "it comes."
    )
    return [
        Panel(
            "Answers",
            "Share of each answer. A class that vanishes, or one that takes all, is a fault of the model or of its "
            "inputs.",
            "shares",
            "percentunit",
            {"{{label}}": f"sum by (label) ({rate(metrics.PREDICTIONS)})"},
            5,
        ),
        Panel(
            "Confidence",
            "How sure the model is, in one hour: shares of the rows in each bin of the highest probability.",
            "shares",
            "percentunit",
            {"{{bin}}": f"sum by (bin) ({counted})"},
            6,
        ),
        Panel("Quality", estimate, "lines", "percentunit", quality, 8, zero=False),
        Panel(
            "Feedback",
            "Labels a second that came back: the answer was right, wrong, or is not known any more (unmatched).",
            "lines",
            "reqps",
            {"{{outcome}}": f"sum by (outcome) ({rate(metrics.FEEDBACK)})"},
            5,
        ),
    ]


def _drift(settings: Monitoring) -> list[Panel]:
    names = {
        "evidence, 1 h": rules.evidence("1h"),
        "PSI, 1 h": rules.psi("1h"),
        "evidence, 1 d": rules.evidence("1d"),
        "PSI, 1 d": rules.psi("1d"),
    }
    variable = 'kind="input",column="$column"'
    counts = {"production, 1 h": rules.rows(WINDOW), "reference": rules.REFERENCE}
    shares = {
        legend: f"sum by (bin) ({chosen(name, variable)}) / scalar(sum({chosen(name, variable)}))"
        for legend, name in counts.items()
    }
    limit = f"{LIMIT:g} + log10(count({BY} ({chosen(rules.evidence(WINDOW))})))"
    counted = chosen(rules.rows(WINDOW), 'kind="input"')
    rows = f"max by (model_version, track) (sum by (model_version, track, kind, column) ({counted}))"
    told = "{{track}} {{column}}"
    return [
        Panel(
            "Variables",
            "Evidence that a variable has another distribution than in training, in decimal digits (3: a thousand to "
            f"one), and how large the change is (PSI; below {settings.psi:g} hardly worth a look). An alert needs "
            "both.",
            "table",
            "none",
            {title: f"{BY} ({chosen(name)})" for title, name in names.items()},
            12,
        ),
        Panel(
            "Distribution of $column",
            "Share of the rows in each bin, of production and of the training split. The variable at the top chooses "
            "the column; the one with most evidence comes first.",
            "bars",
            "percentunit",
            shares,
            12,
        ),
        Panel(
            "Evidence",
            "The five variables with most evidence in one hour, and the limit: with it, all together alarm falsely in "
            "at most one of a thousand windows if rows do not depend on each other.",
            "lines",
            "none",
            {"limit": limit, told: _most(rules.evidence(WINDOW))},
        ),
        Panel(
            "Size of the change",
            "Population stability index of the five variables that changed most in one hour. Few rows make it large: "
            "read it with the evidence.",
            "lines",
            "none",
            {told: _most(rules.psi(WINDOW))},
            limit=settings.psi,
        ),
        Panel(
            "Rows",
            "Rows that were counted in one hour: at most 16 of a request, and 200 a second. Evidence grows with them.",
            "lines",
            "none",
            {"{{track}} {{model_version}}": rows},
        ),
    ]


def _most(name: str) -> str:
    """The five variables that have most at the end of the time shown, over all of it."""
    return f"{BY} ({chosen(name)}) and topk(5, {BY} ({chosen(name)} @ end()))"


def _rollout() -> list[Panel]:
    """What `delivery/gates.py` records, if there is a delivery."""

    def recorded(name: str) -> str:  # these have no track
        return f'rollout:{name}{{job=~"$job",release=~"$release"}}'

    share = f"{recorded('bad')} / ({recorded('requests')} > 0)"
    stable = f"{recorded('stable_bad')} / ({recorded('stable_requests')} > 0)"
    return [
        Panel(
            "Verdicts",
            "Of each gate on a new release: 1 good, 0 not known yet, -1 bad. A release goes on if `errors` and `slow` "
            "are good and none is bad.",
            "lines",
            "none",
            {"{{gate}} {{release}}": recorded("verdict")},
            6,
            zero=False,
        ),
        Panel(
            "Judged by",
            "Requests to both releases since the rollout began, an hour at most; those that a good one still needs.",
            "lines",
            "none",
            {
                "{{gate}} new": recorded("requests"),
                "{{gate}} stable": recorded("stable_requests"),
                "{{gate}} needed": recorded("needed"),
            },
            6,
        ),
        Panel(
            "Bad requests",
            "Their share since then. A new release may have as many as the stable one, or as are tolerable.",
            "lines",
            "percentunit",
            {"{{gate}} new": share, "{{gate}} stable": stable},
            6,
        ),
        Panel(
            "Likelihood ratios",
            "Logarithms, of an intolerable share of bad requests to a tolerable one. Below its bound, -4.6 with errors "
            "of 1 %, a release is good; it is bad if this and the comparison with the stable release exceed 4.6.",
            "lines",
            "none",
            {"{{gate}}": recorded("likelihood_ratio"), "{{gate}} compared": recorded("compared_ratio")},
            6,
            zero=False,
        ),
    ]


def _log() -> list[Panel]:
    return [
        Panel(
            "Kept",
            "Rows a second that are kept, if `SERVICE_LOG` is set.",
            "lines",
            "rowsps",
            {"kept": f"sum({rate(metrics.LOG_ROWS)})"},
        ),
        Panel(
            "Dropped",
            "Rows a second that were to be kept, but are not: the disk or the queue is full.",
            "lines",
            "rowsps",
            {"{{reason}}": f"sum by (reason) ({rate(metrics.LOG_DROPPED)})"},
            limit=0.001,
        ),
        Panel(
            "Written",
            "Bytes a second of the files of rows kept.",
            "lines",
            "Bps",
            {"written": f"sum({rate(metrics.LOG_BYTES)})"},
        ),
    ]


def _access() -> list[Panel]:
    return [
        Panel(
            "Clients",
            "Requests a second of each client, if `SERVICE_KEYS` is set.",
            "lines",
            "reqps",
            {"{{client}}": f"sum by (client) ({rate(metrics.CLIENTS)})"},
            16,
        ),
        Panel(
            "Certificate",
            "Days until the first certificate of the service expires, if it has one.",
            "stat",
            "none",
            {"days": f"min({chosen(metrics.CERTIFICATE_DAYS)})"},
            8,
            limit=EXPIRING,
            below=True,
        ),
    ]
