"""What is explained: the exported model, its test answers, and the plan."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import prepared
from ..core.paths import MODELS
from ..evaluation.metrics import evenly_spaced
from ..evaluation.workspace import answers as test_answers
from ..exported import inference, model
from . import answers, attribution, modality
from .contracts import Answers, Examples, Explanation, Game, Modality, Results
from .plan import Plan, multiplications, plan
from .settings import Explain

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from ..contracts import Manifest
    from ..exported.inference import Predict

EMPTY = np.empty(0)


class Subject(NamedTuple):
    """What is explained.

    Attributes:
        manifest: Manifest of the prepared data.
        predict: The exported model.
        outputs: Its outputs on the test split, float32 [N, K].
        targets: Targets of the test split, [N].
        answers: The explained answers.
        modality: The kind of input.
        tell: Adds to an explanation what it says in words.
        examples: The test examples, divided into parts.
        plan: How much is explained.
        reduced: Whether the budget reduced the plan.
        seed: Seed of whatever is sampled.
    """

    manifest: Manifest
    predict: Predict
    outputs: NDArray[np.float32]
    targets: NDArray[Any]
    answers: Answers
    modality: Modality
    tell: Callable[[Explanation], Explanation]
    examples: Examples
    plan: Plan
    reduced: bool
    seed: int

    def game(self, row: int, output: int, predict: Predict | None = None) -> Game:
        """The answer for an example as a function of the parts that are its own."""
        return attribution.game(self.examples, predict or self.predict, self.answers, row, output)

    def shap(self, answer: Game, row: int, number: int = 0) -> NDArray[np.float64]:
        """SHAP values of an example, by the plan."""
        seed = attribution.seed(self.examples, row, self.seed + number)
        return attribution.shap(answer, len(self.examples.parts), seed)

    def lime(self, answer: Game, row: int, number: int = 0) -> tuple[NDArray[np.float64], float]:
        """LIME's weights of an example, and their fit."""
        return attribution.lime(
            answer, len(self.examples.parts), attribution.seed(self.examples, row, self.seed + number)
        )

    def present(self, results: Results, folder: Path) -> list[str]:
        """Draws the results; paragraphs of the model card."""
        folder.mkdir(parents=True)
        return self.modality.present(results, self.predict, self.answers, self.manifest, folder)


def read(settings: Explain) -> Subject:
    """Reads model and data, and plans.

    Args:
        settings: Section `explain` of the configuration.

    Raises:
        UserError: If the model does not fit its description, the test split is empty, an answer is not finite, or a
            fixed column does not exist.
    """
    description, manifest = model.read(MODELS), prepared.manifest()
    predict = inference.predictor(MODELS / "model.onnx")
    outputs, targets = test_answers(predict, manifest)
    explained, kind = modality(manifest), answers(manifest)
    tell = explained.teller(predict, kind, description)
    parts, background = explained.parts(manifest), explained.background(manifest, settings.background)
    work = multiplications(MODELS / "model.onnx")
    chosen, reduced = plan(parts, work, background, len(targets), settings, explained.questions(manifest))
    examples = explained.examples(manifest, chosen.background)
    return Subject(manifest, predict, outputs, targets, kind, explained, tell, examples, chosen, reduced, settings.seed)


def middles(count: int, parts: int) -> NDArray[np.int64]:
    """Index in the middle of each of some equal parts, int64 [parts]: unlike the ends, it is no extreme.

    Args:
        count: Number of indices, `parts` at least.
        parts: Number of parts.
    """
    return (2 * np.arange(parts) + 1) * count // (2 * parts)


def explain(subject: Subject) -> Results:
    """Explains test examples: those of the plan, the worst and typical ones.

    Args:
        subject: What is explained.
    """
    from tqdm import tqdm  # quiet if stderr is not a terminal

    errors = subject.answers.errors(subject.outputs, subject.targets)
    explained = subject.answers.explained(subject.outputs)
    scores = subject.answers.scores(subject.outputs, explained)
    rows = evenly_spaced(len(errors), subject.plan.examples)
    worst = np.argsort(-errors, kind="stable")[: subject.plan.shown]
    good = rows[errors[rows] <= np.median(errors[rows])]  # a typical answer is none of the worst
    ordered = good[np.lexsort((scores[good], explained[good]))]
    typical = ordered[middles(len(ordered), subject.plan.shown)]

    @cache  # most of the rows that are shown are among those of the plan
    def one(row: int) -> Explanation:
        output = int(explained[row])
        answer, parts = subject.game(row, output), len(subject.examples.parts)
        return Explanation(
            row=row,
            output=output,
            caption=subject.answers.caption(subject.outputs[row], subject.targets[row], subject.manifest),
            base=float(answer(np.zeros((1, parts), np.bool_))[0]),
            answer=float(scores[row]),
            shap=subject.shap(answer, row),
            lime=EMPTY,
            fit=float("nan"),
            occlusion=EMPTY,
        )

    def shown(row: int) -> Explanation:
        answer = subject.game(row, int(explained[row]))
        weights, fit = subject.lime(answer, row)
        occlusion = attribution.occlusion(answer, len(subject.examples.parts))
        return subject.tell(one(row)._replace(lime=weights, fit=fit, occlusion=occlusion))

    return Results(
        [one(row) for row in tqdm(rows.tolist(), desc="explain", unit=" examples", disable=None)],
        [shown(row) for row in worst.tolist()],
        [shown(row) for row in typical.tolist()],
        subject.answers.unit(subject.manifest),
    )
