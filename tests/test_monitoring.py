"""Rules, alerts and dashboard in the real Prometheus and Alertmanager."""

import json
import math
import random
import re
import signal
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from certificates import authority
from clusters import wait_until
from conftest import TEMPLATE, BakedProject, edit, execute, free_port
from loop import ask, label, rows
from test_service import serving
from watching import STEP, Watch, watching

MONITORING = TEMPLATE / "monitoring"
RULES = yaml.safe_load((MONITORING / "rules.yml").read_text(encoding="utf-8"))
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def project(bake: Callable[..., BakedProject]) -> BakedProject:
    return bake(scope="production", deploy="ansible")


def recorded(name: str) -> str:
    """The expression of a recording rule."""
    (found,) = (r["expr"] for group in RULES["groups"] for r in group["rules"] if r.get("record") == name)
    return str(found)


def test_a_changed_objective_is_written_and_until_then_a_test_says_so(
    project: BakedProject, copy: Callable[[BakedProject], BakedProject], tools: Path
) -> None:
    project = copy(project)
    tests = "src/my_experiment/tests"
    test = ("python", "-m", "pytest", "-q", f"{tests}/test_monitoring.py", f"{tests}/test_delivery.py")
    settings = project.path / "conf/monitoring.yaml"
    settings.write_text(settings.read_text().replace("availability: 0.999 ", "availability: 0.99 "))
    stale = project.run(*test, check=False)
    assert stale.returncode == 1 and "rules.yml is stale: run `make monitoring`" in stale.stdout
    told = project.run("make", "--silent", "monitoring").stdout
    assert "monitoring/rules.yml\n" in told and "monitoring/prometheus.yml: as it was\n" in told
    assert "ratio_rate1h > 14.4 * 0.01\n" in project.read("monitoring/rules.yml")
    assert "deploy/gates.yaml: as it was\n" in told
    edit(project, "conf/delivery.yaml", "tolerable: 0.01,", "tolerable: 0.02,")
    stale = project.run(*test, check=False)
    assert stale.returncode == 1 and "gates.yaml is stale: run `make monitoring`" in stale.stdout
    assert project.run("make", "--silent", "gates").stdout == "deploy/gates.yaml\n"
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


def size(production: list[int], reference: list[int]) -> float:
    """PSI, as the drift room defines it."""
    p, q = ((np.array(each) + 0.5) / np.sum(np.array(each) + 0.5) for each in (production, reference))
    return float(np.sum((p - q) * np.log(p / q)))


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
        assert got["psi", number] == pytest.approx(size(*counts), abs=1e-9)


def test_of_thirty_columns_the_one_that_drifts_alarms_alone(tools: Path, tmp_path: Path) -> None:
    numbers = np.random.default_rng(0)
    series = []
    for column in range(30):
        shares = np.full(10, 0.1) if column != 17 else np.linspace(0.02, 0.18, 10)
        counted = np.cumsum(numbers.multinomial(80, shares, 12), 0)
        for bin, totals in enumerate(counted.T):
            labels = f'{{job="model",model_version="v",kind="input",column="c{column}",bin="{bin}"}}'
            series.append({"series": f"model_reference_rows{labels}", "values": "100x12"})
            series.append({"series": f"model_rows_total{labels}", "values": " ".join(map(str, [0, *totals]))})
    expected = [{"labels": '{column="c17", window="1h"}', "value": 1}]
    asked = {"expr": "count by (column, window) (ALERTS)", "eval_time": "1h", "exp_samples": expected}
    test = {"interval": "5m", "input_series": series, "promql_expr_test": [asked]}
    content = {"rule_files": [str(MONITORING / "rules.yml")], "evaluation_interval": "1h", "tests": [test]}
    (tmp_path / "test.yml").write_text(yaml.safe_dump(content))
    execute(tools / "promtool", "test", "rules", "test.yml", cwd=tmp_path)


class Replica:
    """A process of the real service.

    Attributes:
        port: Where it answers.
        asked: Number of rows that it was asked for since it started.
        client: A client, while it runs.
    """

    client: httpx.Client

    def __init__(self, project: BakedProject, folder: Path) -> None:
        self.project, self.folder, self.port, self.asked = project, folder, free_port(), 0
        self.running = ExitStack()
        self.options, self.env = list[str | Path](), dict[str, str]()
        self.key = ""
        self.verify: ssl.SSLContext | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        served = serving(
            self.project.path,
            self.folder,
            *("python", "-m", "my_experiment", "serve", *map(str, self.options)),
            env={"SERVICE_FEEDBACK": "on", "SERVICE_LOG": str(self.folder / "log"), **self.env},
            end=signal.SIGTERM,
            port=self.port,
            verify=self.verify,
        )
        self.client, self.asked = self.running.enter_context(served), 0
        self.client.headers.update({"authorization": f"Bearer {self.key}"} if self.key else {})

    def guard(self) -> dict[str, Any]:
        """Gives it a key and a certificate; gives what Prometheus needs to scrape it."""
        self.folder.mkdir()
        issuer = authority(self.folder, "team")
        certificate, key = issuer.issue("service")
        self.options = ["--ssl-certfile", certificate, "--ssl-keyfile", key]
        self.verify = ssl.create_default_context(cafile=issuer.file)
        self.env = {"SERVICE_KEYS": str(self.folder / "keys.yaml")}
        roles = (word for role in ("predict", "feedback", "metrics") for word in ("--role", role))
        made = self.project.run(
            *("python", "-m", "my_experiment", "keys", "new", "all", *roles), env={"PYTHONPATH": "src", **self.env}
        )
        (self.key,) = re.findall(r"[\w-]{43}", made.stdout)
        (self.folder / "key").write_text(self.key)
        return {
            "authorization": {"credentials_file": str(self.folder / "key")},
            "tls_config": {"ca_file": str(issuer.file)},
        }

    def stop(self) -> None:
        self.running.close()

    def ask(self, table: list[dict[str, Any]]) -> None:
        """Asks for rows, and tells the actual value of the first one."""
        label(self.client, ask(self.client, table)[:1])
        self.asked += len(table)


class Fleet:
    """A service of two replicas, each with half of the rows, and a guarded one of one replica that has all of them."""

    def __init__(self, project: BakedProject, folder: Path) -> None:
        self.replicas = [Replica(project, folder / name) for name in ("single", "a", "b")]
        self.single, *self.pair = self.replicas
        self.seed = 0
        # As docs/keys.md says; the replicas do without.
        edit(project, "conf/monitoring.yaml", "scrape: {}", f"scrape: {json.dumps(self.single.guard())}")
        project.run("python", "-m", "my_experiment", "monitoring", env={"PYTHONPATH": "src"})
        self.monitoring = project.path / "monitoring"

    def targets(self) -> list[tuple[str, dict[str, str]]]:
        pair = [(replica.address, {"release": "r2", "track": "canary"}) for replica in self.pair]
        return [*pair, (self.single.address, {"release": "r1", "track": "stable", "__scheme__": "https"})]

    def ask(self, seconds: int, shift: float = 0.0) -> None:
        """Asks both services for 32 rows a second: from 64 on, a sample would be counted."""
        for _ in range(2 * seconds):
            begun = time.monotonic()
            self.seed += 1
            table = rows(16, self.seed, shift)
            self.single.ask(table)
            self.pair[self.seed % 2].ask(table)
            time.sleep(max(0, begun + 0.5 - time.monotonic()))  # the rate of these clients

    def scraped(self, watch: Watch) -> bool:
        """Whether Prometheus has seen all rows since each replica started."""
        asked = {replica.address: replica.asked for replica in self.replicas}
        counted = watch.query('sum by (instance) (model_rows_total{column="x"})')
        return {each["metric"]["instance"]: float(each["value"][1]) for each in counted} == asked

    def stop(self) -> None:
        for replica in self.replicas:
            replica.stop()


@pytest.fixture(scope="module")
def fleet(
    table_project: BakedProject,
    copy: Callable[[BakedProject], BakedProject],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Fleet]:
    fleet = Fleet(copy(table_project), tmp_path_factory.mktemp("fleet"))
    try:
        with ThreadPoolExecutor() as together:
            list(together.map(Replica.start, fleet.replicas))
        yield fleet
    finally:
        fleet.stop()


def evaluate(watch: Watch) -> None:
    """Waits until all rules have been evaluated of what is scraped now, in both services."""
    *_, last = (rule["record"] for group in RULES["groups"] for rule in group["rules"] if "record" in rule)
    now = time.time()
    wait_until(lambda: len(watch.query(f"timestamp({last}) > {now}")) == 2, "rules are evaluated")


@pytest.fixture(scope="module")
def watch(fleet: Fleet, tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watch]:
    """Both services, watched, after some seconds of rows as in training, and of requests that are none."""
    with watching(tmp_path_factory.mktemp("watch"), tools, fleet.targets(), fleet.monitoring) as watch:
        wait_until(lambda: watch.value("sum(up)") == 3, "all are scraped")
        for replica in fleet.replicas:
            assert replica.client.post("/predict", content=b"[").status_code >= 400
            assert replica.client.get("/nothing").status_code == 404
        fleet.ask(4)
        wait_until(lambda: fleet.scraped(watch), "all rows are scraped")
        evaluate(watch)
        yield watch


def expressions() -> dict[str, str]:
    """Where an expression stands -> the expression: of panels and rules."""
    found = {}
    chosen = {"$job": "model", "$release": ".*", "$track": ".*", "$column": "x", "$__rate_interval": "1m"}
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            text = target["expr"]
            if "rollout:" in text:  # recorded by the gates of a delivery
                continue
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


def drift_is_scraped(watch: Watch) -> float:
    """When so many drifted rows of the stable release were scraped that they are evidence, in seconds since 1970."""
    of = '{track="stable",kind="input",column="x"}'
    known = {each["metric"]["bin"]: int(each["value"][1]) for each in watch.query(f"model_reference_rows{of}")}
    scrapes: dict[float, dict[str, int]] = {}
    for each in watch.query(f"model_rows_total{of}[10m]"):
        for at, count in each["values"]:
            scrapes.setdefault(float(at), {})[each["metric"]["bin"]] = int(count)
    limit = 3 + math.log10(len(watch.query('model:drift:evidence1h{track="stable"}')))
    for at, scrape in sorted(scrapes.items()):
        counts = [scrape[bin] for bin in known], [*known.values()]
        if exact(*counts) > limit and size(*counts) > 0.1:
            return at
    raise AssertionError(scrapes)


def test_a_planted_drift_reaches_people(fleet: Fleet, watch: Watch) -> None:
    """Checks 7 and 8."""
    assert watch.alerts("InputDrift") == []
    first = fleet.pair[0]
    first.stop()
    first.start()
    resets = 'sum(resets(model_rows_total{track="canary",column="x"}[1m]))'
    wait_until(lambda: (watch.value(resets) or 0) > 0, "the restart is seen")
    fleet.ask(4, shift=1.5)

    def told() -> set[str]:
        return {each["labels"]["track"] for each in watch.alerts("InputDrift")}

    wait_until(lambda: told() == {"stable", "canary"}, "a message of both")
    version = json.loads(fleet.single.project.read("models/model.json"))["sha256"][:12]
    for alert in watch.alerts("InputDrift"):
        assert alert["labels"]["column"] == "x" and alert["labels"]["model_version"] == version
        assert f"model {version} of model, release r" in alert["annotations"]["summary"]
        assert "values of x are" in alert["annotations"]["summary"]
        assert alert["annotations"]["runbook"] == "docs/runbook.md#inputdrift"
    begun = min(each["startsAt"] for each in watch.alerts("InputDrift") if each["labels"]["track"] == "stable")
    assert datetime.fromisoformat(begun).timestamp() - drift_is_scraped(watch) <= 3 * STEP

    wait_until(lambda: fleet.scraped(watch), "all rows are scraped")
    evaluate(watch)
    found = watch.query('model:drift:evidence1h{kind="input",column="x"}')
    evidence = {each["metric"]["track"]: float(each["value"][1]) for each in found}
    assert evidence["canary"] == pytest.approx(evidence["stable"], rel=0.05)


def metric(client: httpx.Client, name: str) -> float:
    """The sum of a metric over its labels."""
    found = re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", client.get("/metrics").text, re.M)
    return sum(map(float, found))


def test_wrong_feedback_is_refused_in_one_line_or_counted(fleet: Fleet) -> None:
    """Check 15."""
    client, before = fleet.single.client, metric(fleet.single.client, "model_feedback_total")
    (known, *_) = ask(client, rows(1, 9999))
    unknown = {"id": "0" * 32, "actual": "low"}
    assert label(client, [unknown] * 250) == ["unmatched"] * 250
    for body, status in (
        (json.dumps({"feedback": [known | {"actual": "none"}]}), 400),
        (json.dumps({"feedback": [known | {"actual": float("nan")}]}), 400),
        (json.dumps({"feedback": [known | {"index": 1}]}), 400),
        (json.dumps({"feedback": [unknown] * 10_000}), 413),
        (json.dumps({"feedback": "low"}), 400),
        ("[", 400),
        ("", 400),
    ):
        answer = client.post("/feedback", content=body, headers={"content-type": "application/json"})
        assert answer.status_code == status and "\n" not in answer.json()["error"], answer.text
    assert client.post("/feedback", content=b"x").status_code == 415
    assert metric(client, "model_feedback_total") == before + 250
    assert label(client, [known])[0] in ("right", "wrong") and label(client, [known]) == ["repeated"]
