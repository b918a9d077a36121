"""The model card.

Sources: M. Mitchell et al., Model Cards for Model Reporting, FAT* 2019; J. A. Hanley, A. Lippman-Hand, If Nothing Goes
Wrong, Is Everything All Right?, JAMA 249, 1983 (3 / n).
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .. import prepared, targets
from ..contracts import Target
from ..core.config import flatten
from ..core.text import code, escaped, number, percent, table
from ..targets import monitor
from . import evaluator, metadata, presenter
from .contracts import Evaluation
from .workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

    from .settings import Evaluate

WIDTH = (
    "One without width, such as 1 to 1, is no certainty: if none of n examples is an exception, up to 3 / n of new "
    "ones may be."
)
COEFFICIENTS = 60  # maximum number in a table: those with the largest |estimate / standard error|, or share


def model_card(workspace: Workspace, evaluation: Evaluation, worst: Sequence[str], settings: "Evaluate") -> str:
    """The model card in Markdown, after a block of metadata.

    Args:
        workspace: Results of the earlier stages.
        evaluation: Results on the test split.
        worst: Lines that show the examples with the largest errors.
        settings: Section `evaluate` of the configuration.
    """
    paragraphs = [
        metadata.block(workspace, evaluation),
        "# Model card",
        heading(workspace),
        f"**{evaluation.headline}**",
        "## Test metrics",
        f"Bootstrap confidence intervals at {100 * settings.confidence:g}%, {settings.resamples} resamples. {WIDTH}",
        metrics(evaluation),
        *evaluation.notes,
        *evaluation.sections,
        f"## {evaluation.worst.title}",
        "\n".join(worst),
        *coefficients(workspace),
        *importances(workspace),
        *workspace.sections,
        "## Training",
        training(workspace.history, targets.target(workspace.manifest), workspace.parameters["train"]),
        "![learning curves](plots/learning_curves.png)",
        "## Data",
        splits(workspace),
        *examples_on_the_page(min(settings.shipped, workspace.data["examples"]["test"])),
        *validation(workspace.data),
        "## Parameters",
        parameters(workspace),
        "## Limits",
        "The confidence intervals cover only the sampling error of a test split of this size. They do not apply to "
        f"examples from other sources or times than the data above. {evaluation.limits}",
    ]
    return "\n\n".join(paragraphs) + "\n"


def heading(workspace: Workspace) -> str:
    """Name, version and task of the model, in one sentence.

    Args:
        workspace: Results of the earlier stages.
    """
    manifest, description = workspace.manifest, workspace.description
    name = description["model"]["_target_"].rsplit(".", 1)[-1]
    purpose = evaluator(manifest).purpose(manifest, presenter(manifest).subject(manifest))
    return f"Model `{name}`, version `{description['sha256'][:12]}`: {purpose}."


def metrics(evaluation: Evaluation) -> str:
    """Table of the metrics with their intervals, and of the baseline.

    Args:
        evaluation: Results on the test split.
    """
    rows = []
    for name, (label, better) in evaluation.labels.items():
        if estimate := evaluation.estimates.get(name):
            baseline = evaluation.estimates.get(f"baseline_{name}")
            values = [*estimate, baseline.value if baseline else None]
            rows.append((label, *map(number, values), better))
    return "\n".join(table(("metric", "value", "from", "to", "baseline", "better"), rows))


def step(section: Mapping[str, Any]) -> str:
    """Name of a row of the history: an iteration of boosting, or an epoch.

    Args:
        section: Section `train` of the configuration.
    """
    return "iteration" if "iterations" in section else "epoch"


def training(history: "pd.DataFrame", target: Target, section: Mapping[str, Any]) -> str:
    """Sentence on the number of epochs and the best epoch's metrics.

    Args:
        history: A row for each epoch: loss and metric on both splits.
        target: Target of the model, whose metric is shown.
        section: Section `train` of the configuration; without `monitor`, the model has no epochs.
    """
    monitored = section.get("monitor")
    best, value = history.iloc[monitor.best_epoch(history, monitored, target)], f"val_{target.METRIC}"
    summary = "Fitted in one go, without epochs"
    if step(section) == "iteration":
        summary = f"{len(history)} iterations, of which the model keeps the first {best['epoch'] + 1:.0f}"
    elif monitored is not None:
        summary = f"{len(history)} epochs; the weights are those of epoch {best['epoch']:.0f}"
    return f"{summary}: validation loss {best['val_loss']:.4f}, validation {target.METRIC} {number(best[value])}."


def coefficients(workspace: Workspace) -> list[str]:
    """Paragraphs on the coefficients of a linear model; [] for other models.

    Args:
        workspace: Results of the earlier stages.
    """
    rows: Sequence[Mapping[str, Any]] = workspace.description.get("coefficients", [])
    if not rows:
        return []
    note = escaped(workspace.description.get("coefficients_note") or "")
    explanation = [evaluator(workspace.manifest).COEFFICIENTS, note]
    if len(rows) > COEFFICIENTS:
        explanation.append(
            f"The table shows the {COEFFICIENTS} of {len(rows)} coefficients with the largest |estimate / standard "
            "error|; models/model.json has all of them."
        )
        rows = sorted(rows, key=_strength, reverse=True)[:COEFFICIENTS]
    titles = {"name": "column", "standard_error": "standard error", "low": "from", "high": "to"}
    keys = [key for key in ("class", "name", "estimate", "standard_error", "low", "high") if key in rows[0]]
    cells = [[row[key] if key in ("class", "name") else number(row[key]) for key in keys] for row in rows]
    words = sum(key in ("class", "name") for key in keys)
    lines = table([titles.get(key, key) for key in keys], cells, words)
    return ["## Coefficients", " ".join(filter(None, explanation)), "\n".join(lines)]


def importances(workspace: Workspace) -> list[str]:
    """Paragraphs on the importance of each column; [] for a model that does not measure it.

    Args:
        workspace: Results of the earlier stages.
    """
    rows: Sequence[Mapping[str, Any]] = workspace.description.get("importances", [])
    if not rows:
        return []
    explanation = [escaped(workspace.description.get("importances_note") or "")]
    if len(rows) > COEFFICIENTS:
        explanation.append(
            f"The table shows the first {COEFFICIENTS} of {len(rows)} columns; models/model.json has all of them."
        )
    cells = [(row["name"], percent(row["share"]), f"{row['splits']:,}") for row in rows[:COEFFICIENTS]]
    lines = table(("column", "share", "splits"), cells)
    return ["## Importance of the columns", " ".join(filter(None, explanation)), "\n".join(lines)]


def _strength(row: Mapping[str, Any]) -> float:
    """|estimate / standard error| of a coefficient; 0 without an error."""
    error = row["standard_error"]
    return abs(row["estimate"]) / error if error else 0.0


def splits(workspace: Workspace) -> str:
    """Table of the splits: number of examples and digest.

    Args:
        workspace: Results of the earlier stages.
    """
    examples, digests = workspace.data["examples"], workspace.manifest["digests"]
    rows = [(split, examples[split], code(digests[split][:12])) for split in prepared.SPLITS]
    return "\n".join(table(("split", "examples", "content (SHA-256)"), rows, markdown=True))


def parameters(workspace: Workspace) -> str:
    """Table of the configuration.

    Args:
        workspace: Results of the earlier stages.
    """
    rows = [(code(key), code(str(value))) for key, value in flatten(dict(workspace.parameters)).items()]
    return "\n".join(table(("key", "value"), rows, 2, markdown=True))


def examples_on_the_page(examples: int) -> list[str]:
    """Notice that test examples are released with the model, if any.

    Args:
        examples: Number of examples in models/page.json.
    """
    if not examples:
        return []
    return [f"{examples} examples of the test split are released with the model, in models/page.json."]


def validation(data: Mapping[str, Any]) -> list[str]:
    """Paragraphs on the examples that `prepare` dropped, and its warnings.

    Args:
        data: Content of reports/data.json: dropped examples and duplicates; for tables also imputed cells, violations
            of the schema by column and kind, and warnings.
    """
    imputed = f"{data['imputed']} cells were imputed; " if "imputed" in data else ""
    paragraphs = [
        f"{data['skipped']} unusable examples were dropped; {imputed}{data['duplicates']} exact duplicates are in the "
        "same split as their originals."
    ]
    violations = [
        (column, kind.replace("_", " "), count)
        for column, kinds in data.get("violations_by_column", {}).items()
        for kind, count in kinds.items()
    ]
    if violations:
        paragraphs.append("\n".join(table(("column", "violation", "cells"), violations, 2)))
    if warnings := data.get("warnings"):
        paragraphs += ["Warnings:", "\n".join(f"- {escaped(warning)}" for warning in warnings)]
    return paragraphs
