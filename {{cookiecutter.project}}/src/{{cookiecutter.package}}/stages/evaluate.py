"""Stage `evaluate`: measures the exported ONNX model, the one that ships, on the test split."""

import json

import numpy as np

from ..harness import evaluation, prepared
from ..harness import targets as harness_targets
from ..harness.core import config, errors, stages
from ..harness.core.paths import HISTORY, MODELS, PLOTS, REPORTS
from ..harness.evaluation import report
from ..harness.evaluation.settings import Evaluate


def main() -> None:
    """Reads models/ and data/prepared, writes reports/ and models/page.json and logs the run to MLflow."""
    settings = config.load("evaluate", Evaluate)
    # Here, not above: the stage `config` reads this module's schema and needs none of them.
    import pandas as pd

    from ..harness.evaluation import card, plots
    from ..harness.exported import inference
    from ..harness.tracking import log

    manifest = prepared.manifest()
    target, modality = harness_targets.target(manifest), prepared.modality(manifest)
    evaluator, presenter = evaluation.evaluator(manifest), evaluation.presenter(manifest)
    description = json.loads((MODELS / "model.json").read_text(encoding="utf-8"))
    data = json.loads((REPORTS / "data.json").read_text(encoding="utf-8"))
    history = pd.read_csv(HISTORY)
    targets = prepared.targets("test")
    if not len(targets):
        raise errors.UserError("the test split is empty: add examples or raise prepare.test")
    outputs = inference.predict(MODELS / "model.onnx", modality.feeds("test"))
    if bad := int((~np.isfinite(outputs)).any(1).sum()):
        raise errors.UserError(
            f"the model's answer is no finite number for {bad} of {len(targets)} test examples: look for extreme "
            "values in their inputs"
        )
    PLOTS.mkdir(parents=True, exist_ok=True)
    found = evaluator.evaluate(outputs, targets, prepared.targets("train"), manifest, description, settings, PLOTS)
    plots.learning_curves(history, target.METRIC, PLOTS / "learning_curves.png")
    worst = presenter.worst(found.worst, found.titles, found.total, PLOTS)
    report.write_json({name: report.rounded(metric["value"]) for name, metric in found.metrics.items()}, "metrics")
    # In a file of their own: `dvc metrics diff` is a table that people read.
    intervals = {
        n: [report.rounded(m["low"]), report.rounded(m["high"])] for n, m in found.metrics.items() if "low" in m
    }
    report.write_json(intervals, "intervals")
    shipped = report.shown(targets, manifest, settings.shipped)
    content = {"examples": shipped, **presenter.form(config.read()["data"], manifest)}
    # One line: it is sent to browsers.
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, allow_nan=False)
    (MODELS / "page.json").write_text(text + "\n", encoding="utf-8")
    text = card.model_card(found, worst, history, manifest, description, data, config.read(), settings)
    (REPORTS / "model_card.md").write_text(text, encoding="utf-8")
    log.log_or_warn()


if __name__ == "__main__":
    stages.run_stage("evaluate", main)
