"""Explanations of single rows in words: reasons, and what would change the answer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .. import targets
from ..core.text import entry, escaped, in_line
from ..evaluation.tables import row_names
from ..exported.counterfactuals import MOST
from ..exported.explainer import Explainer, reasons
from ..prepared.tables import rows
from .contracts import Answers, Explanation, Told

if TYPE_CHECKING:
    from ..contracts import Description
    from ..exported.inference import Predict

REASONS, LONGEST = 3, 40  # number in the model card; characters of a value


def teller(
    predict: Predict,
    answers: Answers,
    description: Description,
    reference: Mapping[str, Any],
    private: Collection[str],
) -> Callable[[Explanation], Explanation]:
    """A function that adds to an explanation what it says in words.

    Args:
        predict: The exported model.
        answers: The explained answers.
        description: Content of models/model.json.
        reference: Content of models/explain.json.
        private: Columns that are told without their values.
    """
    columns = [column["name"] for column in description["columns"]]
    explainer = Explainer(lambda feed: predict([feed]), description, reference)

    def tell(explanation: Explanation) -> Explanation:
        row = rows("test", [explanation.row])
        question = targets.target(description).question(predict([row]), description)
        verbs = answers.verbs(explanation.output, description)

        def text(place: int) -> str:
            name: str = columns[place]
            return name if name in private else str(explainer.parts.text(row, place))

        told = Told(
            list(reasons(text, explanation.shap, *verbs)),
            [
                {"changes": found["changes"], "answer": answers.answer(found["prediction"])}
                for found in explainer.counterfactuals(row, question)
            ]
            if question.goals
            else None,
        )
        return explanation._replace(told=told)

    return tell


def paragraphs(shown: Sequence[Explanation], fixed: Sequence[str]) -> Iterator[str]:
    """Paragraphs of the model card.

    Args:
        shown: The explanations, with what they say in words.
        fixed: Columns that stay as they are.
    """
    unchanged = f" {', '.join(map(escaped, fixed))} stay as they are (`evaluate.fixed`)." if fixed else ""
    yield (
        "Of each row in the pictures above: the strongest effects, with the value of the column and the typical one, "
        f"and the fewest changes after which the model gives another answer. At most {MOST} columns are changed, to "
        "values from the 5% to the 95% quantile of the training rows, or to their most frequent levels; each change "
        f"was verified by asking the model.{unchanged} They say how the model answers, not what would follow if "
        "somebody changed the world."
    )
    called = row_names([explanation.row for explanation in shown])
    pairs = zip(shown, called, strict=True)
    yield "\n".join(line for explanation, name in pairs for line in lines(explanation, name))


def lines(explanation: Explanation, name: str) -> Iterator[str]:
    """Lines of the model card about one row.

    Args:
        explanation: Its explanation.
        name: Its name.
    """
    told = explanation.told
    assert told is not None
    yield f"- **{escaped(name)}**: {escaped(explanation.caption)}"
    yield f"  - Strongest effects: {'; '.join(map(escaped, told.reasons[:REASONS])) or 'none'}."
    if told.counterfactuals == []:
        yield "  - No such change gives another answer."
    for found in told.counterfactuals or []:
        changes = ", ".join(
            f"{escaped(column)} = {escaped(cell(change['to']))} instead of {escaped(cell(change['from']))}"
            for column, change in found["changes"].items()
        )
        yield f"  - It would be {escaped(found['answer'])} with {changes}."


def cell(value: Any) -> str:
    """A cell of a row as text."""
    if value is None:
        return "missing"
    text = entry(value) if isinstance(value, float) else in_line(str(value))
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3].rstrip()}..."
