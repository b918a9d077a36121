"""Protocols of the modules that explain, and the types that they share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pathlib import Path

    from ..contracts import Description, Manifest
    from ..exported.inference import Feed, Predict

# Masks of parts, bool [n, P] -> answer, float64 [n]. A part is a column or a cell of a picture. With True, it is the
# example's own; with False, it is the background's, and the answer is the mean over the background.
Game = Callable[[NDArray[np.bool_]], NDArray[np.float64]]


class Examples(NamedTuple):
    """Examples of the test split, divided into parts that can be replaced by the background's.

    Attributes:
        parts: Names of the P parts.
        masked: Row of the test split, masks [n, P] -> batches of inputs; each mask gives as many as the background has.
        content: Row of the test split -> its bytes, from which seeds are made.
    """

    parts: Sequence[str]
    masked: Callable[[int, NDArray[np.bool_]], Iterator[Feed]]
    content: Callable[[int], bytes]


class Told(NamedTuple):
    """An explanation in words.

    Attributes:
        reasons: The strongest effects, the strongest first.
        counterfactuals: For each set of changes that gives another answer: `changes`, column -> its value in the row
            and the new one, and `answer` in words; None if it is unknown what another answer is.
    """

    reasons: Sequence[str]
    counterfactuals: Sequence[Mapping[str, Any]] | None


class Explanation(NamedTuple):
    """What the parts of an example add to the model's answer.

    Attributes:
        row: Row of the test split.
        output: Index of the explained output.
        caption: The answer and the truth, in words.
        base: Mean answer for the background.
        answer: Answer for the example.
        shap: SHAP value of each part, float64 [P].
        lime: Weight of each part in LIME's linear model, float64 [P]; empty if it was not fitted.
        fit: R2 of LIME's linear model near the example; NaN if it was not fitted.
        occlusion: What the answer loses if the part is replaced, float64 [P]; empty if it was not asked.
        told: The same in words; None for pictures, and for rows that are not shown.
    """

    row: int
    output: int
    caption: str
    base: float
    answer: float
    shap: NDArray[np.float64]
    lime: NDArray[np.float64]
    fit: float
    occlusion: NDArray[np.float64]
    told: Told | None = None


class Results(NamedTuple):
    """All that the stage found.

    Attributes:
        explanations: Of all explained rows.
        worst: Of the rows with the largest errors, beside LIME and occlusion.
        typical: Of rows with small errors, from all over the range of answers, beside LIME and occlusion.
        unit: Unit of the answers, in words.
    """

    explanations: Sequence[Explanation]
    worst: Sequence[Explanation]
    typical: Sequence[Explanation]
    unit: str


class Answers(Protocol):
    """The explained answers of a kind of target: `classification` or `regression`.

    Attributes:
        SCALE: How to read an effect, in one sentence.
    """

    SCALE: str

    def scores(self, outputs: NDArray[Any], explained: NDArray[np.int64] | int) -> NDArray[np.float64]:
        """The answers on a scale on which effects add up, float64 [N].

        Args:
            outputs: Outputs of the exported model, float32 [N, K].
            explained: Index of the explained output in each row, int64 [N], or in all.
        """

    def explained(self, outputs: NDArray[Any]) -> NDArray[np.int64]:
        """Index of the output that is explained, int64 [N].

        Args:
            outputs: Outputs of the exported model, float32 [N, K].
        """

    def unit(self, manifest: Manifest) -> str:
        """Unit of the answers, in words.

        Args:
            manifest: Manifest of the prepared data.
        """

    def verbs(self, explained: int, described: Manifest) -> tuple[str, str]:
        """What a part does that raises the answer, and one that lowers it, in words.

        Args:
            explained: Index of the explained output.
            described: Manifest of the prepared data, or content of models/model.json.
        """

    def answer(self, prediction: Mapping[str, Any]) -> str:
        """A prediction of the service, in words.

        Args:
            prediction: Element of `answers` of the target.
        """

    def errors(self, outputs: NDArray[Any], targets: NDArray[Any]) -> NDArray[np.float64]:
        """Error of each answer, float64 [N].

        Args:
            outputs: Outputs of the exported model, float32 [N, K].
            targets: Targets, [N].
        """

    def caption(self, output: NDArray[Any], target: Any, manifest: Manifest) -> str:
        """An answer and the truth, in words.

        Args:
            output: Output of the exported model, float32 [K].
            target: The example's target.
            manifest: Manifest of the prepared data.
        """


class Modality(Protocol):
    """A kind of input: `images` or `tables`."""

    def parts(self, manifest: Manifest) -> int:
        """Number of parts of an example.

        Args:
            manifest: Manifest of the prepared data.
        """

    def questions(self, manifest: Manifest) -> int:
        """Number of examples, about, that the model is asked for `teller`'s words about one.

        Args:
            manifest: Manifest of the prepared data.
        """

    def teller(
        self, predict: Predict, answers: Answers, description: Description
    ) -> Callable[[Explanation], Explanation]:
        """A function that adds to an explanation what it says in words, if there are any.

        Args:
            predict: The exported model.
            answers: The explained answers.
            description: Content of models/model.json.

        Raises:
            UserError: If a fixed column does not exist.
        """

    def background(self, manifest: Manifest, most: int) -> int:
        """Number of background examples with which a masked part is replaced.

        Args:
            manifest: Manifest of the prepared data.
            most: Maximum of the configuration.
        """

    def examples(self, manifest: Manifest, background: int) -> Examples:
        """The test examples, divided into parts.

        Args:
            manifest: Manifest of the prepared data.
            background: Number of background examples.
        """

    def present(
        self, results: Results, predict: Predict, answers: Answers, manifest: Manifest, folder: Path
    ) -> list[str]:
        """Draws the results; paragraphs of the model card.

        Args:
            results: What was found.
            predict: The exported model.
            answers: The explained answers.
            manifest: Manifest of the prepared data.
            folder: Folder of the pictures.
        """
