"""Stage `evaluate`: metrics, plots and model card of the exported model, the one that ships, on the test split."""

from ..harness import evaluation, targets
from ..harness.core import config, files, stages
from ..harness.core.paths import PLOTS, REPORTS
from ..harness.evaluation import card, plots, report, workspace
from ..harness.evaluation.settings import Evaluate
from ..harness.tracking import log


def main() -> None:
    """Reads models/ and data/prepared, writes reports/ and models/page.json, logs the run to MLflow."""
    settings = config.load("evaluate", Evaluate)
    earlier = workspace.read()
    test = workspace.predict(earlier)
    target = targets.target(earlier.manifest)
    evaluator, presenter = evaluation.evaluator(earlier.manifest), evaluation.presenter(earlier.manifest)

    PLOTS.mkdir(parents=True, exist_ok=True)
    results = evaluator.evaluate(test, settings, PLOTS)
    plots.learning_curves(earlier.history, target.METRIC, PLOTS / "learning_curves.png")
    worst = presenter.worst(results.worst.rows, results.worst.captions, results.worst.total, PLOTS)

    report.write_metrics(results.estimates)
    report.write_page(test, earlier.parameters["data"], settings.shipped)
    files.write_text(REPORTS / "model_card.md", card.model_card(earlier, results, worst, settings))
    log.log_or_warn()


if __name__ == "__main__":
    stages.run_stage("evaluate", main)
