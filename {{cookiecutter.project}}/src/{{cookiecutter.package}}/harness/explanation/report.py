"""What the stage writes: reports/explanations."""

import csv
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core import files, text
from ..core.paths import EXPLANATIONS, REPORTS
from ..core.text import escaped, number, table

if TYPE_CHECKING:
    from .checks import Check
    from .contracts import Explanation, Results
    from .subject import Subject

PLOTS = EXPLANATIONS / "plots"
TITLE = "## Why the model answers as it does"


def clear() -> None:
    """Removes what an earlier run wrote."""
    shutil.rmtree(EXPLANATIONS, ignore_errors=True)


def write(section: Sequence[str], values: Mapping[str, Any]) -> None:
    """Writes section.md, the section of the model card, values.json, and importance.csv for `dvc plots`.

    Args:
        section: Paragraphs; none for an empty section.
        values: The values.
    """
    PLOTS.mkdir(parents=True, exist_ok=True)
    with (PLOTS / "importance.csv").open("w", newline="", encoding="utf-8") as file:
        # A header alone, if nothing is explained: `dvc plots` expects the folder.
        rows = sorted(values.get("importance", {}).items(), key=lambda row: -row[1])
        csv.writer(file, lineterminator="\n").writerows([("part", "effect"), *rows])
    content = json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False)
    files.write_text(EXPLANATIONS / "section.md", "\n\n".join(section) + "\n" if section else "")
    files.write_text(EXPLANATIONS / "values.json", content + "\n")


def picture(title: str, path: Path) -> str:
    """A picture in the model card.

    Args:
        title: What it shows.
        path: The picture, in reports/.
    """
    return f"![{title}]({path.relative_to(REPORTS).as_posix()})"


def section(subject: "Subject", results: "Results", checks: Sequence["Check"], shown: Sequence[str]) -> list[str]:
    """Paragraphs of the model card.

    Args:
        subject: What is explained.
        results: What was found.
        checks: Tests of the explanations.
        shown: Paragraphs with the pictures.
    """
    plan, tables = subject.plan, subject.manifest["input"] == "tables"
    base = f"the mean answer for {plan.background} training rows" if tables else "that for the mean training picture"
    parts = "column" if tables else "part of the picture"
    limited = " `explain.budget` limits these numbers; a larger one takes longer." if subject.reduced else ""
    intro = [
        f"How much each {parts} adds to the model's answer, by SHAP values: the effects add up to the difference "
        f"between the answer and {base}. The answer is the {escaped(results.unit)}. "
        f"{subject.answers.SCALE} {plan.examples} of {len(subject.targets)} test examples are explained.{limited}",
        "Effects describe the model, not the world: nothing here says what would happen if a value were really "
        "changed. What tells the same shares its effect, as the model happened to learn it.",
    ]
    failed = [check for check in checks if not check.passed]
    meanings = "; ".join(dict.fromkeys(check.meaning for check in failed))  # two tests may say the same
    warning = [f"**Do not rely on these explanations without a second look: {meanings}.**"]
    rows = [(c.name, "-" if c.found is None else number(c.found, 2), c.limit, verdict(c)) for c in checks]
    tested = "\n".join(table(("test of the explanations", "found", "expected", "result"), rows, markdown=True))
    return [TITLE, *(warning if failed else []), *intro, *shown, "### Can these explanations be trusted?", tested]


def verdict(check: "Check") -> str:
    """Result of a test in words."""
    if check.found is None:
        return "not defined here"
    return "passed" if check.passed else "**failed**"


def values(subject: "Subject", results: "Results", checks: Sequence["Check"]) -> dict[str, Any]:
    """Content of values.json.

    Args:
        subject: What is explained.
        results: What was found.
        checks: Tests of the explanations.
    """
    effects = sum(abs(explanation.shap) for explanation in results.explanations) / len(results.explanations)
    return {
        "unit": results.unit,
        **subject.plan._asdict(),
        "checks": {c.key: {"found": rounded(c.found), "limit": c.limit, "passed": c.passed} for c in checks},
        "importance": named(subject, effects),
        "worst": [_one(subject, explanation) for explanation in results.worst],
        "typical": [_one(subject, explanation) for explanation in results.typical],
    }


def _one(subject: "Subject", explanation: "Explanation") -> dict[str, Any]:
    told = explanation.told._asdict() if explanation.told else {}
    return {
        "row": explanation.row,
        "caption": explanation.caption,
        "mean": rounded(explanation.base),
        "answer": rounded(explanation.answer),
        "shap": named(subject, explanation.shap),
        "lime": named(subject, explanation.lime),
        "lime_r2": rounded(explanation.fit),
        "occlusion": named(subject, explanation.occlusion),
        **told,
    }


def named(subject: "Subject", values: Any) -> dict[str, float | None]:
    """Name of a part -> its value."""
    return {name: rounded(value) for name, value in zip(subject.examples.parts, values.tolist(), strict=True)}


def rounded(value: float | None) -> float | None:
    """A number, rounded: -0.0 and rounding errors are 0; None for NaN."""
    if value is None or value != value:
        return None
    return text.rounded(value) if abs(value) > 1e-9 else 0.0
