"""Stage `prepare`: reads the data source, refuses or drops what is broken, splits, writes memory-mapped data."""

import json
from pathlib import Path
from typing import Annotated

from pydantic import Field, NonNegativeInt

from .. import cli, config
from ..data import prepared

REPORT = Path("reports/data.json")
Fraction = Annotated[float, Field(gt=0, lt=0.5)]


class Prepare(config.Section):
    """Section `prepare`.

    Attributes:
        seed: Another seed gives another split.
        validation: Expected fraction of the examples in the validation split.
        test: Expected fraction of the examples in the test split.
    """

    seed: NonNegativeInt
    validation: Fraction
    test: Fraction


def main() -> None:
    """Reads `data`, writes data/prepared and reports/data.json."""
    settings = config.load("prepare", Prepare)
    source = config.instantiate(config.read()["data"])
    if source.path is not None:
        config.refuse_untracked(source.path, "prepare", "data.path", "data/raw/")
    report = source.write(prepared.Splits(**settings.model_dump()))
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    cli.run_stage("prepare", main)
