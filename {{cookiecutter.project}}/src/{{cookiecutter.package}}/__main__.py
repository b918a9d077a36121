"""The table of commands, run as `python -m <package> COMMAND`.

To add a command of your own, add a row.
"""

from .harness.core import commands

# Name -> module below the package, which defines the click command `command`, and its help in one line.
COMMANDS = {
    "schema": ("harness.preparation.schema_inference", "Infer the schema of a table from its rows."),
    "sweep": ("harness.sweep.main", "Search hyperparameters, and save the best ones as an experiment."),
    "log": ("harness.tracking.log", "Log the results on disk to MLflow."),
    "card": ("harness.evaluation.html", "Write the model card as one HTML file."),
    "ci": ("harness.automation.ci", "Check that a commit reproduces its results, or report what they change."),
    "serve": ("harness.serving.serve", "Serve the model on http://127.0.0.1:3000, in one process."),
    "keys": ("harness.protection.keys", "Make, list and revoke keys of the service."),
    "predict": ("harness.batch.predict", "Predict the pictures of a folder, or the rows of a file."),
    "registry": ("harness.release.registry", "Register, promote, roll back and list versions of the model."),
    "lineage": ("harness.lineage", "Trace a model: commit, data, run, version, Bento and image from any of these."),
    "bento": ("harness.packaging.bento", "Build the Bento of a registered version; sign or verify a Bento."),
    "image": ("harness.packaging.image", "Build or push the container image of the service."),
    "provenance": ("harness.packaging.provenance", "Verify from what an image was built, and by whom."),
    "licenses": ("harness.packaging.licenses", "Check the licenses of the locked packages."),
    "scan": ("harness.packaging.secret_scan", "Look for secrets in a Bento and its image."),
    "savedmodel": ("harness.packaging.savedmodel", "Export the model for TensorFlow Serving, or as a Keras file."),
    "audit": ("harness.audit.verify", "Verify the audit log: who did what."),
    "collect": ("harness.feedback.collect", "Add labeled examples from production to the data."),
    "erase": ("harness.feedback.erase", "Erase a person from the data, and list where it still is."),
    "monitoring": ("harness.monitoring.write", "Write rules, alerts and dashboard into monitoring/."),
    "gates": ("harness.delivery.write", "Write the gates of a rollout into deploy/gates.yaml."),
    "delivery": ("harness.delivery.check", "Check the files of a delivery."),
    "production": ("harness.feedback.production", "Report on production: drift and quality by week."),
    "release": ("harness.delivery.release", "Write deploy/release.yaml for a version whose image is pushed."),
    "deploy": ("harness.delivery.deploy", "Bring the committed release to production, by its steps."),
    "status": ("harness.delivery.status", "Show champion, release and production, and how far a rollout is."),
    "abort": ("harness.delivery.abort", "End a rollout: all requests go to the stable release."),
    "undo": ("harness.delivery.undo", "Go back to the release before."),
    "compare": ("harness.delivery.compare", "Compare two models on the same requests."),
    "shadow": ("harness.delivery.shadow", "Ask a new release what was asked last, before it gets traffic."),
    "retrain": ("harness.automation.retrain", "Retrain on new data, check the gates, and propose a branch."),
}

if __name__ == "__main__":
    commands.run(COMMANDS)
