"""Explanations of single answers of the exported model: attributions, reasons in words, counterfactuals."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .. import targets
from ..core.text import number
from . import counterfactuals
from .attribution import attribute

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..contracts import Description, Goal, Question

    Feeds = Mapping[str, NDArray[Any]]

REASONS = 5  # maximum number, in words
CHUNK = 2**20  # maximum number of numbers that the model takes at once
COUNTERFACTUALS = 3  # maximum number for each goal


class Parts(Protocol):
    """The parts of an input: a class of `images` or `tables`.

    Attributes:
        count: Number of parts.
        rows: Number of coalitions that explain one input, about.
    """

    count: int
    rows: int

    def mixed(self, row: Feeds, coalitions: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
        """Inputs with the parts of each coalition, the others from the baseline."""

    def text(self, row: Feeds, place: int) -> str:
        """One of the parts in words."""

    def report(self, values: NDArray[np.float64]) -> Any:
        """Attributions in a response of the service."""


def module(description: Description) -> Any:
    """The module of the parts, `images` or `tables`: its class `Parts`, and `schema` of the attributions.

    Args:
        description: Content of models/model.json.
    """
    return importlib.import_module(f".{description['input']}", __package__)


class Explainer:
    """Explains answers of a model.

    Attributes:
        parts: The parts of its inputs.
        has_counterfactuals: Whether there are counterfactuals: for rows of a table.
    """

    def __init__(
        self, run: Callable[[Feeds], NDArray[Any]], description: Description, reference: Mapping[str, Any]
    ) -> None:
        """Reads the baseline.

        Args:
            run: The model: inputs -> outputs [N, ...].
            description: Content of models/model.json.
            reference: Content of models/explain.json.
        """
        self._run = run
        self._description = description
        self._target = targets.target(description)
        self.parts: Any = module(description).Parts(description, reference)
        self.has_counterfactuals = hasattr(self.parts, "changed")

    def explain(self, feeds: Feeds, with_counterfactuals: bool = False) -> tuple[NDArray[Any], list[dict[str, Any]]]:
        """Explains the answer to each input.

        Args:
            feeds: Inputs of the model: name -> array [N, ...].
            with_counterfactuals: Whether to look for these, too.

        Returns:
            Outputs [N, ...], and for each input what is explained, the answers to baseline and input in these units,
            attributions, reasons, and `counterfactuals` if asked for.
        """
        outputs = self._run(feeds)
        explanations = []
        for place in range(len(outputs)):
            row = {name: values[place : place + 1] for name, values in feeds.items()}
            question = self._target.question(outputs[place : place + 1], self._description)
            found = self.attributions(row, question)
            if with_counterfactuals:
                found["counterfactuals"] = self.counterfactuals(row, question)
            explanations.append(found)
        return outputs, explanations

    def attributions(self, row: Feeds, question: Question) -> dict[str, Any]:
        """Attributions of an answer, and the strongest of them in words.

        Args:
            row: One input: name -> array [1, ...].
            question: What is explained of the answer to it.
        """

        def answer(coalitions: NDArray[np.bool_]) -> NDArray[np.float64]:
            size = max(1, CHUNK // sum(values.size for values in row.values()))
            starts = range(0, len(coalitions), size)
            mixed = (self.parts.mixed(row, coalitions[start : start + size]) for start in starts)
            return np.concatenate([question.score(self._run(feeds)) for feeds in mixed])

        found = attribute(answer, self.parts.count, self.parts.rows)
        return {
            "explained": question.explained,
            "baseline": found.baseline,
            "answer": found.answer,
            "attributions": self.parts.report(found.values),
            "reasons": list(reasons(partial(self.parts.text, row), found.values, question.raises, question.lowers)),
        }

    def counterfactuals(self, row: Feeds, question: Question) -> list[dict[str, Any]]:
        """What would change the answer to a row: the fewest columns, each set verified by asking the model.

        Args:
            row: One row: column -> [1].
            question: The answer to change.

        Returns:
            For each set of changes: column -> its value in the row and the new one, and the prediction then.
        """
        return [found for goal in question.goals for found in self._reach(row, question, goal)]

    def _reach(self, row: Feeds, question: Question, goal: Goal) -> Iterator[dict[str, Any]]:
        def ask(trials: Sequence[counterfactuals.Changes]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
            size = max(1, CHUNK // len(row))
            starts = range(0, len(trials), size)
            outputs = np.concatenate([self._run(self.parts.changed(row, trials[at : at + size])) for at in starts])
            return goal.sign * question.score(outputs), goal.reached(outputs)

        for changes in counterfactuals.search(ask, self.parts.costs(row), COUNTERFACTUALS):
            output = self._run(self.parts.changed(row, [changes]))
            if goal.reached(output)[0]:  # also alone, since the answer to a row of many may be rounded otherwise
                [prediction] = self._target.answers(output, self._description)
                yield {"changes": self.parts.described(row, changes), "prediction": prediction}


def reasons(text: Callable[[int], str], values: NDArray[np.float64], raises: str, lowers: str) -> Iterator[str]:
    """The strongest attributions in words, the strongest first.

    Args:
        text: Index of a part -> the part in words.
        values: Attributions, float64 [P].
        raises: What a part with a positive attribution does, in words.
        lowers: What one with a negative attribution does.
    """
    for place in np.argsort(-np.abs(values), kind="stable")[:REASONS]:
        if value := values[place]:
            verb, sign = (raises, "+") if value > 0 else (lowers, "-")
            yield f"{text(int(place))} {verb} ({sign}{number(abs(value), 3)})"
