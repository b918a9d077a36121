"""The command `gates`: writes deploy/gates.yaml."""

from pathlib import Path
from typing import Any

import click

from ..core import files as disk
from ..monitoring import files
from ..monitoring.settings import Monitoring, monitoring
from . import gates
from .settings import Delivery, delivery

PATH = Path("deploy/gates.yaml")


def content(settings: Delivery, objectives: Monitoring) -> dict[str, Any]:
    """Content of gates.yaml: a PrometheusRule, whose `spec` is a file of rules.

    Args:
        settings: What is accepted of a candidate.
        objectives: From when on an answer is slow.
    """
    rules = gates.of_rollout(settings.gates, objectives.latency)
    return files.of_operator("gates", {"groups": [{"interval": gates.INTERVAL, **files.group("rollout", rules)}]})


def text() -> str:
    """Text of gates.yaml, from the configuration."""
    return files.yaml_text(content(delivery(), monitoring()), "conf/delivery.yaml")


@click.command()
def command() -> None:
    """Write the gates of a rollout into deploy/gates.yaml, from conf/delivery.yaml."""
    written = text()
    same = PATH.exists() and PATH.read_text(encoding="utf-8") == written
    if not same:
        disk.write_text(PATH, written)
    print(f"{PATH}{': as it was' if same else ''}")
