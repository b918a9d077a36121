"""Stage `robustness`: changes test examples, at random and by attacks, and asks the exported model again."""

from ..harness.core import config, stages


def main() -> None:
    """Writes reports/robustness/, by the function that section `robustness` names."""
    config.instantiate(config.read()["robustness"])


if __name__ == "__main__":
    stages.run_stage("robustness", main)
