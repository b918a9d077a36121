"""The model card, from what was measured (M. Mitchell et al., Model Cards for Model Reporting, 2019)."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .. import prepared, targets
from ..core.config import flatten
from ..core.text import number, table
from . import evaluator
from . import presenter as presenter_of
from .measures import Evaluation

if TYPE_CHECKING:
    import pandas as pd

    from .settings import Evaluate

COEFFICIENTS = 60  # in one table; of more, the largest by |estimate / standard error| are shown


def model_card(
    evaluation: Evaluation,
    worst: Sequence[str],
    history: "pd.DataFrame",
    manifest: Mapping[str, Any],
    description: Mapping[str, Any],
    data: Mapping[str, Any],
    parameters: Mapping[str, Any],
    settings: "Evaluate",
) -> str:
    """Writes the model card.

    Args:
        evaluation: What was measured on the test split.
        worst: The lines that show the worst examples.
        history: A row for each epoch.
        manifest: Of the prepared data.
        description: The content of models/model.json.
        data: The content of reports/data.json.
        parameters: The configuration, all of its sections.
        settings: Section `evaluate` of it.
    """
    target, described, presenter = targets.target(manifest), evaluator(manifest), presenter_of(manifest)
    name = description["model"]["_target_"].rsplit(".", 1)[-1]
    lines = [
        "# Model card",
        "",
        f"Model `{name}`, version `{description['sha256'][:12]}`: "
        f"{described.purpose(manifest, presenter.subject(manifest))}.",
        "",
        f"**{evaluation.headline}**",
        "",
        "## Test metrics",
        "",
        f"Bootstrap confidence intervals at {settings.confidence:.0%}, {settings.resamples} resamples.",
        "",
        *metrics(evaluation),
        *(line for note in evaluation.notes for line in ("", note)),
        "",
        *evaluation.sections,
        "",
        f"## {evaluation.worst_title}",
        "",
        *worst,
        "",
        *coefficients(
            description.get("coefficients", []),
            f"{described.COEFFICIENTS} {description.get('coefficients_note', '')}".strip(),
        ),
        "## Training",
        "",
        training(history, target.METRIC, target.HIGHER_IS_BETTER, parameters["train"].get("monitor")),
        "",
        "![learning curves](plots/learning_curves.png)",
        "",
        "## Data",
        "",
        *table(
            ("split", "examples", "content (SHA-256)"),
            [(s, data["examples"][s], f"`{manifest['digests'][s][:12]}`") for s in prepared.SPLITS],
        ),
        "",
        *shipped(min(settings.shipped, data["examples"]["test"])),
        *validation(data),
        "",
        "## Parameters",
        "",
        *table(("key", "value"), [(f"`{key}`", f"`{value}`") for key, value in flatten(dict(parameters)).items()], 2),
        "",
        "## Limits",
        "",
        "The intervals of the metrics say how much the test split's size leaves open. They say nothing of examples "
        f"that come from elsewhere or from another time than the data above. {evaluation.limits}",
    ]
    return "\n".join(lines) + "\n"


def metrics(evaluation: Evaluation) -> list[str]:
    """Returns the table of the metrics, beside those of the naive answer."""
    found = evaluation.metrics
    return table(
        ("metric", "value", "from", "to", "naive", "better"),
        [
            (label, *(number(found[name].get(end)) for end in ("value", "low", "high")), number(naive), better)
            for name, (label, better) in evaluation.labels.items()
            if name in found
            for naive in [found.get(f"baseline_{name}", {}).get("value")]
        ],
    )


def training(history: "pd.DataFrame", metric: str, higher_is_better: bool, monitor: str | None) -> str:
    """Returns how the training went.

    Args:
        history: A row for each epoch.
        metric: What was measured beside the loss.
        higher_is_better: Of that metric.
        monitor: What early stopping watched; None where there were no epochs.
    """
    if monitor is None:
        best, how = history.iloc[-1], "Fitted exactly, not epoch by epoch"
    else:
        up = monitor != "val_loss" and higher_is_better
        best = history.iloc[history[monitor].argmax() if up else history[monitor].argmin()]
        how = f"{len(history)} epochs; the weights are those of epoch {best['epoch']:.0f}"
    return f"{how}: validation loss {best['val_loss']:.4f}, validation {metric} {number(best[f'val_{metric}'])}."


def coefficients(found: Sequence[Mapping[str, Any]], reading: str) -> list[str]:
    """Returns the section on a linear model's coefficients; nothing for other models.

    Args:
        found: name, estimate, standard_error, low, high, and the class where there are several.
        reading: How they are read.
    """
    if not found:
        return []

    def strength(row: Mapping[str, Any]) -> float:
        error = row["standard_error"]
        return abs(row["estimate"]) / error if error else 0.0

    shown, more = found, ""
    if len(found) > COEFFICIENTS:
        shown = sorted(found, key=strength, reverse=True)[:COEFFICIENTS]
        more = f" Shown are the {COEFFICIENTS} of {len(found)} with the largest |estimate / standard error|; "
        more += "models/model.json holds all."
    keys = [key for key in ("class", "name", "estimate", "standard_error", "low", "high") if key in found[0]]
    heads = {"name": "column", "standard_error": "standard error", "low": "from", "high": "to"}
    return [
        "## Coefficients",
        "",
        reading + more,
        "",
        *table(
            [heads.get(key, key) for key in keys],
            [[row[key] if key in ("class", "name") else number(row[key]) for key in keys] for row in shown],
            keys.index("name") + 1,
        ),
        "",
    ]


def shipped(examples: int) -> list[str]:
    """Returns what leaves with the model beside the model: nobody should learn of it too late."""
    if not examples:
        return []
    return [f"{examples} examples of the test split are in models/page.json and go where the model goes.", ""]


def validation(data: Mapping[str, Any]) -> list[str]:
    """Returns what `prepare` found, and did with examples that were not in order.

    Args:
        data: The content of reports/data.json: skipped and duplicates, and for tables imputed cells, violations of the
            schema by column and kind, and warnings.
    """
    imputed = f"{data['imputed']} cells were imputed; " if "imputed" in data else ""
    lines = [
        f"{data['skipped']} unusable examples were left out; {imputed}{data['duplicates']} exact duplicates lie in the "
        "same split as their originals."
    ]
    rows = [
        (column, kind.replace("_", " "), count)
        for column, kinds in data.get("violations_by_column", {}).items()
        for kind, count in kinds.items()
    ]
    if rows:
        lines += ["", *table(("column", "violation", "cells"), rows, 2)]
    if warnings := data.get("warnings"):
        lines += ["", "Warnings:", "", *(f"- {' '.join(warning.split())}" for warning in warnings)]
    return lines
