"""Tests of the committed rules, alerts and dashboard."""

from ..harness.monitoring.settings import monitoring
from ..harness.monitoring.write import texts


def test_monitoring_is_written_from_its_configuration() -> None:
    for path, text in texts(monitoring()).items():
        assert path.read_text(encoding="utf-8") == text, (
            f"{path} is stale: run `make monitoring`, and commit what it writes"
        )
