"""Stage `evaluate`: measures the exported ONNX model, the one that ships, on the test split."""

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveInt

from .. import cli, config
from ..data import prepared
from .train import HISTORY, MODELS

REPORTS = Path("reports")
PLOTS = REPORTS / "plots"


class Evaluate(config.Section):
    """Section `evaluate`.

    Attributes:
        seed: Of the bootstrap.
        resamples: Number of bootstrap resamples.
        confidence: Of the metrics' intervals, between 0 and 1.
        examples: The most shown of those that the model gets most wrong.
        shipped: The most that go where the model goes, for people to try it with.
    """

    seed: NonNegativeInt
    resamples: Annotated[int, Field(ge=100)]
    confidence: Annotated[float, Field(gt=0, lt=1)]
    examples: PositiveInt
    shipped: NonNegativeInt


def main() -> None:
    """Reads models/ and data/prepared, writes reports/ and models/page.json and logs the run to MLflow."""
    settings = config.load("evaluate", Evaluate)
    # Here, not above: the stage `config` reads this module's schema and needs none of them.
    import pandas as pd

    from .. import card, inference, plots, tracking

    manifest = prepared.manifest()
    target, modality = prepared.target(manifest), prepared.modality(manifest)
    description = json.loads((MODELS / "model.json").read_text(encoding="utf-8"))
    data = json.loads((REPORTS / "data.json").read_text(encoding="utf-8"))
    history = pd.read_csv(HISTORY)
    targets = prepared.targets("test")
    if not len(targets):
        raise cli.UserError("the test split is empty: add examples or raise prepare.test")
    outputs = inference.predict(MODELS / "model.onnx", modality.feeds("test"))
    if bad := int((~np.isfinite(outputs)).any(1).sum()):
        raise cli.UserError(
            f"the model's answer is no finite number for {bad} of {len(targets)} test examples: look for extreme "
            "values in their inputs"
        )
    PLOTS.mkdir(parents=True, exist_ok=True)
    found = target.evaluate(outputs, targets, prepared.targets("train"), manifest, description, settings, PLOTS)
    plots.learning_curves(history, target.METRIC, PLOTS / "learning_curves.png")
    worst = modality.worst(found.worst, found.titles, found.total, PLOTS)
    write_json({name: rounded(metric["value"]) for name, metric in found.metrics.items()}, "metrics")
    # In a file of their own: `dvc metrics diff` is a table that people read.
    intervals = {n: [rounded(m["low"]), rounded(m["high"])] for n, m in found.metrics.items() if "low" in m}
    write_json(intervals, "intervals")
    shipped = shown(targets, manifest, settings.shipped)
    content = {"examples": shipped, **modality.form(config.read()["data"], manifest)}
    # One line: it is sent to browsers.
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, allow_nan=False)
    (MODELS / "page.json").write_text(text + "\n", encoding="utf-8")
    text = card.model_card(found, worst, history, manifest, description, data, config.read(), settings)
    (REPORTS / "model_card.md").write_text(text, encoding="utf-8")
    tracking.log_or_warn()


def shown(targets: NDArray[Any], manifest: prepared.Manifest, most: int) -> list[dict[str, Any]]:
    """Returns examples of the test split as the service takes them, evenly spread in the order of their targets.

    Args:
        targets: Of the test split: int64 [N], index of the class, or float64 [N].
        manifest: Of the prepared data.
        most: How many, at most.

    Returns:
        For each one what its modality gives, and `actual`: its class or its number.
    """
    ordered = np.argsort(targets, kind="stable")
    rows = ordered[np.linspace(0, len(targets) - 1, min(len(targets), most)).round().astype(np.int64)].tolist()
    classes = manifest.get("classes")
    actual = [classes[target] if classes else target for target in targets[rows].tolist()]
    given = prepared.modality(manifest).examples(rows)
    return [{**example, "actual": target} for example, target in zip(given, actual, strict=True)]


def rounded(value: float) -> float:
    """Returns eight digits: the last ones differ from one processor to another."""
    return float(f"{value:.8g}")


def write_json(content: dict[str, Any], name: str) -> None:
    """Writes a report."""
    (REPORTS / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    cli.run_stage("evaluate", main)
