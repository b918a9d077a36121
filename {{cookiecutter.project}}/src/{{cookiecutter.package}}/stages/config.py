"""Stage `config`: composes conf/ into params.yaml."""

import os

from ..harness import configuration
from ..harness.core import config, stages


def main() -> None:
    """Writes params.yaml, or keeps what `dvc exp run` has just composed."""
    if "DVC_EXP_NAME" not in os.environ:  # `dvc repro`: DVC itself does not look at conf/ (treeverse/dvc#10750)
        composed = config.compose()
        configuration.refuse_hand_edit(composed)
        configuration.check(composed)  # before it is written: a bad conf/ leaves the last good params.yaml in place
        configuration.write(composed)
    configuration.check(config.PARAMS.read_text(encoding="utf-8"))


if __name__ == "__main__":
    stages.run_stage("config", main)
