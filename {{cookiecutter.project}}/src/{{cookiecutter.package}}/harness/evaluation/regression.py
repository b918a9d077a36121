"""Evaluation of a regression: metrics, plots and text of the report."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..core.text import compared, number, table
from ..targets.regression import LEVEL, LEVELS, Manifest, Numbers
from .measures import Evaluation, Measure, Weights, bootstrap, grouped

if TYPE_CHECKING:
    from .settings import Evaluate

COEFFICIENTS = (
    "One unit more of a column, the others unchanged, adds its estimate to the prediction. An interval that holds 0 "
    "leaves open in which direction."
)


def purpose(manifest: Manifest, subject: str) -> str:
    """Returns what the model does.

    Args:
        manifest: Of the prepared data.
        subject: What it is asked about, "table rows" for instance.
    """
    return f"predicts the number `{manifest['target_name']}` from {subject}"


def measure(targets: Numbers, predictions: Numbers, half: float | None = None) -> Measure:
    """Returns a function from the examples' weights to the metrics; e = prediction - y.

    mae         mean |e|
    rmse        sqrt(mean e^2)
    r2          1 - sum e^2 / sum (y - mean y)^2; undefined where all y are equal
    mape        mean |e / y|; undefined where a y is 0
    coverage    share of |e| <= half, that is of targets in their interval; undefined without one

    Args:
        targets: y, float64 [N].
        predictions: float64 [N].
        half: Half the width of the prediction intervals.
    """
    errors = np.abs(predictions - targets)
    nan = np.full(len(targets), np.nan)
    centred = targets - targets.mean() if np.ptp(targets) else np.zeros(len(targets))
    relative = errors / np.abs(targets) if (targets != 0).all() else nan
    covered = nan if half is None else (errors <= half).astype(np.float64)
    columns = np.stack([errors, errors**2, centred, centred**2, relative, covered])

    def metrics(weights: Weights) -> dict[str, float]:
        mae, mse, mean, square, mape, coverage = (columns @ weights / weights.sum()).tolist()
        variance = square - mean**2
        # Of equal numbers, drawn again and again, nothing is left but rounding.
        r2 = 1 - mse / variance if variance > 1e-12 * square else float("nan")
        return {"mae": mae, "rmse": mse**0.5, "r2": r2, "mape": mape, "coverage": coverage}

    return metrics


def measured(outputs: NDArray[np.float32], targets: Numbers, description: Mapping[str, Any]) -> Measure:
    """Returns the metrics of a model's answers, as a function of the examples' weights.

    Args:
        outputs: float32 [N, 1].
        targets: float64 [N].
        description: The content of models/model.json.
    """
    half = description["calibration"]["half_widths"][str(LEVEL)]
    return measure(targets, outputs[:, 0].astype(np.float64), half)


def groups(targets: Numbers, manifest: Manifest) -> dict[str, NDArray[np.bool_]]:
    """Returns the quarters of the examples by their target, bool [N].

    Args:
        targets: float64 [N].
        manifest: Of the prepared data.
    """
    return grouped(manifest["target_name"], np.asarray(targets))


def miscalibration(metrics: Mapping[str, float]) -> float | None:
    """Returns by how much the prediction intervals hold fewer targets than their level says; None where there are none.

    Args:
        metrics: Of the test split.
    """
    return max(0.0, LEVEL - metrics["coverage"]) if "coverage" in metrics else None


def evaluate(
    outputs: NDArray[np.float32],
    targets: Numbers,
    train_targets: Numbers,
    manifest: Manifest,
    description: Mapping[str, Any],
    settings: "Evaluate",
    folder: Path,
) -> Evaluation:
    """Measures the answers and draws them: predictions, residuals, prediction intervals.

    Args:
        outputs: Predictions of the test split, float32 [N, 1].
        targets: Its targets, float64 [N].
        train_targets: Targets of the training split, float64; the naive answer is their mean.
        manifest: Of the prepared data.
        description: The content of models/model.json.
        settings: Section `evaluate` of the configuration.
        folder: Where plots go.
    """
    from . import plots, regression_plots

    name = manifest["target_name"]
    predictions = outputs[:, 0].astype(np.float64)
    errors = np.abs(predictions - targets)
    halves = {level: description["calibration"]["half_widths"][str(level)] for level in LEVELS}
    half = halves[LEVEL]
    metrics = bootstrap(
        measure(targets, predictions, half), len(targets), settings.resamples, settings.confidence, settings.seed
    )
    if half is not None:
        metrics["interval_width"] = {"value": 2 * half}
    mean = float(train_targets.mean())
    naive = measure(targets, np.full(len(targets), mean))(np.ones(len(targets)))
    metrics |= {f"baseline_{metric}": {"value": naive[metric]} for metric in ("mae", "rmse")}

    coverage = {
        level: float((errors <= width).mean()) if width is not None else None for level, width in halves.items()
    }
    rows = plots.spread(len(targets), 2000)
    shown = {"predicted": predictions[rows], "actual": targets[rows], "residual": (targets - predictions)[rows]}
    plots.write_csv(shown, folder / "predictions.csv")
    defined = {level: share for level, share in coverage.items() if share is not None}
    plots.write_csv(
        {"level": np.array(list(defined)), "coverage": np.array(list(defined.values()))}, folder / "coverage.csv"
    )
    regression_plots.predictions(targets, predictions, mean, name, folder / "predictions.png")
    regression_plots.residuals(targets, predictions, name, folder / "residuals.png")
    regression_plots.intervals(targets, predictions, half, LEVEL, coverage, name, folder / "intervals.png")

    worst = np.argsort(-errors, kind="stable")[: settings.examples].tolist()
    mae, base = metrics["mae"]["value"], naive["mae"]
    return Evaluation(
        metrics,
        {
            "mae": ("MAE", "lower"),
            "rmse": ("RMSE", "lower"),
            "r2": ("R2", "higher, 1 at most"),
            "mape": ("MAPE (1 is 100%)", "lower"),
            "coverage": (f"coverage of the {LEVEL:.0%} intervals", f"{LEVEL:.2f} or a little more"),
            "interval_width": (f"width of the {LEVEL:.0%} intervals", "lower"),
        },
        f"MAE {number(mae)} instead of {number(base)} of always answering {number(mean)}, the mean of the training "
        f"split: {compared(mae, base, 'lower')}.",
        undefined(targets, half, description["calibration"]["examples"]),
        [
            "## Predictions and residuals",
            "",
            f"![predicted and actual]({folder.name}/predictions.png)",
            "",
            f"![residuals]({folder.name}/residuals.png)",
            "",
            "## Prediction intervals",
            "",
            f"Split-conformal, from the errors on the {description['calibration']['examples']} examples of the "
            f"validation split: prediction minus and plus half the width. The service gives those at {LEVEL:.0%}.",
            "",
            *table(
                ("level", "half the width", "coverage on the test split"),
                [
                    (f"{level:.0%}", number(halves[level]), "-" if share is None else f"{share:.1%}")
                    for level, share in coverage.items()
                ],
            ),
            "",
            f"![prediction intervals]({folder.name}/intervals.png)",
        ],
        "The largest errors",
        worst,
        [f"actual {number(targets[r])}, predicted {number(predictions[r])}" for r in worst],
        len(targets),
        f"The training split holds targets from {number(train_targets.min())} to {number(train_targets.max())}; "
        "answers beyond are extrapolation. The prediction intervals are equally wide for all examples: they hold their "
        "level on average, and not within every group of examples.",
    )


def undefined(targets: Numbers, half: float | None, calibrated: int) -> list[str]:
    """Returns a sentence for each metric that is undefined, and why.

    Args:
        targets: float64 [N].
        half: Half the width of the prediction intervals.
        calibrated: The number of examples in the validation split.
    """
    notes = []
    if not np.ptp(targets):
        notes.append(f"R2 is undefined: all test targets are {number(targets[0])}.")
    if zeros := int((targets == 0).sum()):
        notes.append(f"MAPE is undefined: {zeros} of {len(targets)} test targets are 0.")
    if half is None:
        least = int(np.ceil(LEVEL / (1 - LEVEL) - 1e-9))
        notes.append(
            f"The {LEVEL:.0%} prediction intervals are undefined: they take a validation split of at least {least} "
            f"examples, it has {calibrated}."
        )
    return notes
