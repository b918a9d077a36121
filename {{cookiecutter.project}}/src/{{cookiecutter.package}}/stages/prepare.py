"""Stage `prepare`: checks the examples of the data source and splits them."""

from ..harness import preparation
from ..harness.contracts import Splits
from ..harness.core import config, stages
from ..harness.preparation.settings import Prepare
from ..harness.preparation.splits import write_report


def main() -> None:
    """Writes data/prepared and reports/data.json from the configured source."""
    settings = config.load("prepare", Prepare)
    source = config.instantiate(config.read()["data"])
    if source.path is not None:
        config.refuse_untracked(source.path, "prepare", "data.path", "data/raw/")
    write_report(preparation.write(source, Splits(**settings.model_dump())))


if __name__ == "__main__":
    stages.run_stage("prepare", main)
