"""Evaluation of a classifier: metrics, plots and text of the report."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..core.text import compared, table
from ..targets.classification import Labels, Manifest, Probabilities
from .measures import Evaluation, Measure, Weights, bootstrap

if TYPE_CHECKING:
    from .settings import Evaluate

COEFFICIENTS = (
    "One unit more of a column, the others unchanged, adds its estimate to the log-odds of the class: it multiplies "
    "the odds by exp(estimate). An interval that holds 0 leaves open in which direction."
)
BINS = 15
LABELS = {
    "accuracy": ("accuracy", "higher"),
    "macro_f1": ("macro F1", "higher"),
    "log_loss": ("log loss (nats)", "lower"),
    "roc_auc": ("ROC AUC", "higher"),
    "ece": ("expected calibration error", "lower"),
}


def purpose(manifest: Manifest, subject: str) -> str:
    """Returns what the model does.

    Args:
        manifest: Of the prepared data.
        subject: What it is asked about, "grey pictures" for instance.
    """
    classes = manifest["classes"]
    more = ", ..." if len(classes) > 20 else ""
    return f"classifies {subject} as one of {len(classes)} classes ({', '.join(classes[:20])}{more})"


def confusion(labels: Labels, predictions: Labels, classes: int) -> NDArray[np.int64]:
    """Returns the number of examples by true class (row) and predicted class (column), int [K, K]."""
    return np.bincount(labels * classes + predictions, minlength=classes**2).reshape(classes, classes)


def by_class(matrix: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """Returns precision, recall and F1 = 2 TP / (2 TP + FP + FN) of each class, float [K]; NaN where it never occurs.

    Args:
        matrix: int [K, K], of `confusion`.
    """
    hits, predicted, actual = matrix.diagonal(), matrix.sum(0), matrix.sum(1)
    with np.errstate(invalid="ignore"):
        return {"precision": hits / predicted, "recall": hits / actual, "f1": 2 * hits / (predicted + actual)}


def calibration(labels: Labels, probabilities: Probabilities) -> dict[str, NDArray[np.float64]]:
    """Returns mean confidence, accuracy and count of the examples in each of `BINS` equal bins of confidence.

    Empty bins are left out.

    Args:
        labels: int [N].
        probabilities: float [N, K].
    """
    confidence, right, bins = _confidence(labels, probabilities)
    count = np.bincount(bins, minlength=BINS)
    full = count > 0
    sums = {"confidence": np.bincount(bins, confidence, BINS), "accuracy": np.bincount(bins, right, BINS)}
    return {name: total[full] / count[full] for name, total in sums.items()} | {"count": count[full].astype(np.float64)}


def _confidence(labels: Labels, probabilities: Probabilities) -> tuple[Weights, Weights, NDArray[np.int64]]:
    confidence = probabilities.max(1).astype(np.float64)
    right = (probabilities.argmax(1) == labels).astype(np.float64)
    return confidence, right, np.minimum((confidence * BINS).astype(np.int64), BINS - 1)


def measure(labels: Labels, probabilities: Probabilities) -> Measure:
    """Returns a function from the examples' weights to the metrics.

    accuracy    share of the examples whose most probable class is right
    macro_f1    mean F1 over the classes that occur
    log_loss    -mean(log p(true class)), in nats; p is kept away from 0 by the precision of its type
    roc_auc     area under the ROC curve: of the second of two classes, or of one class against the rest, averaged over
                the classes that occur, but not always. It is the Mann-Whitney statistic, the share of (positive,
                negative) pairs in the right order, ties counting half (J. A. Hanley, B. J. McNeil, Radiology 143, 1982)
    ece         expected calibration error: sum over bins of (n / N) |accuracy - confidence| (C. Guo et al., On
                Calibration of Modern Neural Networks, ICML 2017, equation 3)

    Args:
        labels: int [N].
        probabilities: float [N, K].
    """
    classes = probabilities.shape[1]
    predictions = probabilities.argmax(1)
    confidence, right, bins = _confidence(labels, probabilities)
    chosen = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    losses = -np.log(np.clip(chosen, np.finfo(probabilities.dtype).eps, 1))
    areas = [_area(labels == k, probabilities[:, k]) for k in ([1] if classes == 2 else range(classes))]

    def metrics(weights: Weights) -> dict[str, float]:
        total = weights.sum()
        hits = np.bincount(labels, weights * right, classes)
        occurs = np.bincount(labels, weights, classes) + np.bincount(predictions, weights, classes)
        defined = [value for area in areas if (value := area(weights)) == value]
        gaps = np.bincount(bins, weights * (right - confidence), BINS)
        return {
            "accuracy": float(weights @ right / total),
            "macro_f1": float((2 * hits[occurs > 0] / occurs[occurs > 0]).mean()),
            "log_loss": float(weights @ losses / total),
            "roc_auc": float(np.mean(defined)) if defined else float("nan"),
            "ece": float(np.abs(gaps).sum() / total),
        }

    return metrics


def measured(outputs: NDArray[np.float32], targets: Labels, description: Mapping[str, Any]) -> Measure:
    """Returns the metrics of a model's answers, as a function of the examples' weights.

    Args:
        outputs: float32 [N, K].
        targets: int64 [N].
        description: The content of models/model.json.
    """
    return measure(targets, outputs)


def groups(targets: Labels, manifest: Manifest) -> dict[str, NDArray[np.bool_]]:
    """Returns the examples of each class, bool [N]: the accuracy within one is its recall.

    Args:
        targets: int64 [N].
        manifest: Of the prepared data.
    """
    return {f"class {name}": targets == index for index, name in enumerate(manifest["classes"])}


def miscalibration(metrics: Mapping[str, float]) -> float | None:
    """Returns the expected calibration error.

    Args:
        metrics: Of the test split.
    """
    return metrics["ece"]


def _area(positive: NDArray[np.bool_], scores: Probabilities) -> Callable[[Weights], float]:
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-1))  # of each group of equal scores, the lowest first
    positive = positive[order]

    def area(weights: Weights) -> float:
        weights = weights[order]
        right = np.add.reduceat(weights * positive, starts)
        wrong = np.add.reduceat(weights, starts) - right
        pairs = float(right.sum() * wrong.sum())
        return float(right @ (np.cumsum(wrong) - wrong / 2)) / pairs if pairs else float("nan")

    return area


def confident_mistakes(labels: Labels, probabilities: Probabilities) -> NDArray[np.int64]:
    """Returns the rows whose most probable class is wrong, the most confident first.

    Args:
        labels: int [N].
        probabilities: float [N, K].
    """
    wrong = np.flatnonzero(probabilities.argmax(1) != labels)
    return wrong[np.argsort(-probabilities[wrong].max(1), kind="stable")]


def evaluate(
    outputs: NDArray[np.float32],
    targets: Labels,
    train_targets: Labels,
    manifest: Manifest,
    description: Mapping[str, Any],
    settings: "Evaluate",
    folder: Path,
) -> Evaluation:
    """Measures the answers and draws them: confusion, reliability.

    Args:
        outputs: Probabilities of the test split, float32 [N, K].
        targets: Its labels, int64 [N].
        train_targets: Labels of the training split, int64; the naive answer is the most frequent of them.
        manifest: Of the prepared data.
        description: The content of models/model.json.
        settings: Section `evaluate` of the configuration.
        folder: Where plots go.
    """
    from . import classification_plots, plots

    classes = manifest["classes"]
    metrics = bootstrap(measure(targets, outputs), len(targets), settings.resamples, settings.confidence, settings.seed)
    predictions = outputs.argmax(1)
    matrix = confusion(targets, predictions, len(classes))
    bins = calibration(targets, outputs)
    frequent = int(np.bincount(train_targets, minlength=len(classes)).argmax())
    accuracy, baseline = metrics["accuracy"]["value"], float((targets == frequent).mean())
    less = compared(1 - accuracy, 1 - baseline, "fewer mistakes")
    metrics["baseline_accuracy"] = {"value": baseline}

    rows = plots.spread(len(targets), 100_000)
    names = np.asarray(classes)
    plots.write_csv({"actual": names[targets[rows]], "predicted": names[predictions[rows]]}, folder / "confusion.csv")
    plots.write_csv(bins, folder / "reliability.csv")
    classification_plots.confusion_matrix(matrix, classes, folder / "confusion_matrix.png")
    classification_plots.reliability(bins, metrics["ece"]["value"], folder / "reliability.png")

    wrong = confident_mistakes(targets, outputs)
    worst = wrong[: settings.examples].tolist()
    quality = by_class(matrix)
    return Evaluation(
        metrics,
        LABELS,
        f"{accuracy:.1%} of {len(targets)} test examples are classified rightly instead of {baseline:.1%} by always "
        f"answering {classes[frequent]}, the most frequent class in training: {less}.",
        [],
        [
            "## By class",
            "",
            *table(
                ("class", "precision", "recall", "F1", "examples"),
                zip(
                    classes,
                    *([f"{value:.3f}" if value == value else "-" for value in column] for column in quality.values()),
                    matrix.sum(1),
                    strict=True,
                ),
            ),
            "",
            f"![confusion matrix]({folder.name}/confusion_matrix.png)",
            "",
            f"![reliability]({folder.name}/reliability.png)",
        ],
        "Mistakes, the most confident first",
        worst,
        [f"{classes[targets[r]]} taken for {classes[predictions[r]]} ({outputs[r].max():.1%})" for r in worst],
        len(wrong),
        "Whatever it is shown, the model answers with one of its classes, also where none of them is right.",
    )
