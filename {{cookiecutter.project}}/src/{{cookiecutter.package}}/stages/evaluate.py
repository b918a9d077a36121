"""Stage `evaluate`: tests the exported model on the test split."""

from ..harness import evaluation, targets
from ..harness.core import config, files, stages
from ..harness.core.paths import MODELS, PLOTS, REPORTS
from ..harness.evaluation import card, membership, names, plots, reference, report, slice_card, slices, workspace
from ..harness.evaluation.settings import Evaluate
from ..harness.exported import model
from ..harness.tracking import log, outcome, verdict


def main() -> None:
    """Writes metrics, plots, model card and the service's files in models/; logs to MLflow."""
    settings = config.load("evaluate", Evaluate)
    inputs = workspace.read()
    names.check(settings, inputs.manifest)
    target = targets.target(inputs.manifest)
    evaluator, presenter = evaluation.evaluator(inputs.manifest), evaluation.presenter(inputs.manifest)
    decision = evaluator.decide(workspace.predict(inputs, "validation"), settings.decision) if settings.decision else {}
    inputs = inputs._replace(description=model.with_decision(inputs.description, decision))
    test = workspace.predict(inputs)
    sliced = slices.measure(test, settings)
    members = membership.of_model(inputs, test, settings)
    form = presenter.form(inputs.parameters["data"], inputs.manifest)
    referred = reference.write(test, inputs.model, settings.monitored, report.private(form))

    PLOTS.mkdir(parents=True, exist_ok=True)
    results = evaluator.evaluate(test, settings, PLOTS)
    results = results._replace(
        sections=[
            *results.sections,
            *slice_card.section(sliced, PLOTS),
            *membership.section(members),
            *reference.section(referred, test),
            *presenter.anonymity(settings.quasi_identifiers),
        ]
    )
    step = card.step(inputs.parameters["train"])
    plots.learning_curves(inputs.history, target.METRIC, PLOTS / "learning_curves.png", step)
    worst = presenter.worst(results.worst.rows, results.worst.captions, results.worst.total, PLOTS)

    report.write_metrics(results.estimates)
    report.write_slices(sliced)
    report.write_membership(members)
    report.write_decision(decision)
    report.write_page(test, form, settings.shipped)
    report.write_explain(inputs.manifest, settings.fixed)
    files.write_text(REPORTS / "model_card.md", card.model_card(inputs, results, worst, settings))
    outcome.record(MODELS / "model.onnx", test.outputs, test.targets)
    log.log_or_warn()
    verdict.tell()


if __name__ == "__main__":
    stages.run_stage("evaluate", main)
