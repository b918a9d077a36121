"""Evaluation of a classifier: metrics, plots and text of the model card.

To add a metric, write a function of labels and probabilities and add it to `METRICS`. It then appears in
reports/metrics.json, in the model card with its confidence interval, in MLflow and in the gates.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..contracts import Description, Manifest
from ..core.text import compared, escaped, percent, table
from ..targets.classification import Labels, Probabilities
from . import classification_decision
from .contracts import Evaluation, Worst
from .metrics import Estimate, Metric, Metrics, Weighted, Weights, area, bootstrap, evenly_spaced, mean, together
from .workspace import Predictions

if TYPE_CHECKING:
    from .settings import Decision, Evaluate

COEFFICIENTS = (
    "If a column is one unit larger and the others are unchanged, its estimate is added to the log-odds of the class: "
    "the odds are multiplied by exp(estimate). An interval that contains 0 leaves the direction open."
)
BINS = 15  # number of confidence bins in the reliability diagram and the expected calibration error


def accuracy(labels: Labels, probabilities: Probabilities) -> Weighted:
    """Fraction of the examples whose most probable class is the true class."""
    return mean(_correct(labels, probabilities))


def macro_f1(labels: Labels, probabilities: Probabilities) -> Weighted:
    """Unweighted mean of F1 over the classes that occur."""
    classes, predictions = probabilities.shape[1], probabilities.argmax(1)
    correct = _correct(labels, probabilities)

    def metric(weights: Weights) -> float:
        hits = np.bincount(labels, weights * correct, classes)
        occurrences = np.bincount(labels, weights, classes) + np.bincount(predictions, weights, classes)
        occurs = occurrences > 0
        return float((2 * hits[occurs] / occurrences[occurs]).mean())

    return metric


def log_loss(labels: Labels, probabilities: Probabilities) -> Weighted:
    """Mean -log p(true class), in nats, with p clipped above 0."""
    return mean(losses(probabilities, labels))


def losses(outputs: Probabilities, targets: Labels) -> NDArray[np.float64]:
    """Loss of each example, [N]: -log p(true class), in nats, with p clipped above 0.

    Args:
        outputs: Probabilities, float [N, K].
        targets: Labels, int64 [N].
    """
    true_class = outputs[np.arange(len(targets)), targets].astype(np.float64)
    clipped: NDArray[np.float64] = -np.log(np.clip(true_class, np.finfo(outputs.dtype).eps, 1))
    return clipped


def roc_auc(labels: Labels, probabilities: Probabilities) -> Weighted:
    """Area under the ROC curve.

    For two classes, it is that of the second class; for more, the mean over all classes, one against the rest, without
    classes to which all or none of the examples belong.
    """
    classes = [1] if probabilities.shape[1] == 2 else range(probabilities.shape[1])
    areas = [area(labels == k, probabilities[:, k]) for k in classes]

    def metric(weights: Weights) -> float:
        values = np.array([each(weights) for each in areas])
        defined = values[~np.isnan(values)]
        return float(defined.mean()) if len(defined) else float("nan")

    return metric


def expected_calibration_error(labels: Labels, probabilities: Probabilities) -> Weighted:
    """Sum over confidence bins of (n / N) |accuracy - confidence|.

    Source: C. Guo et al., On Calibration of Modern Neural Networks, ICML 2017, equation 3.
    """
    confidence, bins = _confidence(probabilities)
    gaps = _correct(labels, probabilities) - confidence
    return lambda weights: float(np.abs(np.bincount(bins, weights * gaps, BINS)).sum() / weights.sum())


METRICS = {
    "accuracy": Metric("accuracy", "higher", accuracy),
    "macro_f1": Metric("macro F1", "higher", macro_f1),
    "log_loss": Metric("log loss (nats)", "lower", log_loss),
    "roc_auc": Metric("ROC AUC", "higher", roc_auc),
    "ece": Metric("expected calibration error", "lower", expected_calibration_error),
}


RATES = ("selection_rate", "true_positive_rate", "false_positive_rate")  # of slices, if there are two classes
SLICED: Sequence[str] = ("accuracy", "ece", "coverage", *RATES)


def metrics(outputs: Probabilities, targets: Labels, description: Description) -> Metrics:
    """Metrics as a function of the weights of the examples; also those of the decision, if there is one.

    Args:
        outputs: Probabilities, float [N, K].
        targets: Labels, int64 [N].
        description: Content of models/model.json, with `decision` if there is one.
    """
    return together(METRICS | classification_decision.metrics(description), targets, outputs)


def check_decision(settings: "Decision", manifest: Manifest) -> None:
    """Rejects a decision that does not fit the classes.

    Args:
        settings: Section `evaluate.decision` of the configuration.
        manifest: Manifest of the prepared data.

    Raises:
        UserError: If it names a class that does not exist, or a sensitivity if there are not two.
    """
    classification_decision.check(settings, manifest["classes"])


def decide(validation: Predictions, settings: "Decision") -> dict[str, Any]:
    """Content of models/decision.json.

    Args:
        validation: Probabilities of the validation split.
        settings: Section `evaluate.decision` of the configuration.

    Raises:
        UserError: If the configuration does not fit the classes.
    """
    return classification_decision.choose(validation, settings)


def slice_metrics(description: Description, manifest: Manifest) -> dict[str, Metric]:
    """Metrics of a slice; for two classes also the rates of one of them.

    Args:
        description: Content of models/model.json, with `decision` if there is one.
        manifest: Manifest of the prepared data.
    """
    table, classes = METRICS | classification_decision.metrics(description), manifest["classes"]
    if len(classes) != 2:
        return table
    positive = classification_decision.positive_class(description, classes)
    rates = classification_decision.rates(description, classes.index(positive))
    # The names by which rates of groups are compared; `sensitivity` and `specificity` say the same.
    table = {name: metric for name, metric in table.items() if name not in rates and name != "sensitivity"}
    return table | {name: rates[name]._replace(title=f"{rates[name].title} ({positive})") for name in RATES}


def calibration_error(values: Mapping[str, float]) -> float | None:
    """The expected calibration error.

    Args:
        values: Metric -> value on the test split.
    """
    return values["ece"]


def groups(targets: Labels, manifest: Manifest) -> dict[str, NDArray[np.bool_]]:
    """Mask of the examples of each class, bool [N].

    The accuracy within a class is its recall.

    Args:
        targets: Labels, int64 [N].
        manifest: Manifest of the prepared data.
    """
    return {f"class {name}": targets == index for index, name in enumerate(manifest["classes"])}


def _correct(labels: Labels, probabilities: Probabilities) -> NDArray[np.float64]:
    """1 for each correctly classified example, else 0."""
    correct: NDArray[np.bool_] = probabilities.argmax(1) == labels
    return correct.astype(np.float64)


def _confidence(probabilities: Probabilities) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Confidence, the largest probability of each example, and its bin, both [N]."""
    confidence = probabilities.max(1).astype(np.float64)
    return confidence, np.minimum((confidence * BINS).astype(np.int64), BINS - 1)


def confusion(labels: Labels, predictions: Labels, classes: int) -> NDArray[np.int64]:
    """Confusion matrix, int64 [K, K]: true class by predicted class."""
    return np.bincount(labels * classes + predictions, minlength=classes**2).reshape(classes, classes)


def by_class(matrix: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """Precision, recall and F1 of each class.

    F1 = 2 TP / (2 TP + FP + FN).

    Args:
        matrix: Confusion matrix, int64 [K, K].

    Returns:
        Name of the metric -> float64 [K], NaN if undefined.
    """
    hits, predicted, actual = matrix.diagonal(), matrix.sum(0), matrix.sum(1)
    with np.errstate(invalid="ignore"):
        return {"precision": hits / predicted, "recall": hits / actual, "f1": 2 * hits / (predicted + actual)}


def reliability(labels: Labels, probabilities: Probabilities) -> dict[str, NDArray[np.float64]]:
    """Data of the reliability diagram: mean confidence, accuracy and count by bin.

    Args:
        labels: int64 [N].
        probabilities: float [N, K].

    Returns:
        Name -> float64 [n] for the n non-empty bins of `BINS` equal ones.
    """
    confidence, bins = _confidence(probabilities)
    count = np.bincount(bins, minlength=BINS)
    filled = count > 0
    sums = {"confidence": confidence, "accuracy": _correct(labels, probabilities)}
    means = {name: np.bincount(bins, numbers, BINS)[filled] / count[filled] for name, numbers in sums.items()}
    return means | {"count": count[filled].astype(np.float64)}


def purpose(manifest: Manifest, subject: str) -> str:
    """Description of the model's task, for the model card.

    Args:
        manifest: Manifest of the prepared data.
        subject: Description of the inputs, "gray pictures" for instance.
    """
    classes = manifest["classes"]
    ellipsis = ", ..." if len(classes) > 20 else ""
    return f"classifies {subject} as one of {len(classes)} classes ({', '.join(map(escaped, classes[:20]))}{ellipsis})"


def evaluate(test: Predictions, settings: "Evaluate", folder: Path) -> Evaluation:
    """Metrics, plots and text of the model card, from the test split.

    The baseline always predicts the most frequent class of the training split.

    Args:
        test: Probabilities of the test split.
        settings: Section `evaluate` of the configuration.
        folder: Folder of the plots.
    """
    classes: Sequence[str] = test.manifest["classes"]
    estimates = bootstrap(
        metrics(test.outputs, test.targets, test.description),
        len(test.targets),
        settings.resamples,
        settings.confidence,
        settings.seed,
    )
    frequent = int(np.bincount(test.train_targets, minlength=len(classes)).argmax())
    estimates["baseline_accuracy"] = Estimate(float((test.targets == frequent).mean()))
    matrix = confusion(test.targets, test.outputs.argmax(1), len(classes))
    _draw(test, matrix, estimates["ece"].value, folder)
    decision = classification_decision.metrics(test.description)
    return Evaluation(
        estimates=estimates,
        labels={name: (metric.title, metric.better) for name, metric in (METRICS | decision).items()},
        headline=_headline(estimates, len(test.targets), classes[frequent]),
        notes=[],
        sections=_sections(matrix, classes, folder) + classification_decision.section(test, estimates, settings),
        worst=_mistakes(test, settings.examples),
        limits=_limits(test.description),
    )


def _limits(description: Description) -> str:
    if description.get("decision", {}).get("abstain"):
        return (
            'The answer is "not sure" if several classes are plausible, but it is one of the classes if none of them '
            "fits."
        )
    return "The model always predicts one of its classes, even if none of them fits."


def _draw(test: Predictions, matrix: NDArray[np.int64], ece: float, folder: Path) -> None:
    from . import classification_plots, plots

    classes = test.manifest["classes"]
    names, rows = np.asarray(classes), evenly_spaced(len(test.targets), 100_000)
    predictions = test.outputs.argmax(1)
    plots.write_csv(
        {"actual": names[test.targets[rows]], "predicted": names[predictions[rows]]}, folder / "confusion.csv"
    )
    bins = reliability(test.targets, test.outputs)
    plots.write_csv(bins, folder / "reliability.csv")
    classification_plots.confusion_matrix(matrix, classes, folder / "confusion_matrix.png")
    classification_plots.reliability(bins, ece, folder / "reliability.png")


def _headline(estimates: Mapping[str, Estimate], examples: int, frequent: str) -> str:
    correct, baseline = estimates["accuracy"].value, estimates["baseline_accuracy"].value
    fewer = compared(1 - correct, 1 - baseline, "fewer errors")
    return (
        f"{percent(correct)} of {examples} test examples are correctly classified, compared with {percent(baseline)} "
        f"for always predicting {escaped(frequent)}, the most frequent class in training: {fewer}."
    )


def _sections(matrix: NDArray[np.int64], classes: Sequence[str], folder: Path) -> list[str]:
    shares = [["-" if np.isnan(share) else f"{share:.3f}" for share in column] for column in by_class(matrix).values()]
    rows = zip(classes, *shares, matrix.sum(1), strict=True)
    return [
        "## By class",
        "\n".join(table(("class", "precision", "recall", "F1", "examples"), rows)),
        f"![confusion matrix]({folder.name}/confusion_matrix.png)",
        f"![reliability]({folder.name}/reliability.png)",
    ]


def _mistakes(test: Predictions, most: int) -> Worst:
    """The misclassified examples, the most confident first."""
    classes, predictions, confidence = test.manifest["classes"], test.outputs.argmax(1), test.outputs.max(1)
    wrong = np.flatnonzero(predictions != test.targets)
    rows = wrong[np.argsort(-confidence[wrong], kind="stable")][:most].tolist()
    captions = [
        f"{classes[test.targets[r]]} taken for {classes[predictions[r]]} ({percent(float(confidence[r]))})"
        for r in rows
    ]
    return Worst("Mistakes, the most confident first", rows, captions, len(wrong))
