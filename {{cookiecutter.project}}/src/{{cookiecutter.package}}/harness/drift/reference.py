"""The reference: how many training and test rows are in the bins of each variable.

`evaluate` writes models/reference.json, with the model; the service counts the rows of production in the same bins.

model        SHA-256 of the model
repeats      share of training rows that are identical to another one in all columns here
golden       answer of the model to a fixed input, see `exported.golden`
variables    kind, column, and bins (see `bins`); rows: number of rows in each bin; of `confidence` also right: number
             of rows that were answered right

kind         column                  rows of
input        a column of the table, or brightness, contrast, sharpness of a picture    the training split
answer       answer                  the test split: the class, or deciles of the number
confidence   confidence              the test split: deciles of what foretells right answers
outcome      outcome                 the test split: right, wrong
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..contracts import Description
from ..core.errors import UNREADABLE, UserError
from . import bins, subject, verdicts
from .recent import RARE, Recent

FILE = "reference.json"
INPUT, ANSWER, CONFIDENCE, OUTCOME = "input", "answer", "confidence", "outcome"
RIGHT = ("right", "wrong")
MOST = 20_000  # rows from which a reference is made


class Variable(NamedTuple):
    """One variable whose rows are counted.

    Attributes:
        kind: `input`, `answer`, `confidence` or `outcome`.
        column: Name of the column; of another kind, the kind.
        bins: Names of the bins, [K].
        labels: Names of the bins in metrics, [K].
        rows: Number of rows of the reference in each bin, int64 [K].
        right: Of confidence, how many of these were answered right, int64 [K].
        place: Values [N] -> index of the bin of each, int64 [N].
    """

    kind: str
    column: str
    bins: Sequence[str]
    labels: Sequence[str]
    rows: NDArray[np.int64]
    right: NDArray[np.int64] | None
    place: bins.Place

    def binned(self, values: NDArray[Any]) -> NDArray[np.int64]:
        """Number of rows in each bin, int64 [K].

        Args:
            values: Values of the variable, [N].
        """
        return np.bincount(self.place(values), minlength=len(self.bins))


class Reference:
    """The reference of a model.

    Attributes:
        variables: The variables.
        repeated: Whether identical rows are as good as others, because training had many.
    """

    def __init__(self, content: Mapping[str, Any], description: Description) -> None:
        """Takes what `build` made.

        Args:
            content: Content of models/reference.json.
            description: Content of models/model.json, with `decision` if there is one.
        """
        self.variables = [
            Variable(
                each["kind"],
                each["column"],
                each["bins"],
                bins.labels(each),
                np.array(each["rows"], np.int64),
                np.array(each["right"], np.int64) if "right" in each else None,
                bins.place(each),
            )
            for each in content["variables"]
        ]
        self.repeated = content["repeats"] > RARE
        self._description = description
        self._subject, self._verdicts = subject(description), verdicts(description)
        self._columns = [each.column for each in self.variables if each.kind == INPUT]

    def values(
        self, feeds: Mapping[str, NDArray[Any]], outputs: NDArray[np.float32]
    ) -> dict[tuple[str, str], NDArray[Any]]:
        """Kind and column -> the values of all variables but outcomes, [N].

        Args:
            feeds: Inputs of the model: name -> array [N, ...].
            outputs: Outputs of the model, float32 [N, ...].
        """
        found = {(INPUT, name): values for name, values in self._subject.values(feeds, self._columns).items()}
        found[ANSWER, ANSWER] = self._verdicts.answers(outputs, self._description)
        found[CONFIDENCE, CONFIDENCE] = self._verdicts.confidence(outputs, self._description)
        keys = [(each.kind, each.column) for each in self.variables if each.kind != OUTCOME]
        return {key: found[key] for key in keys}

    def count(
        self, feeds: Mapping[str, NDArray[Any]], outputs: NDArray[np.float32], recent: Recent | None = None
    ) -> dict[tuple[str, str], NDArray[np.int64]]:
        """Kind and column -> number of rows in each bin, int64 [K].

        Args:
            feeds: Inputs of the model: name -> array [N, ...].
            outputs: Outputs of the model, float32 [N, ...].
            recent: Recent rows, which are not counted again; None to count all.
        """
        values = self.values(feeds, outputs)
        if recent is not None and not self.repeated:
            inputs = {name: each for (kind, name), each in values.items() if kind == INPUT}
            fresh = recent.fresh(inputs, outputs) if inputs else np.ones(len(outputs), bool)
            values = {name: each[fresh] for name, each in values.items()}
        return {
            (each.kind, each.column): each.binned(values[each.kind, each.column])
            for each in self.variables
            if each.kind != OUTCOME
        }


def read(folder: Path, description: Description) -> Reference | None:
    """The reference of a model; None if there is none, because the model is older, or has too few rows.

    Args:
        folder: Folder of the model.
        description: Content of models/model.json, with `decision` if there is one.

    Raises:
        UserError: If models/reference.json is damaged, or that of another model.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_bytes())
        if content["model"] != description["sha256"]:
            raise ValueError("it is that of another model")
        return Reference(content, description) if content["variables"] else None
    except UNREADABLE as error:
        problem = error if isinstance(error, ValueError) else "it is damaged"
        raise UserError(f"{path} cannot be used ({problem}): run `dvc repro` or `dvc checkout`") from None


def build(
    description: Description,
    train: Iterable[Mapping[str, NDArray[Any]]],
    test: tuple[NDArray[np.float32], NDArray[Any]],
    columns: Mapping[str, str],
) -> dict[str, Any]:
    """The content of models/reference.json.

    Args:
        description: Content of models/model.json, with `decision` if there is one.
        train: Batches of the training split, as inputs of the model: name -> array [n, ...].
        test: Outputs of the model on the test split, float32 [N, ...], and the targets, [N].
        columns: Columns to count -> their type.
    """
    batches = [subject(description).values(feed, [*columns]) for feed in train]
    inputs = {name: np.concatenate([batch[name] for batch in batches]) for name in columns}
    rows = len(next(iter(inputs.values()))) if inputs else 0
    made = []
    if bins.deciles(rows):
        made = [_counted(INPUT, name, _bins(inputs[name], kind), inputs[name]) for name, kind in columns.items()]
    repeats = 1 - float(Recent().fresh(inputs).mean()) if rows else 0.0
    return {
        "model": description["sha256"],
        "repeats": float(f"{repeats:.4g}"),
        "variables": [each for each in [*made, *_of_answers(description, *test)] if each],
    }


def _of_answers(
    description: Description, outputs: NDArray[np.float32], targets: NDArray[Any]
) -> list[dict[str, Any] | None]:
    """The variables of answers, confidence and outcomes; none if the test split is too small."""
    if not bins.deciles(len(outputs)):
        return []
    judge = verdicts(description)
    answers, choices = judge.answers(outputs, description), judge.choices(description)
    sorted_in = bins.numbers(answers) if choices is None else bins.choices(choices, answers.tolist())
    found = [_counted(ANSWER, ANSWER, sorted_in, answers)]
    right = judge.right(outputs, targets, description)
    if right is None:
        return found
    confidence = judge.confidence(outputs, description)
    ranges = bins.ranges(confidence)
    places = bins.place(ranges)(confidence[right])
    extra = {"right": np.bincount(places, minlength=len(ranges["bins"])).tolist()}
    outcomes = np.where(right, *RIGHT).astype(object)
    return [
        *found,
        _counted(CONFIDENCE, CONFIDENCE, {**ranges, **extra}, confidence),
        _counted(OUTCOME, OUTCOME, bins.choices(RIGHT, []), outcomes),
    ]


def _bins(values: NDArray[Any], kind: str) -> bins.Bins | None:
    if kind == "category":
        return bins.categories(values.tolist(), len(values))
    return bins.numbers(values, kind == "date")


def _counted(kind: str, column: str, found: bins.Bins | None, values: NDArray[Any]) -> dict[str, Any] | None:
    """A variable with the number of rows in each bin; None without bins."""
    if found is None:
        return None
    return {"kind": kind, "column": column, **found, "rows": bins.reference_rows(found, values).tolist()}
