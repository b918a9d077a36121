"""What `make monitoring` writes: consistent with names, runbook, and Grafana's rules."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from my_experiment.harness.core.errors import UserError
from my_experiment.harness.monitoring import alerts, panels, rules, rules_tests
from my_experiment.harness.monitoring.settings import Monitoring, monitoring
from my_experiment.harness.monitoring.write import texts
from my_experiment.harness.serving import metrics
from support import ROOT

GRAFANA = re.compile(r"\$(datasource|job|release|track|column|__rate_interval)\b")


@pytest.fixture
def settings(workspace: Path) -> Monitoring:
    return monitoring()


@pytest.fixture
def dashboard(settings: Monitoring) -> Any:
    return json.loads(texts(settings)[Path("monitoring/dashboard.json")])


def all_alerts(settings: Monitoring) -> list[alerts.Alert]:
    return [
        *alerts.of_requests(settings),
        *(alert for window in rules.DRIFT for alert in alerts.of_model(window, settings)),
    ]


def drawn(dashboard: Any) -> Iterator[Any]:
    yield from (panel for panel in dashboard["panels"] if panel["type"] != "row")


def test_committed_files_are_what_is_written(settings: Monitoring) -> None:
    for path, text in texts(settings).items():
        assert (ROOT / path).read_text(encoding="utf-8") == text, f"{path} is stale: run `make monitoring`"


def test_each_alert_has_a_paragraph_of_the_runbook_and_each_paragraph_an_alert(settings: Monitoring) -> None:
    page = (ROOT / alerts.RUNBOOK).read_text(encoding="utf-8")
    paragraphs = re.findall(r"^## (\w+)$", page, re.M)
    assert sorted(paragraphs) == sorted({alert.name for alert in all_alerts(settings)})
    for alert in all_alerts(settings):
        assert alert.runbook == f"docs/runbook.md#{alert.name.lower()}"
    for paragraph in re.split(r"^## ", page, flags=re.M)[1:]:
        assert all(word in paragraph for word in ("**Meaning.**", "**Look at.**", "**Do.**")), paragraph[:30]


def test_each_alert_fires_in_a_test_and_each_metric_is_read(settings: Monitoring) -> None:
    tests = yaml.safe_dump(rules_tests.content(settings))
    read = "".join(text for path, text in texts(settings).items() if path.name in ("rules.yml", "dashboard.json"))
    for alert in all_alerts(settings):
        assert f'alertname="{alert.name}"' in tests, alert.name
    for name in (*metrics.COUNTERS, *metrics.GAUGES):
        assert re.search(rf"\b{name}\b", read), f"nothing reads {name}"


def test_rules_keep_the_labels_by_which_a_canary_is_told(settings: Monitoring) -> None:
    for expression in re.findall(r"by \(([^)]*)\) \(", texts(settings)[Path("monitoring/rules.yml")]):
        assert "job" in expression and ("track" in expression or expression == "job, namespace"), expression


def test_the_dashboard_is_as_grafana_writes_it(dashboard: Any) -> None:
    """A round trip through the typed schema loses fields that it does not know."""
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    register_default_plugins()
    assert json.loads(json.dumps(Dashboard.from_json(dashboard), cls=JSONEncoder)) == dashboard


def test_lint_of_the_dashboard(dashboard: Any) -> None:
    """The rules of Grafana's dashboard-linter."""
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert {"job", "release", "track"} <= set(variables)
    titles = [panel["title"] for panel in drawn(dashboard)]
    assert len(titles) == len(set(titles))
    assert len({panel["id"] for panel in drawn(dashboard)}) == len(titles)
    for panel in drawn(dashboard):
        name = panel["title"]
        assert panel["datasource"]["uid"] == "$datasource", name
        assert panel["fieldConfig"]["defaults"]["unit"], name
        assert len(panel["description"]) > 25 and panel["description"].endswith("."), name
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == "$datasource", name
            assert 'job=~"$job"' in target["expr"], name
            assert not re.search(r"\[\d+[smhd]", target["expr"]), f"{name}: a fixed interval"
            assert "$" not in GRAFANA.sub("", target["expr"]), f"{name}: an unknown variable"
            assert target["legendFormat"], name


def test_panels_do_not_overlap_and_rows_are_full(dashboard: Any) -> None:
    cells: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        own = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not own & cells, panel["title"]
        cells |= own
    assert len(cells) == 24 * (1 + max(y for _, y in cells)), "a gap"


def test_the_estimate_says_what_it_cannot_see(settings: Monitoring) -> None:
    (quality,) = (panel for row in panels.rows(settings).values() for panel in row if panel.title == "Quality")
    assert "not" in quality.text and "concept drift" in quality.text


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "latency: 0.1",
            "latency: 0.2",
            "monitoring.latency: a bucket of the service's histogram is expected: 0.0005, ",
        ),
        ("name: page", "name: pages", "monitoring.receivers: a receiver named page is missing"),
        ("psi: 0.1", "psy: 0.1", "monitoring.psy: unknown key; did you mean 'psi'?"),
        ("availability: 0.999", "availability: 99.9", "monitoring.availability: input should be less than 1, got 99.9"),
    ],
)
def test_wrong_settings_are_named(workspace: Path, old: str, new: str, told: str) -> None:
    file = Path("conf/monitoring.yaml")
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(UserError) as error:
        monitoring()
    assert "conf/monitoring.yaml" in str(error.value) and told in str(error.value)
