"""Rules, alerts and dashboard in the real Prometheus and Alertmanager."""

import json
import math
import os
import random
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from clusters import wait_until
from conftest import TEMPLATE, BakedProject, apt_unpack, execute
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from watching import STEP, Watch, watching

MONITORING = TEMPLATE / "monitoring"
RULES = yaml.safe_load((MONITORING / "rules.yml").read_text(encoding="utf-8"))
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))
BINS = [f"{bin:02}" for bin in range(10)]


@pytest.fixture(scope="session")
def tools(shared: Path) -> Path:
    """The folder of prometheus, promtool, prometheus-alertmanager and amtool."""
    programs = apt_unpack(shared / "prometheus", "prometheus", "prometheus-alertmanager")
    # Debian's Alertmanager knows its templates by their absolute paths.
    installed = Path("/usr/share/prometheus/alertmanager")
    for template in (programs.parents[1] / installed.relative_to("/")).glob("*.tmpl"):
        if not (installed / template.name).exists():
            if os.geteuid() != 0:
                pytest.skip("is not installed: prometheus-alertmanager, and only root can put its templates in place")
            installed.mkdir(parents=True, exist_ok=True)
            shutil.copy(template, installed)
    return programs


@pytest.fixture(scope="module")
def project(bake: Callable[..., BakedProject]) -> BakedProject:
    return bake(scope="production")


def recorded(name: str) -> str:
    """The expression of a recording rule."""
    (found,) = (r["expr"] for group in RULES["groups"] for r in group["rules"] if r.get("record") == name)
    return str(found)


def test_a_changed_objective_is_written_and_until_then_a_test_says_so(
    project: BakedProject, copy: Callable[[BakedProject], BakedProject], tools: Path
) -> None:
    project = copy(project)
    test = ("python", "-m", "pytest", "-q", "src/my_experiment/tests/test_monitoring.py")
    settings = project.path / "conf/monitoring.yaml"
    settings.write_text(settings.read_text().replace("availability: 0.999 ", "availability: 0.99 "))
    stale = project.run(*test, check=False)
    assert stale.returncode == 1 and "rules.yml is stale: run `make monitoring`" in stale.stdout
    told = project.run("make", "--silent", "monitoring").stdout
    assert "monitoring/rules.yml\n" in told and "monitoring/prometheus.yml: as it was\n" in told
    assert "ratio_rate1h > 14.4 * 0.01\n" in project.read("monitoring/rules.yml")
    project.run(*test)
    project.run(tools / "promtool", "test", "rules", "monitoring/rules_test.yml")


def test_the_tools_accept_the_committed_files(project: BakedProject, tools: Path) -> None:
    assert "SUCCESS" in project.run(tools / "promtool", "check", "config", "monitoring/prometheus.yml").stdout
    assert "SUCCESS" in project.run(tools / "promtool", "check", "rules", "monitoring/rules.yml").stdout
    assert "SUCCESS" in project.run(tools / "promtool", "test", "rules", "monitoring/rules_test.yml").stdout
    config = "monitoring/alertmanager.yml"
    assert "SUCCESS" in project.run(tools / "amtool", "check-config", config).stdout
    for severity in ("page", "ticket"):
        command = ("amtool", "config", "routes", "test", f"--config.file={config}", f"--verify.receivers={severity}")
        project.run(tools / command[0], *command[1:], f"severity={severity}", "alertname=QualityLow")
    project.run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "monitoring/compose.yaml")
    project.run(
        "yamllint", "--strict", "--config-data", "{extends: relaxed, rules: {line-length: disable}}", "monitoring"
    )


def log_beta(counts: list[float]) -> float:
    return sum(map(math.lgamma, counts)) - math.lgamma(sum(counts))


def exact(production: list[int], reference: list[int]) -> float:
    """The evidence, as the drift room defines it."""
    both = [p + r + 1 for p, r in zip(production, reference, strict=True)]
    apart = log_beta([p + 1 for p in production]) + log_beta([r + 1 for r in reference])
    return (apart - log_beta([1.0] * len(both)) - log_beta([float(each) for each in both])) / math.log(10)


def test_evidence_and_psi_in_promql_are_those_of_python(tools: Path, tmp_path: Path) -> None:
    """Check 4: 200 random tables, with zeros, differ by less than 0.01 digits."""
    numbers = random.Random(0)
    tables: list[list[list[int]]] = []
    for _ in range(200):
        most, bins = numbers.choice([1, 5, 50, 1000]), numbers.randint(2, 23)
        draw = [[numbers.choice([0, numbers.randint(0, most * f)]) for _ in range(bins)] for f in (1, 5)]
        tables.append(draw if len(tables) >= 20 else [[0] * bins, draw[1]])
    tests = []
    for start in range(0, 200, 5):  # promtool holds 10,000 samples at most
        series = []
        for number in range(start, start + 5):
            for bin, (p, r) in enumerate(zip(*tables[number], strict=True)):
                values = {"model:rows:increase1h": p, "model:reference:rows": r, "model:both:rows1h": p + r}
                labels = f'{{job="m",model_version="{number}",kind="input",column="c",bin="{bin}"}}'
                series += [
                    {"series": f"{name}{labels}", "values": f"{value} {value}"} for name, value in values.items()
                ]
        asked = [{"expr": name, "eval_time": "1m"} for name in ("evidence", "psi")]
        tests.append({"interval": "1m", "input_series": series, "promql_expr_test": asked})
    rules = [{"record": name, "expr": recorded(f"model:drift:{name}1h")} for name in ("evidence", "psi")]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": rules}]}))
    (tmp_path / "test.yml").write_text(yaml.safe_dump({"rule_files": ["rules.yml"], "tests": tests}))
    # No samples are expected, so that it tells all that it got.
    told = execute(tools / "promtool", "test", "rules", "test.yml", cwd=tmp_path, check=False)
    pattern = r'__name__="(\w+)"[^}]*model_version="(\d+)"\} ([-+.\dE]+)'
    got = {(name, int(n)): float(value) for name, n, value in re.findall(pattern, told.stdout + told.stderr)}
    assert len(got) == 400, told.stderr[-500:]
    assert max(abs(got["evidence", n] - exact(*table)) for n, table in enumerate(tables)) < 0.01
    for number, counts in enumerate(tables):
        p, q = ((np.array(each) + 0.5) / np.sum(np.array(each) + 0.5) for each in counts)
        assert got["psi", number] == pytest.approx(np.sum((p - q) * np.log(p / q)), abs=1e-9)


def test_of_thirty_columns_the_one_that_drifts_alarms_alone(tools: Path, tmp_path: Path) -> None:
    numbers = np.random.default_rng(0)
    series = []
    for column in range(30):
        shares = np.full(10, 0.1) if column != 17 else np.linspace(0.02, 0.18, 10)
        counted = np.cumsum(numbers.multinomial(80, shares, 12), 0)
        for bin, rows in enumerate(counted.T):
            labels = f'{{job="model",model_version="v",kind="input",column="c{column}",bin="{bin}"}}'
            series.append({"series": f"model_reference_rows{labels}", "values": "100x12"})
            series.append({"series": f"model_rows_total{labels}", "values": " ".join(map(str, [0, *rows]))})
    expected = [{"labels": '{column="c17", window="1h"}', "value": 1}]
    asked = {"expr": "count by (column, window) (ALERTS)", "eval_time": "1h", "exp_samples": expected}
    test = {"interval": "5m", "input_series": series, "promql_expr_test": [asked]}
    content = {"rule_files": [str(MONITORING / "rules.yml")], "evaluation_interval": "1h", "tests": [test]}
    (tmp_path / "test.yml").write_text(yaml.safe_dump(content))
    execute(tools / "promtool", "test", "rules", "test.yml", cwd=tmp_path)


NAMES = [f"c{number:02}" for number in range(30)]
REFERENCE = {
    **{("input", name): dict.fromkeys(BINS, 100) for name in NAMES},
    ("answer", "answer"): {"cat": 500, "dog": 500},
    ("confidence", "confidence"): dict.fromkeys(BINS, 100),
    ("outcome", "outcome"): {"right": 950, "wrong": 50},
}
# Counters that are there from the start: name -> label and value.
REST: dict[str, list[tuple[str, str]]] = {
    "service_refused_total": [("reason", each) for each in ("path", "busy", "bytes")],
    "model_predictions_total": [("label", each) for each in ("cat", "dog")],
    "model_feedback_total": [("outcome", each) for each in ("right", "wrong", "unmatched")],
    "model_log_rows_total": [("", "")],
    "model_log_dropped_total": [("reason", each) for each in ("disk", "queue")],
    "model_log_bytes_total": [("", "")],
}


class Replica:
    """A process of a service as Prometheus sees it: metrics, without a model."""

    def __init__(self, port: int = 0) -> None:
        self.registry = CollectorRegistry()
        self.server, _ = start_http_server(port, "127.0.0.1", self.registry)
        self.address = f"127.0.0.1:{self.server.server_address[1]}"
        self.metrics: dict[str, Any] = {}
        for (kind, column), reference in REFERENCE.items():
            for bin, rows in reference.items():
                self.add("model_reference_rows", rows, kind=kind, column=column, bin=bin)
                self.add("model_rows_total", 0, kind=kind, column=column, bin=bin)
        for bin in BINS:
            self.add("model_reference_right_rows", 95, bin=bin)
        self.add("model_info", 1, git_commit="c", training_key="k", mlflow_run="r")
        for name, values in REST.items():
            for label, each in values:
                self.add(name, 0, **{label: each} if label else {})
        labels = ["endpoint", "http_response_code"]
        name = "bentoml_service_request"
        self.requests = Counter(f"{name}_total", name, labels, registry=self.registry)
        self.durations = Histogram(
            f"{name}_duration_seconds", name, labels, registry=self.registry, buckets=[0.01, 0.1]
        )
        Gauge(f"{name}_in_progress", name, ["endpoint"], registry=self.registry).labels("/predict").set(1)

    def add(self, name: str, count: float, **labels: str) -> None:
        if name not in self.metrics:
            make = Counter if name.endswith("_total") else Gauge
            self.metrics[name] = make(name, name, [*labels, "model_version"], registry=self.registry)
        self.metrics[name].labels(*labels.values(), "0123456789ab").inc(count)

    def answer(self, rows: Mapping[tuple[str, str], Any]) -> None:
        """Counts rows, by bin of each variable."""
        for (kind, column), counts in rows.items():
            for bin, count in zip(REFERENCE[kind, column], counts, strict=True):
                self.add("model_rows_total", float(count), kind=kind, column=column, bin=bin)
        for name, values in REST.items():
            for label, each in values:
                self.add(name, 0 if "drop" in name else 1, **{label: each} if label else {})
        for code in ("200", "400"):
            self.requests.labels("/predict", code).inc()
            self.durations.labels("/predict", code).observe(0.001)

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Fleet:
    """A service of two replicas, each with half of the rows, and one of one replica that has all of them."""

    def __init__(self) -> None:
        self.pair, self.single = [Replica(), Replica()], Replica()
        self.numbers = np.random.default_rng(0)
        self.turn = 0

    def targets(self) -> list[tuple[str, dict[str, str]]]:
        pair = [(replica.address, {"release": "r2", "track": "canary"}) for replica in self.pair]
        return [*pair, (self.single.address, {"release": "r1", "track": "stable"})]

    def ask(self, rows: int, drifted: str = "") -> None:
        """Answers rows in both services."""
        drawn = {}
        for (kind, column), reference in REFERENCE.items():
            shares = np.array([*reference.values()]) / sum(reference.values())
            if column == drifted:
                shares = np.linspace(0, 0.2, len(shares))
            drawn[kind, column] = self.numbers.multinomial(rows, shares)
        self.single.answer(drawn)
        self.pair[self.turn % 2].answer(drawn)
        self.turn += 1

    def restart(self) -> None:
        port = self.pair[0].server.server_address[1]
        self.pair[0].stop()
        self.pair[0] = Replica(port)

    def stop(self) -> None:
        for replica in (*self.pair, self.single):
            replica.stop()


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    fleet = Fleet()
    yield fleet
    fleet.stop()


@pytest.fixture(scope="module")
def watch(fleet: Fleet, tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watch]:
    """Both services, watched, after enough scrapes of rows as in training."""
    with watching(tmp_path_factory.mktemp("watch"), tools, fleet.targets()) as watch:
        scraped = 'min(count_over_time(model_rows_total{column="c00",bin="00"}[1h]))'
        for scrapes in range(1, 9):
            wait_until(partial(at_least, watch, scraped, scrapes), f"{scrapes} scrapes")
            fleet.ask(40)
        wait_until(lambda: len(watch.query("model:drift:psi1d")) == 2 * len(REFERENCE), "rules are evaluated")
        yield watch


def at_least(watch: Watch, expression: str, value: float) -> bool:
    return (watch.value(expression) or 0) >= value


def expressions() -> dict[str, str]:
    """Where an expression stands -> the expression: of panels and rules."""
    found = {}
    chosen = {"$job": "model", "$release": ".*", "$track": ".*", "$column": "c00", "$__rate_interval": "1m"}
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            text = target["expr"]
            for name, value in chosen.items():
                text = text.replace(name, value)
            found[f"panel {panel['title']} {target['refId']}"] = text
    for group in RULES["groups"]:
        found |= {f"rule {r['record']}": r["expr"] for r in group["rules"] if "record" in r}
    return found


def without_data(watch: Watch, asked: Mapping[str, str]) -> list[str]:
    return [where for where, expression in asked.items() if not watch.query(expression)]


def test_every_expression_of_panels_and_rules_has_data(watch: Watch) -> None:
    """Check 9."""
    assert len(expressions()) > 70
    assert without_data(watch, expressions()) == []
    names = re.compile(r"\b(?:service|model|bentoml_service)[a-z_]*[_:][a-z0-9_:]+\b")
    for group in RULES["groups"]:
        for rule in group["rules"]:
            read = set(names.findall(rule["expr"])) - {"model_version"} if "alert" in rule else set()
            assert without_data(watch, {name: name for name in read}) == [], rule


def test_a_renamed_metric_is_noticed(watch: Watch) -> None:
    asked = expressions()
    metrics = {
        name for text in asked.values() for name in re.findall(r"\b(?:service|model|bentoml_service)_[a-z_]+\b", text)
    }
    metrics -= {"model_version"}
    assert len(metrics) >= 13
    for name in metrics:
        renamed = {w: re.sub(rf"\b{name}\b", f"{name}_new", text) for w, text in asked.items() if name in text}
        assert without_data(watch, renamed), f"nothing would notice that {name} has another name"


def test_a_planted_drift_reaches_people(fleet: Fleet, watch: Watch) -> None:
    """Check 7."""
    assert watch.alerts("InputDrift") == []
    fleet.restart()
    resets = 'sum(resets(model_rows_total{track="canary",column="c07"}[1m]))'
    wait_until(lambda: (watch.value(resets) or 0) > 0, "the restart is seen")
    fleet.ask(40)  # rows of the replica that has begun anew
    for _ in range(20):
        fleet.ask(40, drifted="c07")

    def told() -> set[str]:
        return {each["labels"]["track"] for each in watch.alerts("InputDrift")}

    wait_until(lambda: told() == {"stable", "canary"}, "a message of both")
    for alert in watch.alerts("InputDrift"):
        assert alert["labels"]["column"] == "c07" and alert["labels"]["model_version"] == "0123456789ab"
        assert "model 0123456789ab of model, release r" in alert["annotations"]["summary"]
        assert "values of c07 are" in alert["annotations"]["summary"]
        assert alert["annotations"]["runbook"] == "docs/runbook.md#inputdrift"
    # The rows were all scraped at a time; the alert fires at most three evaluations later.
    (series,) = watch.query('model_rows_total{track="stable",column="c07",bin="09"}[2m]')
    times = [float(at) for at, rows in series["values"] if rows == series["values"][-1][1]]
    (alert,) = {
        each["startsAt"]: each for each in watch.alerts("InputDrift") if each["labels"]["track"] == "stable"
    }.values()
    evaluations = (datetime.fromisoformat(alert["startsAt"]).timestamp() - times[0]) / STEP
    assert evaluations <= 3
