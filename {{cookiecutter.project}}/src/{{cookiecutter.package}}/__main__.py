"""Commands: `python -m <package> COMMAND`. A new command is a row in the table."""

from .harness.core import commands

# Command -> module with a click command called `command`, and the line that `--help` shows.
COMMANDS = {
    "schema": ("harness.preparation.schema_inference", "Infer the schema of a table from its rows."),
    "sweep": ("harness.sweep.main", "Train with many parameters; write the best as an experiment."),
    "log": ("harness.tracking.log", "Log the results on disk to MLflow."),
    "ci": ("harness.automation.ci", "Check that a commit's results are reproducible, or report their changes."),
    "serve": ("harness.serving.serve", "Serve the model on http://127.0.0.1:3000, in one process."),
    "predict": ("harness.batch.predict", "Predict a folder of pictures, or the rows of a file."),
    "registry": ("harness.release.registry", "Register, promote, roll back and list versions of the model."),
    "lineage": ("harness.lineage", "Find all links of a model (commit, data, run, version, Bento, image) from one."),
    "bento": ("harness.packaging.bento", "Build the Bento of a registered version."),
    "image": ("harness.packaging.image", "Build, or push, the container image of the service."),
    "savedmodel": ("harness.packaging.savedmodel", "Export the model for TensorFlow Serving, or as a Keras file."),
    "retrain": ("harness.automation.retrain", "Retrain on new data; propose a branch if the model passes the gates."),
}

if __name__ == "__main__":
    commands.run(COMMANDS)
