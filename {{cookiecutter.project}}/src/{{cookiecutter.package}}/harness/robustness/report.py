"""Values, curves and section of the model card: reports/robustness/."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core import files, text
from ..core.paths import ROBUSTNESS
from ..core.text import number, table
from ..evaluation.metrics import Estimate, bootstrap, interval, mean
from .contracts import Study, Trial


def strongest(study: Study, epsilon: float) -> Trial:
    """The attack that makes the mean score worst; noise only if there is no other.

    Args:
        study: All trials.
        epsilon: One of the epsilons.
    """
    kind, targets = study.subject.kind, study.subject.targets
    tried = [trial for trial in study.attacks if trial.strength == epsilon and trial.name != "noise"]
    return max(tried, key=lambda trial: kind.HARM * kind.score(trial.outputs, targets).mean())


def harmed(study: Study, trial: Trial) -> NDArray[np.int64]:
    """The examples that a trial makes worse, the worst first.

    Args:
        study: All trials.
        trial: One of them.
    """
    kind, targets = study.subject.kind, study.subject.targets
    harm = kind.HARM * (kind.score(trial.outputs, targets) - kind.score(study.clean, targets))
    order = np.argsort(-harm, kind="stable")
    return order[harm[order] > 0]


def answers(study: Study, trial: Trial, place: int) -> tuple[str, str]:
    """The answers for one example before and after a trial, as text.

    Args:
        study: All trials.
        trial: One of them.
        place: Which of the examples.
    """
    subject = study.subject
    before, after = (subject.kind.answer(outputs[place], subject.manifest) for outputs in (study.clean, trial.outputs))
    return before, after


def write(study: Study, shown: Sequence[str]) -> None:
    """Writes values.json, curves.csv, curves.png and section.md.

    Args:
        study: All trials.
        shown: Lines of the model card that show examples.
    """
    from ..evaluation import plots
    from . import plots as curves

    clean, *estimates = estimated(study)
    content = values(study, clean, estimates)
    files.write_text(ROBUSTNESS / "values.json", json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    rows = content["attacks"] + content["changes"]
    plots.write_csv({key: np.array([row[key] for row in rows]) for key in rows[0]}, ROBUSTNESS / "curves.csv")
    curves.draw(study, clean, estimates)
    files.write_text(ROBUSTNESS / "section.md", "\n\n".join(section(study, clean, estimates, shown)) + "\n")


def estimated(study: Study) -> list[Estimate]:
    """Mean score, with a bootstrap interval: unchanged, then after each trial.

    Args:
        study: All trials.
    """
    subject = study.subject
    outputs = [study.clean, *(trial.outputs for trial in (*study.attacks, *study.changes))]
    means = {str(place): mean(subject.kind.score(each, subject.targets)) for place, each in enumerate(outputs)}
    settings = subject.settings
    found = bootstrap(
        lambda weights: {place: value(weights) for place, value in means.items()},
        len(subject.targets),
        settings.resamples,
        settings.confidence,
        settings.seed,
    )
    return list(found.values())


def values(study: Study, clean: Estimate, estimates: Sequence[Estimate]) -> dict[str, Any]:
    """Content of values.json.

    Args:
        study: All trials.
        clean: Mean score of the unchanged examples.
        estimates: Mean score after each trial.
    """
    subject = study.subject
    rows = [
        {"name": trial.name, "strength": trial.strength, **rounded(estimate), "examples": len(subject.targets)}
        for trial, estimate in zip((*study.attacks, *study.changes), estimates, strict=True)
    ]
    return {
        "sha256": subject.description["sha256"],
        "metric": subject.kind.METRIC,
        "epsilon": study.unit,
        "clean": {**rounded(clean), "examples": len(subject.targets)},
        "attacks": rows[: len(study.attacks)],
        "changes": rows[len(study.attacks) :],
    }


def rounded(estimate: Estimate) -> dict[str, float]:
    """Value and interval, rounded.

    Args:
        estimate: The estimate.
    """
    assert estimate.low is not None
    assert estimate.high is not None
    ends = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
    return {name: text.rounded(value) for name, value in ends.items()}


def section(study: Study, clean: Estimate, estimates: Sequence[Estimate], shown: Sequence[str]) -> list[str]:
    """Paragraphs of the model card.

    Args:
        study: All trials.
        clean: Mean score of the unchanged examples.
        estimates: Mean score after each trial.
        shown: Lines that show examples.
    """
    subject, metric = study.subject, study.subject.kind.METRIC
    of = {id(trial): estimate for trial, estimate in zip((*study.attacks, *study.changes), estimates, strict=True)}
    noise = next(trial for trial in study.attacks if trial.strength == study.middle)
    worst = strongest(study, study.middle)
    examples = len(subject.targets)

    def rows(trials: Sequence[Trial]) -> list[tuple[str, ...]]:
        return [(t.title, f"{t.strength:g}", *map(number, of[id(t)]), str(examples)) for t in trials]

    titles = (metric, "from", "to", "examples")
    attacks = table(("attack", f"epsilon ({study.unit})", *titles), rows(study.attacks))
    changes = table(("natural change", "strength", *titles), rows(study.changes))
    return [
        "## Robustness",
        f"{examples} of {subject.total} test examples were changed, and the exported model was asked again. Intervals "
        f"are bootstrap intervals at {100 * subject.settings.confidence:g}%. Unchanged, the {metric} of these examples "
        f"is {interval(clean, 4)}.",
        f"**Within an epsilon of {study.middle:g} {study.unit}, random noise leaves {phrase(metric, of[id(noise)])}; "
        f"the strongest attack tried, {worst.title}, {phrase(metric, of[id(worst)])}, on {examples} examples.** Noise "
        "finds harmful changes only by chance: it says nothing about an attacker. An attack shows how bad the answers "
        f"can become. {' '.join(study.notes)}",
        "![robustness](robustness/curves.png)",
        "\n".join(attacks),
        *shown,
        "\n".join(changes),
    ]


def phrase(metric: str, estimate: Estimate) -> str:
    """A metric and its interval, in words.

    Args:
        metric: Name of the metric.
        estimate: Its estimate.
    """
    return f"{metric} {interval(estimate, 4)}"
