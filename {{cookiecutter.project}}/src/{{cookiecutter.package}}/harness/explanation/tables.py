"""Explanations of tables: the parts are the columns of the user's table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core import config
from ..core.text import number, table
from ..evaluation.metrics import evenly_spaced
from ..evaluation.settings import Evaluate, check_fixed
from ..evaluation.tables import QUANTILES, reference
from ..exported import counterfactuals
from ..preparation.schema import private
from ..prepared.tables import requests, rows
from . import table_partial, table_words
from .contracts import Answers, Examples, Explanation, Results
from .ranks import mean_correlation
from .report import picture

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from ..contracts import Description, Manifest
    from ..exported.inference import Feed, Predict

BATCH = 8192  # rows that the model is given at a time
STRONGEST = 10  # columns in the table of the model card
PANELS = 4  # columns whose dependence is drawn
CLASSES = 4  # classes that are told apart in a plot
SEVERAL = (
    "Each row is explained for the class that the model predicts. A value that raises the answer for one class lowers "
    "it for others, so that there is no direction for all rows."
)


def parts(manifest: Manifest) -> int:
    """Number of columns."""
    return len(manifest["columns"])


def questions(manifest: Manifest) -> int:
    """Number of rows, about, that the model is asked for the words about one."""
    return counterfactuals.questions(parts(manifest), len(QUANTILES))


def teller(predict: Predict, answers: Answers, description: Description) -> Callable[[Explanation], Explanation]:
    """A function that adds to an explanation its reasons, and what would change the answer.

    Args:
        predict: The exported model.
        answers: The explained answers.
        description: Content of models/model.json.

    Raises:
        UserError: If a fixed column does not exist.
    """
    fixed = config.load("evaluate", Evaluate).fixed
    check_fixed(fixed, description)
    return table_words.teller(predict, answers, description, {**reference(), "fixed": fixed}, private())


def background(manifest: Manifest, most: int) -> int:
    """Number of training rows that replace a column's value."""
    return int(min(most, manifest["examples"]["train"]))


def examples(manifest: Manifest, background: int) -> Examples:
    """The test rows, divided into columns.

    Args:
        manifest: Manifest of the prepared data.
        background: Number of training rows, evenly spaced over the split.
    """
    names = [column["name"] for column in manifest["columns"]]
    others = rows("train", evenly_spaced(manifest["examples"]["train"], background).tolist())

    @lru_cache(maxsize=1)
    def own(row: int) -> dict[str, NDArray[Any]]:
        return rows("test", [row])

    def masked(row: int, masks: NDArray[np.bool_]) -> Iterator[Feed]:
        step = max(1, BATCH // background)
        for start in range(0, len(masks), step):
            part = masks[start : start + step]
            yield {
                name: np.where(part[:, [place]], own(row)[name], others[name]).ravel()
                for place, name in enumerate(names)
            }

    return Examples(names, masked, lambda row: "\0".join(str(own(row)[name][0]) for name in names).encode())


def present(results: Results, predict: Predict, answers: Answers, manifest: Manifest, folder: Path) -> list[str]:
    """Draws the results; paragraphs of the model card.

    Args:
        results: What was found.
        predict: The exported model.
        answers: The explained answers.
        manifest: Manifest of the prepared data.
        folder: Folder of the pictures.
    """
    from . import table_plots

    names, hidden = [column["name"] for column in manifest["columns"]], private()
    kinds = [column["type"] for column in manifest["columns"]]
    explained = [explanation.row for explanation in results.explanations]
    effects = np.array([explanation.shap for explanation in results.explanations])
    mean = np.abs(effects).mean(axis=0)
    order = np.argsort(-mean, kind="stable")
    values = rows("test", explained)

    table_plots.importance([names[k] for k in order], mean[order], results.unit, folder / "importance.png")
    public = [k for k in order if names[k] not in hidden]
    drawn = [(names[k], kinds[k], values[names[k]], effects[:, k]) for k in public]
    outputs = np.array([explanation.output for explanation in results.explanations])
    groups = grouped(outputs, manifest)
    wanted = [np.full(len(outputs), output) for output in groups.values()] or [outputs]
    curves = [
        (names[k], kinds[k], *table_partial.partial(names[k], kinds[k], values, wanted, predict, answers))
        for k in public[:PANELS]
    ]
    if drawn:
        table_plots.effects(drawn, results.unit, folder / "effects.png")
        table_plots.dependence(drawn[:PANELS], outputs, groups, results.unit, folder / "dependence.png")
        table_plots.partial_dependence(curves, groups, results.unit, folder / "partial_dependence.png")
    for name, shown in (("worst", results.worst), ("typical", results.typical)):
        cells = requests("test", [explanation.row for explanation in shown])
        labels = [
            [(column, "private" if column in hidden else table_words.cell(row[column])) for column in names]
            for row in cells
        ]
        table_plots.waterfalls(shown, labels, results.unit, folder / f"{name}.png")
    strongest = [
        (names[k], "-" if groups else direction(kinds[k], values[names[k]], effects[:, k]), number(float(mean[k]), 3))
        for k in order[:STRONGEST]
    ]
    return [
        "### What the answers depend on",
        *([SEVERAL] if groups else []),
        "\n".join(table(("column", "higher values", "mean size of the effect"), strongest, 2)),
        picture("importance", folder / "importance.png"),
        *(_dependences(groups, folder) if drawn else []),
        "### The worst answers, step by step",
        "The largest errors first. From the mean answer at the bottom, each column moves the answer to the right "
        "(blue) or left (orange), up to the answer for the row at the top. A diamond is where LIME, another method, "
        "ends the bar of the column; its R² says how well LIME fits, 1 is perfectly.",
        picture("the worst answers", folder / "worst.png"),
        "### Typical answers, step by step",
        picture("typical answers", folder / "typical.png"),
        "### These answers in words, and what would change them",
        *table_words.paragraphs([*results.worst, *results.typical], config.load("evaluate", Evaluate).fixed),
    ]


def _dependences(groups: Mapping[str, int], folder: Path) -> list[str]:
    """Paragraphs of the model card: effects by the values of columns."""
    return [
        picture("effects", folder / "effects.png"),
        "In the next picture, each dot is a test row: its value of the column, and what that value adds to its "
        "answer. In the one after it, one column of each row is changed and the others stay: "
        f"{'a line is the mean answer of all rows' if groups else 'a gray line is the answer for one row, blue is '}"
        f"{' for a class' if groups else 'their mean'}. It asks the model about rows that may not exist if columns "
        "depend on each other.",
        picture("dependence", folder / "dependence.png"),
        picture("partial dependence", folder / "partial_dependence.png"),
    ]


def grouped(outputs: NDArray[np.int64], manifest: Manifest) -> dict[str, int]:
    """The classes that are explained most often: name -> output; {} if it is always the same one.

    Args:
        outputs: Index of the explained output of each row, [N].
        manifest: Manifest of the prepared data.
    """
    if len(manifest.get("classes", ())) <= 2:
        return {}
    counts = np.bincount(outputs)
    return {manifest["classes"][k]: k for k in np.argsort(-counts, kind="stable")[:CLASSES].tolist() if counts[k]}


def direction(kind: str, values: NDArray[Any], effects: NDArray[np.float64]) -> str:
    """Whether higher values of a column raise the answer, in words.

    Args:
        kind: Type of the column.
        values: Values, [N].
        effects: SHAP values, float64 [N].
    """
    if kind == "category":
        return "-"
    known = ~np.isnan(values)
    found = mean_correlation([(values[known], effects[known])]) if known.any() else float("nan")
    if not abs(found) >= 0.5:  # or NaN: all values or all effects are equal
        return "both" if abs(found) < 0.5 else "-"
    return "raise the answer" if found > 0 else "lower the answer"
