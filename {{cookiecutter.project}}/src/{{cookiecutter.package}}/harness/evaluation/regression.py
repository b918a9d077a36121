"""Evaluation of a regression: metrics, plots and text of the model card.

To add a metric, write a function of targets and predictions and add it to `METRICS`. It then appears in
reports/metrics.json, in the model card with its confidence interval, in MLflow and in the gates.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..contracts import Description, Manifest
from ..core.errors import UserError
from ..core.text import code, compared, number, percent, table
from ..targets.regression import LEVEL, LEVELS, Numbers, half_width
from .contracts import Evaluation, Worst
from .metrics import (
    Estimate,
    Metric,
    Metrics,
    Weighted,
    Weights,
    bootstrap,
    evenly_spaced,
    grouped,
    mean,
    together,
    unweighted,
)
from .workspace import Predictions

if TYPE_CHECKING:
    from .settings import Decision, Evaluate

COEFFICIENTS = (
    "If a column is one unit larger and the others are unchanged, its estimate is added to the prediction. An interval "
    "that contains 0 leaves the direction open."
)


def mean_absolute_error(targets: Numbers, predictions: Numbers) -> Weighted:
    """Mean |prediction - target|."""
    return mean(np.abs(predictions - targets))


def root_mean_squared_error(targets: Numbers, predictions: Numbers) -> Weighted:
    """sqrt(mean (prediction - target)^2)."""
    mean_squared = mean((predictions - targets) ** 2)
    return lambda weights: mean_squared(weights) ** 0.5


def r2(targets: Numbers, predictions: Numbers) -> Weighted:
    """1 - mean squared error / variance, undefined if the variance is 0."""
    centered = targets - targets.mean() if np.ptp(targets) else np.zeros(len(targets))
    mean_squared, average, square = mean((predictions - targets) ** 2), mean(centered), mean(centered**2)

    def metric(weights: Weights) -> float:
        variance = square(weights) - average(weights) ** 2
        # If all targets of a resample are equal, the variance is only a rounding error.
        return 1 - mean_squared(weights) / variance if variance > 1e-12 * square(weights) else float("nan")

    return metric


def mean_absolute_percentage_error(targets: Numbers, predictions: Numbers) -> Weighted:
    """Mean |(prediction - target) / target|; undefined if a target is 0."""
    if (targets == 0).any():
        return _undefined
    return mean(np.abs(predictions - targets) / np.abs(targets))


METRICS = {
    "mae": Metric("MAE", "lower", mean_absolute_error),
    "rmse": Metric("RMSE", "lower", root_mean_squared_error),
    "r2": Metric("R2", "higher, 1 at most", r2),
    "mape": Metric("MAPE (1 is 100%)", "lower", mean_absolute_percentage_error),
}
BASELINES = ("mae", "rmse")  # metrics that are also computed for the baseline, which always predicts the mean


def coverage(targets: Numbers, predictions: Numbers, half: float | None) -> Weighted:
    """Fraction of the targets within their prediction interval.

    Args:
        targets: float64 [N].
        predictions: float64 [N].
        half: Half-width of the intervals; None makes the coverage undefined.
    """
    return _undefined if half is None else mean((np.abs(predictions - targets) <= half).astype(np.float64))


def _undefined(weights: Weights) -> float:
    return float("nan")


def metrics(outputs: NDArray[np.floating[Any]], targets: Numbers, description: Description) -> Metrics:
    """Metrics, coverage included, as a function of the weights of the examples.

    Args:
        outputs: Predictions, float [N, 1].
        targets: float64 [N].
        description: Content of models/model.json.
    """
    return together(slice_metrics(description, {}), targets, outputs)


SLICED: Sequence[str] = ("mae", "r2", "coverage")


def slice_metrics(description: Description, manifest: Manifest) -> dict[str, Metric]:
    """Metrics of a slice.

    Args:
        description: Content of models/model.json.
        manifest: Manifest of the prepared data.
    """

    def of_outputs(metric: Metric) -> Metric:
        function = metric.function
        return metric._replace(function=lambda targets, outputs: function(targets, _predictions(outputs)))

    half = half_width(description)
    covered = Metric(
        f"coverage of the {LEVEL:.0%} intervals", "-", lambda targets, values: coverage(targets, values, half)
    )
    return {name: of_outputs(metric) for name, metric in (METRICS | {"coverage": covered}).items()}


def losses(outputs: NDArray[np.floating[Any]], targets: Numbers) -> Numbers:
    """Loss of each example, [N]: |prediction - target|.

    Args:
        outputs: Predictions, float [N, 1].
        targets: float64 [N].
    """
    errors: Numbers = np.abs(_predictions(outputs) - targets)
    return errors


def _predictions(outputs: NDArray[np.floating[Any]]) -> Numbers:
    return outputs[:, 0].astype(np.float64)


def check_decision(settings: "Decision", manifest: Manifest) -> None:
    """Refuses a decision, because a number has no classes.

    Args:
        settings: Section `evaluate.decision` of the configuration.
        manifest: Manifest of the prepared data.

    Raises:
        UserError: Always.
    """
    raise UserError(
        "evaluate.decision: a decision is between classes, and this model predicts a number: set it to null"
    )


def decide(validation: Predictions, settings: "Decision") -> dict[str, Any]:
    """No decision: `check_decision` refuses it.

    Args:
        validation: Predictions of the validation split.
        settings: Section `evaluate.decision` of the configuration.
    """
    check_decision(settings, validation.manifest)
    return {}


def calibration_error(values: Mapping[str, float]) -> float | None:
    """Shortfall of the coverage below `LEVEL`; None without prediction intervals.

    Args:
        values: Metric -> value on the test split.
    """
    return max(0.0, LEVEL - values["coverage"]) if "coverage" in values else None


def groups(targets: Numbers, manifest: Manifest) -> dict[str, NDArray[np.bool_]]:
    """Masks of the examples between quartiles of the target, bool [N].

    Args:
        targets: float64 [N].
        manifest: Manifest of the prepared data.
    """
    return grouped(manifest["target_name"], np.asarray(targets))


def purpose(manifest: Manifest, subject: str) -> str:
    """Description of the model's task, for the model card.

    Args:
        manifest: Manifest of the prepared data.
        subject: Description of the inputs, "rows of a table" for instance.
    """
    return f"predicts the number {code(manifest['target_name'])} from {subject}"


def evaluate(test: Predictions, settings: "Evaluate", folder: Path) -> Evaluation:
    """Metrics, plots and text of the model card, from the test split.

    The baseline always predicts the mean of the training split.

    Args:
        test: Predictions of the test split.
        settings: Section `evaluate` of the configuration.
        folder: Folder of the plots.
    """
    mean_target = float(test.train_targets.mean())
    estimates = _estimates(test, mean_target, settings)
    coverages = _coverages(test)
    _draw(test, mean_target, coverages, folder)
    mae, baseline = estimates["mae"].value, estimates["baseline_mae"].value
    return Evaluation(
        estimates=estimates,
        labels={name: (metric.title, metric.better) for name, metric in METRICS.items()}
        | {
            "coverage": (f"coverage of the {LEVEL:.0%} intervals", f"{LEVEL:.2f} or a little more"),
            "interval_width": (f"width of the {LEVEL:.0%} intervals", "lower"),
        },
        headline=f"MAE {number(mae)}, compared with {number(baseline)} for always predicting {number(mean_target)}, "
        f"the mean of the training split: {compared(mae, baseline, 'lower')}.",
        notes=undefined_metrics(test.targets, test.description),
        sections=_sections(test.description, coverages, folder),
        worst=_largest_errors(test, settings.examples),
        limits=f"The training split has targets from {number(test.train_targets.min())} to "
        f"{number(test.train_targets.max())}; predictions outside this range are extrapolations. The prediction "
        "intervals have the same width for all examples: their coverage holds on average, not in every group.",
    )


def _estimates(test: Predictions, mean_target: float, settings: "Evaluate") -> dict[str, Estimate]:
    examples = len(test.targets)
    model_metrics = metrics(test.outputs, test.targets, test.description)
    estimates = bootstrap(model_metrics, examples, settings.resamples, settings.confidence, settings.seed)
    if (half := half_width(test.description)) is not None:
        estimates["interval_width"] = Estimate(2 * half)
    baselines = {name: METRICS[name] for name in BASELINES}
    values = unweighted(together(baselines, test.targets, np.full(examples, mean_target)), examples)
    return estimates | {f"baseline_{name}": Estimate(value) for name, value in values.items()}


def _coverages(test: Predictions) -> dict[float, float | None]:
    """Level -> coverage of the test examples, None if undefined."""
    errors = losses(test.outputs, test.targets)
    halves = {level: half_width(test.description, level) for level in LEVELS}
    return {level: None if half is None else float((errors <= half).mean()) for level, half in halves.items()}


def _draw(test: Predictions, mean_target: float, coverages: Mapping[float, float | None], folder: Path) -> None:
    from . import plots, regression_plots

    targets, predictions = np.asarray(test.targets), test.outputs[:, 0].astype(np.float64)
    rows = evenly_spaced(len(targets), regression_plots.POINTS)
    plots.write_csv(
        {"predicted": predictions[rows], "actual": targets[rows], "residual": (targets - predictions)[rows]},
        folder / "predictions.csv",
    )
    defined = {level: share for level, share in coverages.items() if share is not None}
    plots.write_csv(
        {"level": np.array(list(defined)), "coverage": np.array(list(defined.values()))}, folder / "coverage.csv"
    )
    points = regression_plots.Points(test.manifest["target_name"], targets, predictions)
    regression_plots.predictions(points, mean_target, folder / "predictions.png")
    regression_plots.residuals(points, folder / "residuals.png")
    regression_plots.intervals(points, half_width(test.description), LEVEL, coverages, folder / "intervals.png")


def _sections(description: Description, coverages: Mapping[float, float | None], folder: Path) -> list[str]:
    rows = [
        (f"{level:.0%}", number(half_width(description, level)), "-" if share is None else percent(share))
        for level, share in coverages.items()
    ]
    return [
        "## Predictions and residuals",
        f"![predicted and actual]({folder.name}/predictions.png)",
        f"![residuals]({folder.name}/residuals.png)",
        "## Prediction intervals",
        f"Split-conformal, from the errors on the {description['calibration']['examples']} examples of the validation "
        f"split: the prediction plus and minus the half-width. The service returns the {LEVEL:.0%} intervals.",
        "\n".join(table(("level", "half-width", "coverage on the test split"), rows)),
        f"![prediction intervals]({folder.name}/intervals.png)",
    ]


def _largest_errors(test: Predictions, most: int) -> Worst:
    rows = np.argsort(-losses(test.outputs, test.targets), kind="stable")[:most].tolist()
    predictions = test.outputs[:, 0].astype(np.float64)
    captions = [f"actual {number(test.targets[row])}, predicted {number(predictions[row])}" for row in rows]
    return Worst("The largest errors", rows, captions, len(test.targets))


def undefined_metrics(targets: Numbers, description: Description) -> list[str]:
    """Sentences that explain why metrics are undefined.

    Args:
        targets: float64 [N].
        description: Content of models/model.json.
    """
    notes = []
    if not np.ptp(targets):
        notes.append(f"R2 is undefined: all test targets are {number(targets[0])}.")
    if zeros := int((targets == 0).sum()):
        notes.append(f"MAPE is undefined: {zeros} of {len(targets)} test targets are 0.")
    if half_width(description) is None:
        least = int(np.ceil(LEVEL / (1 - LEVEL) - 1e-9))
        notes.append(
            f"The {LEVEL:.0%} prediction intervals are undefined: they need a validation split of at least {least} "
            f"examples, but it has {description['calibration']['examples']}."
        )
    return notes
