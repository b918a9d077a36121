"""Stage `config`: composes conf/ into params.yaml."""

import os

from ..harness import configuration
from ..harness.core import config, stages


def main() -> None:
    """Writes params.yaml, or checks the one that `dvc exp run` composed."""
    if "DVC_EXP_NAME" not in os.environ:  # `dvc repro` does not compose conf/ (treeverse/dvc#10750)
        composed = config.compose()
        configuration.refuse_hand_edit(composed)
        configuration.check(composed)  # before writing: an invalid conf/ leaves the last valid params.yaml in place
        configuration.write(composed)
    else:
        configuration.check(config.PARAMS.read_text(encoding="utf-8"))


if __name__ == "__main__":
    stages.run_stage("config", main)
