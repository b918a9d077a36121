"""Stage `evaluate`: measures the exported ONNX model, the one that ships, on the test split."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveInt

from .. import cli, config
from ..data import prepared
from .train import HISTORY, MODELS

if TYPE_CHECKING:
    import pandas as pd

REPORTS = Path("reports")
PLOTS = REPORTS / "plots"


class Evaluate(config.Section):
    """Section `evaluate`.

    Attributes:
        seed: Of the bootstrap.
        resamples: Number of bootstrap resamples.
        confidence: Of the intervals, between 0 and 1.
        mistakes: The most pictures shown in mistakes.png.
    """

    seed: NonNegativeInt
    resamples: Annotated[int, Field(ge=100)]
    confidence: Annotated[float, Field(gt=0, lt=1)]
    mistakes: PositiveInt


def main() -> None:
    """Reads models/ and data/prepared, writes reports/ and logs the run to MLflow."""
    settings = config.load("evaluate", Evaluate)
    # Here, not above: the stage `config` reads this module's schema and needs none of them.
    import pandas as pd

    from .. import metrics, plots, tracking

    images, labels = prepared.load("test")
    classes = prepared.manifest()["classes"]
    probabilities = predict(MODELS / "model.onnx", images)
    predictions = probabilities.argmax(1)
    matrix = metrics.confusion(labels, predictions, len(classes))
    bins = metrics.calibration(labels, probabilities)
    values = {name: metric(labels, probabilities) for name, metric in metrics.METRICS.items()}
    intervals = metrics.bootstrap(labels, probabilities, settings.resamples, settings.confidence, settings.seed)
    table = pd.DataFrame(metrics.by_class(matrix), index=pd.Index(classes, name="class"))
    table["examples"] = matrix.sum(1)
    baseline = float(matrix.sum(1).max() / len(labels))
    history = pd.read_csv(HISTORY)

    PLOTS.mkdir(parents=True, exist_ok=True)
    names = np.asarray(classes)
    write_csv(pd.DataFrame({"actual": names[labels], "predicted": names[predictions]}), "confusion")
    write_csv(pd.DataFrame(bins), "reliability")
    plots.confusion_matrix(matrix, classes, PLOTS / "confusion_matrix.png")
    plots.learning_curves(history, PLOTS / "learning_curves.png")
    plots.reliability(bins, values["ece"], PLOTS / "reliability.png")
    wrong = confident_mistakes(labels, probabilities)
    shown = wrong[: settings.mistakes]
    plots.mistakes(
        [images[row] for row in shown],
        [
            f"{classes[labels[row]]} taken for {classes[predictions[row]]}\n{probabilities[row].max():.1%}"
            for row in shown
        ],
        len(wrong),
        PLOTS / "mistakes.png",
    )
    report = {
        name: {"value": round(v, 6), "low": round(intervals[name][0], 6), "high": round(intervals[name][1], 6)}
        for name, v in values.items()
    }
    report["baseline_accuracy"] = {"value": round(baseline, 6)}
    (REPORTS / "metrics.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    card = model_card(report, table, history, settings)
    (REPORTS / "model_card.md").write_text(card, encoding="utf-8")
    tracking.log_or_warn()


def predict(model: Path, images: NDArray[np.uint8], batch_size: int = 256) -> NDArray[np.float32]:
    """Predicts in batches, so that images on disk stay there.

    Args:
        model: The ONNX file.
        images: uint8 [N, H, W, C].
        batch_size: Images in memory at a time.

    Returns:
        Probabilities, float32 [N, K].
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    starts = range(0, len(images), batch_size)
    return np.concatenate(
        [session.run(None, {"image": images[i : i + batch_size].astype(np.float32)})[0] for i in starts]
    )


def confident_mistakes(labels: NDArray[np.int64], probabilities: NDArray[np.float32]) -> NDArray[np.int64]:
    """Returns the rows whose most probable class is wrong, the most confident first.

    Args:
        labels: int64 [N].
        probabilities: float32 [N, K].
    """
    wrong = np.flatnonzero(probabilities.argmax(1) != labels)
    return wrong[np.argsort(-probabilities[wrong].max(1), kind="stable")]


def write_csv(table: "pd.DataFrame", name: str) -> None:
    """Writes the data of a DVC plot."""
    table.to_csv(PLOTS / f"{name}.csv", index=False, float_format="%.6g", lineterminator="\n")


def model_card(
    report: dict[str, dict[str, float]], table: "pd.DataFrame", history: "pd.DataFrame", settings: Evaluate
) -> str:
    """Writes the model card (M. Mitchell et al., Model Cards for Model Reporting, 2019) from what was measured.

    Args:
        report: Metric -> value, low, high.
        table: Precision, recall, F1 and number of examples of each class.
        history: A row for each epoch.
        settings: Section `evaluate` of the configuration.
    """
    parameters: dict[str, Any] = config.read()
    manifest = prepared.manifest()
    model = json.loads((MODELS / "model.json").read_text(encoding="utf-8"))
    data = json.loads((REPORTS / "data.json").read_text(encoding="utf-8"))
    best = history.iloc[
        history[monitor].argmin()
        if (monitor := parameters["train"]["monitor"]) == "val_loss"
        else history[monitor].argmax()
    ]
    value = report["accuracy"]["value"]
    baseline = report["baseline_accuracy"]["value"]
    height, width, channels = manifest["shape"]
    lines = [
        "# Model card",
        "",
        f"Model `{model['model']['_target_'].rsplit('.', 1)[-1]}`, version `{model['sha256'][:12]}`: "
        f"classifies {'grey' if channels == 1 else 'colour'} pictures of {height} x {width} pixels as one of "
        f"{len(manifest['classes'])} classes ({', '.join(manifest['classes'])}).",
        "",
        f"**{value:.1%} of {data['examples']['test']} test pictures are classified rightly; always answering with the "
        f"most frequent class would give {baseline:.1%}.**",
        "",
        "## Test metrics",
        "",
        f"Bootstrap confidence intervals at {settings.confidence:.0%}, {settings.resamples} resamples.",
        "",
        "| metric | value | from | to | better |",
        "|---|---:|---:|---:|---|",
        *(
            f"| {name.replace('_', ' ')} | {m['value']:.4f} | {m['low']:.4f} | {m['high']:.4f} | "
            f"{'lower' if name in ('log_loss', 'ece') else 'higher'} |"
            for name, m in report.items()
            if "low" in m
        ),
        "",
        "## By class",
        "",
        "| class | precision | recall | F1 | examples |",
        "|---|---:|---:|---:|---:|",
        *(
            f"| {name} | {row.precision:.3f} | {row.recall:.3f} | {row.f1:.3f} | {row.examples:.0f} |"
            for name, row in table.iterrows()
        ),
        "",
        "![confusion matrix](plots/confusion_matrix.png)",
        "",
        "![reliability](plots/reliability.png)",
        "",
        "## Mistakes",
        "",
        "![most confident mistakes](plots/mistakes.png)",
        "",
        "## Training",
        "",
        f"{len(history)} epochs; the weights are those of epoch {best['epoch']:.0f}: validation loss "
        f"{best['val_loss']:.4f}, validation accuracy {best['val_accuracy']:.4f}.",
        "",
        "![learning curves](plots/learning_curves.png)",
        "",
        "## Data",
        "",
        "| split | examples | content (SHA-256) |",
        "|---|---:|---|",
        *(
            f"| {split} | {data['examples'][split]} | `{manifest['digests'][split][:12]}` |"
            for split in prepared.SPLITS
        ),
        "",
        f"{data['skipped']} files were skipped; {data['duplicates']} exact duplicates lie in the same split as their "
        "originals.",
        "",
        "## Parameters",
        "",
        "| key | value |",
        "|---|---|",
        *(f"| `{section}.{key}` | `{v}` |" for section, keys in parameters.items() for key, v in keys.items()),
        "",
        "## Limits",
        "",
        "The intervals say how much the test split's size leaves open. They say nothing of pictures that come from "
        "elsewhere: other cameras, other people, classes not listed above (the model always answers with one of them).",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    cli.run_stage("evaluate", main)
