"""Commands: `python -m <package> COMMAND`; `--help` lists them. Add a command of your own as a line of this table."""

from .harness.core.commands import run

COMMANDS = {
    "schema": "harness.preparation.schema_inference",
    "sweep": "harness.sweep.main",
    "log": "harness.tracking.log",
    "ci": "harness.automation.ci",
    "predict": "harness.batch.predict",
    "serve": "service",
    "lineage": "harness.lineage",
    "registry": "harness.release.registry",
    "bento": "harness.packaging.bento",
    "image": "harness.packaging.image",
    "savedmodel": "harness.packaging.savedmodel",
    "retrain": "harness.automation.retrain",
}

if __name__ == "__main__":
    run(COMMANDS)
