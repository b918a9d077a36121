"""The files of monitoring/, as text."""

from collections.abc import Sequence
from typing import Any

from . import alerts, rules
from .settings import Monitoring


def prometheus_rules(settings: Monitoring) -> dict[str, Any]:
    """Content of rules.yml: groups of recording rules and their alerts.

    Args:
        settings: The objectives.
    """
    # One group for the model: its rules are computed one after the other for the same time, so that the evidence of a
    # day is compared with that of its last hour.
    recorded = [*rules.of_reference(), *(rule for window in rules.DRIFT for rule in rules.of_model(window))]
    alerting = [alert for window in rules.DRIFT for alert in alerts.of_model(window, settings)]
    service = group("service", rules.of_requests(settings), list(alerts.of_requests(settings)))
    return {"groups": [service, group("model", recorded, alerting)]}


def group(name: str, recorded: Sequence[rules.Rule], alerting: Sequence[alerts.Alert] = ()) -> dict[str, Any]:
    """A group of rules: they are computed one after the other, for the same time.

    Args:
        name: Its name.
        recorded: Its recording rules.
        alerting: Its alerts.
    """
    made: list[dict[str, Any]] = [
        {"record": rule.record, "expr": rule.expr} | ({"labels": rule.labels} if rule.labels else {})
        for rule in recorded
    ]
    made += [
        {"alert": alert.name, "expr": alert.expr}
        | ({"for": alert.wait} if alert.wait else {})
        | {
            "labels": {"severity": alert.severity, **alert.labels},
            "annotations": {"summary": alert.summary, "runbook": alert.runbook},
        }
        for alert in alerting
    ]
    return {"name": name, "rules": made}


def of_operator(name: str, rules: dict[str, Any]) -> dict[str, Any]:
    """A PrometheusRule, the object by which Prometheus' operator gets rules.

    Args:
        name: Its name.
        rules: Content of a file of rules.
    """
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": name},
        "spec": rules,
    }


def prometheus(settings: Monitoring) -> dict[str, Any]:
    """Content of prometheus.yml: scrapes the targets of targets.yml.

    Args:
        settings: How they are reached.
    """
    return {
        "global": {"scrape_interval": "15s", "evaluation_interval": "1m"},
        "rule_files": ["rules.yml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": ["127.0.0.1:9093"]}]}]},
        "scrape_configs": [{"job_name": "model", "file_sd_configs": [{"files": ["targets.yml"]}], **settings.scrape}],
    }


def alertmanager(settings: Monitoring) -> dict[str, Any]:
    """Content of alertmanager.yml: one message for the alerts of a version; those of less consequence are held back.

    Args:
        settings: The receivers.
    """
    same = ["job", "namespace", "release", "track"]
    return {
        "route": {
            "receiver": "ticket",
            "group_by": ["alertname", *same, "model_version"],
            "group_wait": "30s",
            "group_interval": "5m",
            "repeat_interval": "1d",
            "routes": [{"receiver": "page", "matchers": ['severity="page"'], "repeat_interval": "4h"}],
        },
        "inhibit_rules": [
            {
                "source_matchers": ['severity="page"'],
                "target_matchers": ['severity="ticket"'],
                "equal": ["alertname", *same],
            },
            {
                "source_matchers": ['window="1h"'],
                "target_matchers": ['window="1d"'],
                "equal": ["alertname", "column", *same, "model_version"],
            },
        ],
        "receivers": settings.receivers,
    }


def yaml_text(content: dict[str, Any], source: str = "conf/monitoring.yaml") -> str:
    """YAML with expressions over several lines as they are.

    Args:
        content: The content.
        source: The configuration that it is written from.
    """
    import yaml

    class Dumper(yaml.SafeDumper):
        """Block style, indented lists, and lines as they are."""

        def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
            super().increase_indent(flow, False)

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        style = "|" if "\n" in value else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    head = f"# Written by `make monitoring`: change {source} instead, and run it again.\n"
    return head + str(yaml.dump(content, Dumper=Dumper, sort_keys=False, width=10**6, allow_unicode=True))
