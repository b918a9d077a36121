"""Stage `evaluate`: tests the exported model on the test split."""

from ..harness import evaluation, targets
from ..harness.core import config, files, stages
from ..harness.core.paths import PLOTS, REPORTS
from ..harness.evaluation import card, plots, report, workspace
from ..harness.evaluation.settings import Evaluate
from ..harness.tracking import log


def main() -> None:
    """Writes metrics, plots, model card and models/page.json; logs to MLflow."""
    settings = config.load("evaluate", Evaluate)
    inputs = workspace.read()
    test = workspace.predict(inputs)
    target = targets.target(inputs.manifest)
    evaluator, presenter = evaluation.evaluator(inputs.manifest), evaluation.presenter(inputs.manifest)

    PLOTS.mkdir(parents=True, exist_ok=True)
    results = evaluator.evaluate(test, settings, PLOTS)
    plots.learning_curves(inputs.history, target.METRIC, PLOTS / "learning_curves.png")
    worst = presenter.worst(results.worst.rows, results.worst.captions, results.worst.total, PLOTS)

    report.write_metrics(results.estimates)
    report.write_page(test, inputs.parameters["data"], settings.shipped)
    files.write_text(REPORTS / "model_card.md", card.model_card(inputs, results, worst, settings))
    log.log_or_warn()


if __name__ == "__main__":
    stages.run_stage("evaluate", main)
