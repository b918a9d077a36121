"""Stage `prepare`: reads the data source, checks and splits the examples, writes them for memory-mapped reading."""

from ..harness import preparation
from ..harness.contracts import Splits
from ..harness.core import config, stages
from ..harness.preparation.settings import Prepare
from ..harness.preparation.splits import write_report


def main() -> None:
    """Reads the source in `data`, writes data/prepared and reports/data.json."""
    settings = config.load("prepare", Prepare)
    source = config.instantiate(config.read()["data"])
    if source.path is not None:
        config.refuse_untracked(source.path, "prepare", "data.path", "data/raw/")
    write_report(preparation.write(source, Splits(**settings.model_dump())))


if __name__ == "__main__":
    stages.run_stage("prepare", main)
