"""Stage `prepare`: reads the data source, refuses or drops what is broken, splits, writes memory-mapped data."""

import json

from ..harness import contracts, preparation
from ..harness.core import config, stages
from ..harness.core.paths import DATA_REPORT
from ..harness.preparation.settings import Prepare


def main() -> None:
    """Reads `data`, writes data/prepared and reports/data.json."""
    settings = config.load("prepare", Prepare)
    source = config.instantiate(config.read()["data"])
    if source.path is not None:
        config.refuse_untracked(source.path, "prepare", "data.path", "data/raw/")
    report = preparation.write(source, contracts.Splits(**settings.model_dump()))
    DATA_REPORT.parent.mkdir(exist_ok=True)
    DATA_REPORT.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    stages.run_stage("prepare", main)
