"""Tests of the rules and alerts, run by `promtool test rules`."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ..serving import metrics
from . import alerts, promql
from .settings import Monitoring

TARGET = {"job": "model", "instance": "a:3000", "release": "r1", "track": "stable"}
VERSION = {"model_version": "0123456789ab"}
HOUR = 60  # steps of a minute
DAY = 4 * HOUR  # as long as needed

Counts = Mapping[str, int]  # bin -> rows


def series(name: str, labels: Mapping[str, str], start: float, step: float = 0, steps: int = HOUR) -> dict[str, str]:
    """A series that rises from `start` by `step` each interval.

    Args:
        name: Name of the metric.
        labels: Its labels, beside those of the target.
        start: First value.
        step: What is added each interval.
        steps: Number of intervals.
    """
    told = ",".join(f'{key}="{value}"' for key, value in {**TARGET, **labels}.items())
    return {"series": f"{name}{{{told}}}", "values": f"{start:g}+{step:.12g}x{steps}"}


def variable(
    kind: str, column: str, reference: Counts, production: Counts, steps: int = HOUR
) -> Iterable[dict[str, str]]:
    """The series of a variable: its reference, and rows of production in an interval.

    Args:
        kind: Kind of the variable.
        column: Name of the column.
        reference: Rows of the reference by bin.
        production: Rows of production in an interval by bin.
        steps: Number of intervals.

    Yields:
        The series.
    """
    for name, rows in reference.items():
        labels = {"kind": kind, "column": column, "bin": name, **VERSION}
        yield series(metrics.REFERENCE_ROWS, labels, rows, 0, steps)
        yield series(metrics.ROWS, labels, 0, production[name], steps)


def _then(given: Iterable[dict[str, str]], step: float, steps: int) -> list[dict[str, str]]:
    """Series that go on, counters with another step."""
    found = []
    for each in given:
        start, rise, count = re.split(r"[+x]", each["values"])
        last = float(start) + float(rise) * int(count)
        more = step if metrics.ROWS in each["series"] else 0
        found.append({**each, "values": f"{each['values']} {last + more:g}+{more:g}x{steps - 1}"})
    return found


def expected(*firing: Mapping[str, str], minutes: int = HOUR) -> list[dict[str, Any]]:
    """That these alerts fire, and no others.

    Args:
        *firing: Labels of each alert: `alertname`, and `window` and `column` if it has them.
        minutes: When.
    """
    samples = []
    for labels in firing:
        told = ", ".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
        samples.append({"labels": f"{{{told}}}", "value": 1})
    expression = 'count by (alertname, window, column) (ALERTS{alertstate="firing"})'
    return [{"expr": expression, "eval_time": f"{minutes}m", "exp_samples": samples}]


def content(settings: Monitoring) -> dict[str, Any]:
    """Content of rules_test.yml.

    Args:
        settings: The objectives.
    """
    scenarios = {**_of_requests(settings), **_of_model()}
    return {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "1m",
        "tests": [
            {"name": name, "interval": "1m", "input_series": [*given], "promql_expr_test": told}
            for name, (given, told) in scenarios.items()
        ],
    }


Scenarios = dict[str, tuple[Iterable[dict[str, str]], list[dict[str, Any]]]]


def _of_requests(settings: Monitoring) -> Scenarios:
    budget, late = 1 - settings.availability, 1 - settings.fast
    info = series(metrics.INFO, {"git_commit": "c", "training_key": "k", "mlflow_run": "r", **VERSION}, 1)

    def asked(failing: float, refused: float = 0, a_minute: float = 10_000) -> list[dict[str, str]]:
        good = {"endpoint": "/predict", "http_response_code": "200"}
        bad = {**good, "http_response_code": "500"}
        return [
            series(promql.REQUESTS, good, 0, a_minute * (1 - failing)),
            series(promql.REQUESTS, bad, 0, a_minute * failing),
            series(metrics.REFUSED, {"reason": "busy", **VERSION}, 0, a_minute * refused),
            series(metrics.REFUSED, {"reason": "path", **VERSION}, 0, a_minute),
        ]

    def answered(slow: float) -> list[dict[str, str]]:
        labels = {"endpoint": "/predict", "http_response_code": "200"}
        fast = {**labels, "le": str(settings.latency)}
        name = promql.DURATION
        return [series(f"{name}_bucket", fast, 0, 10_000 * (1 - slow)), series(f"{name}_count", labels, 0, 10_000)]

    def burns(name: str, share: float, allowed: float) -> list[dict[str, str]]:
        windows = [window for window, (factor, _) in alerts.BURNS.items() if share > factor * allowed]
        return [{"alertname": name, "window": window} for window in windows]

    error, latency = "ErrorBudgetBurn", "LatencyBudgetBurn"
    many, shed, delayed = min(20 * budget, 0.9), min(20 * budget + 0.02, 0.9), min(20 * late, 0.9)
    return {
        "many requests fail": (asked(many), expected(*burns(error, many, budget))),
        "twice as many requests fail as may": (asked(2 * budget), expected(*burns(error, 2 * budget, budget))),
        "half as many requests fail as may": (asked(budget / 2), expected()),
        "few requests, many of which fail": (asked(0.9, a_minute=settings.requests / 120), expected()),
        "many requests are refused": (
            asked(0, shed / (1 - shed)),
            expected({"alertname": "Refusing"}, *burns(error, shed, budget)),
        ),
        "many answers are slow": ([*asked(0), *answered(delayed)], expected(*burns(latency, delayed, late))),
        "half as many answers are slow as may be": ([*asked(0), *answered(late / 2)], expected()),
        "a process does not answer": ([info, series("up", {}, 0)], expected({"alertname": "ServiceDown"})),
        "no process is left": ([info], expected({"alertname": "ServiceDown"})),
        "another job is down": ([info, series("up", {}, 1), series("up", {"job": "other"}, 0)], expected()),
        "keys are tried": (
            [series(metrics.REFUSED, {"reason": why, **VERSION}, 0, alerts.TRIED / 16) for why in ("key", "role")],
            expected({"alertname": "KeysRefused"}),
        ),
        "a client has a wrong key now and then": (
            [series(metrics.REFUSED, {"reason": "key", **VERSION}, 0, alerts.TRIED / 20)],
            expected(),
        ),
        "rows are not kept": (
            [series(metrics.LOG_DROPPED, {"reason": "disk", **VERSION}, 0, 1)],
            expected({"alertname": "LogDropping"}),
        ),
        "a certificate ends in a week": (
            [series(metrics.CERTIFICATE_DAYS, {}, 7, steps=2 * HOUR)],
            expected({"alertname": "CertificateExpires"}, minutes=2 * HOUR),
        ),
        "a certificate is renewed in time": ([series(metrics.CERTIFICATE_DAYS, {}, 60, steps=2 * HOUR)], expected()),
    }


def _of_model() -> Scenarios:
    slow = {"a": 0, "b": 0, "c": 1, "d": 1}
    reference = dict.fromkeys("abcd", 250)
    same, shifted = dict.fromkeys("abcd", 10), {"a": 0, "b": 0, "c": 15, "d": 25}
    sure = {"low": 100, "high": 900}
    right = [series(metrics.RIGHT_ROWS, {"bin": name, **VERSION}, rows) for name, rows in (("low", 60), ("high", 890))]
    outcomes = {"right": 950, "wrong": 50}

    def told(name: str, column: str | None = None, windows: tuple[str, ...] = ("1h",)) -> list[dict[str, str]]:
        more = {"column": column} if column else {}
        return [{"alertname": name, "window": window, **more} for window in windows]

    def doubtful(low: int, high: int) -> list[dict[str, str]]:
        counted = variable("confidence", "confidence", sure, {"low": low, "high": high})
        return [*counted, *right, *variable("outcome", "outcome", outcomes, {"right": 0, "wrong": 0})]

    def labeled(correct: int, wrong: int) -> list[dict[str, str]]:
        return [*variable("outcome", "outcome", outcomes, {"right": correct, "wrong": wrong})]

    columns = [("same", same), ("shifted", shifted), ("other", same)]
    return {
        "one of three columns drifts": (
            [each for name, rows in columns for each in variable("input", name, reference, rows)],
            expected(*told("InputDrift", "shifted")),
        ),
        "no column drifts": ([*variable("input", "same", reference, same)], expected()),
        "three scrapes say too little": ([*variable("input", "shifted", reference, shifted)], expected(minutes=2)),
        "a drift lasts": (
            [*variable("input", "shifted", reference, slow, DAY)],
            expected(*told("InputDrift", "shifted", ("1h", "1d")), minutes=DAY),
        ),
        "one loud hour": (
            _then(variable("input", "shifted", reference, shifted), 3, 2 * HOUR),
            expected(minutes=3 * HOUR),
        ),
        "answers drift": (
            [*variable("answer", "answer", reference, shifted)],
            expected(*told("AnswerDrift", "answer")),
        ),
        "the model is less sure": (
            doubtful(10, 0),
            expected(*told("AnswerDrift", "confidence"), *told("EstimatedQualityLow")),
        ),
        "the model is as sure as it was": (doubtful(1, 9), expected()),
        "labels say that fewer answers are right": (labeled(5, 5), expected(*told("QualityLow"))),
        "labels say that more answers are right": (labeled(10, 0), expected()),
    }
