"""Commands: `python -m <package> COMMAND`; `--help` lists them. A command of your own is one more row of this table."""

from .harness.core import commands

# Command -> its module, with a click command called `command`, and what it does in a line.
COMMANDS = {
    "schema": ("harness.preparation.schema_inference", "Infer the schema of a table from its rows."),
    "sweep": ("harness.sweep.main", "Train with many parameters, and keep the best as an experiment."),
    "log": ("harness.tracking.log", "Log the results on disk to MLflow."),
    "ci": ("harness.automation.ci", "Check that a commit's results are its own, or report what they change."),
    "serve": ("harness.serving.serve", "Serve the model on http://127.0.0.1:3000, in one process."),
    "predict": ("harness.batch.predict", "Predict a folder of pictures, or the rows of a file."),
    "registry": ("harness.release.registry", "Register, promote, roll back and list versions of the model."),
    "lineage": ("harness.lineage", "Find commit, data, run, version, Bento and image from any one of them."),
    "bento": ("harness.packaging.bento", "Build the Bento of a registered version."),
    "image": ("harness.packaging.image", "Build, or push, the container image of the service."),
    "savedmodel": ("harness.packaging.savedmodel", "Export the model for TensorFlow Serving, or as a Keras file."),
    "retrain": ("harness.automation.retrain", "Put new data through the pipeline and the gates, as a branch."),
}

if __name__ == "__main__":
    commands.run(COMMANDS)
