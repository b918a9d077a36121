"""Rows before and after an attack."""

import csv
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..core.paths import ROBUSTNESS
from ..core.text import entry, table
from ..evaluation.tables import row_names
from ..preparation.schema import private
from . import report
from .contracts import Study

if TYPE_CHECKING:
    from .tables import Columns

SHOWN, LISTED = 6, 3  # number of rows, and of the changes of a row that are listed


def write(study: Study, columns: "Columns", clean: NDArray[np.float64]) -> list[str]:
    """Writes pairs.csv, every changed number of a few rows; gives lines of the model card.

    Args:
        study: All trials.
        columns: The columns that change.
        clean: The unchanged numbers, [n, F].
    """
    ROBUSTNESS.mkdir(parents=True, exist_ok=True)
    trial = report.strongest(study, study.middle)
    assert trial.values is not None
    places = report.harmed(study, trial)[:SHOWN]
    if not len(places):
        return []
    hidden = private()
    named = row_names(study.subject.rows[places].tolist())
    steps = np.abs(trial.values - clean) / np.where(columns.deviation > 0, columns.deviation, 1)
    rows, cells = [], []
    for place, name in zip(places, named, strict=True):
        ordered = np.argsort(-np.nan_to_num(steps[place]), kind="stable")
        order = [c for c in ordered if steps[place, c] > 0 and columns.names[c] not in hidden]
        pairs = [(columns.names[c], entry(clean[place, c], 6), entry(trial.values[place, c], 6)) for c in order]
        cells += [(name, *pair) for pair in pairs]
        rows.append((name, listed(pairs), *report.answers(study, trial, place)))
    with (ROBUSTNESS / "pairs.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([("row", "column", "before", "after"), *cells])
    title = f"Rows after {trial.title}, epsilon {trial.strength:g} {study.unit}"
    lines = table(("row", "largest changes", "answer before", "after"), rows, words=4)
    return [f"{title}; [pairs.csv](robustness/pairs.csv) has all changes:", "\n".join(lines)]


def listed(pairs: Sequence[tuple[str, str, str]]) -> str:
    """The first changes of a row, in words.

    Args:
        pairs: Column, value before, value after.
    """
    more = f" and {len(pairs) - LISTED} more" if len(pairs) > LISTED else ""
    return "; ".join(f"{name} {before} to {after}" for name, before, after in pairs[:LISTED]) + more
