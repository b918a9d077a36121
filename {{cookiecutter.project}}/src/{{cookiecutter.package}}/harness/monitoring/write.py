"""The command `monitoring`: writes the files of monitoring/, and the same rules for a cluster."""

from pathlib import Path

import click

from ..core import files as disk
from . import dashboard, files, rules_tests
from .settings import Monitoring, monitoring

FOLDER = Path("monitoring")
COMPONENT = Path("kubernetes/components/alerts")  # in projects that are deployed to a cluster


def texts(settings: Monitoring) -> dict[Path, str]:
    """Path of each file -> its text.

    Args:
        settings: The objectives, how the service is reached, and whom alerts are sent to.
    """
    rules = files.prometheus_rules(settings)
    written = {
        "prometheus.yml": files.yaml_text(files.prometheus(settings)),
        "rules.yml": files.yaml_text(rules),
        "rules_test.yml": files.yaml_text(rules_tests.content(settings)),
        "alertmanager.yml": files.yaml_text(files.alertmanager(settings)),
        "dashboard.json": dashboard.text(settings),
    }
    paths = {FOLDER / name: text for name, text in written.items()}
    if COMPONENT.is_dir():
        paths[COMPONENT / "rules.yaml"] = files.yaml_text(files.of_operator("alerts", rules))
    return paths


@click.command()
def command() -> None:
    """Write rules, alerts and dashboard into monitoring/, from conf/monitoring.yaml."""
    for path, text in texts(monitoring()).items():
        same = path.exists() and path.read_text(encoding="utf-8") == text
        if not same:
            disk.write_text(path, text)
        print(f"{path}{': as it was' if same else ''}")
