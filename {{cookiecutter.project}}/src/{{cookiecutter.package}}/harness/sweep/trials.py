"""Trials of a study: ranked, and their values as text."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import search
from . import study as studies

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running", "WAITING": "waiting"}
FINISHED = ("COMPLETE", "PRUNED", "FAIL")
ENOUGH = 10  # complete trials, to say which parameters are important


class Ranked(NamedTuple):
    """A trial that was repeated over seeds.

    Attributes:
        number: The trial's, in the search.
        mean: Of the scores; NaN where every repetition failed.
        low: Lower end of the mean's 95 % interval; NaN with fewer than two scores.
        high: Upper end.
        values: The scores.
        failed: How many repetitions gave none.
        exact: Whether it needs no repetition, because its model is solved without a seed.
    """

    number: int
    mean: float
    low: float
    high: float
    values: tuple[float, ...]
    failed: int
    exact: bool = False


def metrics(study: "Study") -> list[str]:
    """Returns the name of each objective."""
    return study.metric_names or [f"score_{index}" for index in range(len(study.directions))]


def signs(study: "Study") -> NDArray[np.float64]:
    """Returns what makes each objective a loss: 1 where less is better, else -1."""
    return np.array([-1.0 if direction.name == "MAXIMIZE" else 1.0 for direction in study.directions])


def settings(trial: "FrozenTrial") -> dict[str, Any]:
    """Returns what the search chose for a trial: override key -> value, without the condition on which it was asked."""
    return {override(name): search.rounded(value, trial.distributions[name]) for name, value in trial.params.items()}


def seconds(trial: "FrozenTrial") -> float | None:
    """Returns how long a trial has trained; where a worker could not tell, how long the trial was open."""
    if "seconds" in trial.user_attrs:
        return float(trial.user_attrs["seconds"])
    return trial.duration.total_seconds() if trial.duration else None


def error(trial: "FrozenTrial") -> str:
    """Returns why a trial failed, or nothing; a worker that dies cannot say why."""
    lost = "its worker was stopped or died" if trial.state.name == "FAIL" else ""
    return str(trial.user_attrs.get("error", lost))


def best(study: "Study", top: int | None = None) -> list["FrozenTrial"]:
    """Returns the complete trials, the best first; of several objectives the Pareto front, the best in the first first.

    A trial is on the front where no other is as good in every objective and better in one.

    Args:
        study: The search.
        top: The most trials to return; None for all.
    """
    complete = in_states(study, "COMPLETE")
    losses = np.array([trial.values for trial in complete]).reshape(len(complete), len(study.directions)) * signs(study)
    front: Sequence[int] = range(len(complete))
    if len(study.directions) > 1:
        front = [
            index
            for index, own in enumerate(losses)
            if not ((losses <= own).all(axis=1) & (losses < own).any(axis=1)).any()
        ]
    ordered = sorted(front, key=lambda index: (*losses[index], complete[index].number))
    return [complete[index] for index in ordered[:top]]


def winners(study: "Study", repeats: "Study | None" = None) -> list["FrozenTrial"]:
    """Returns what a sweep ends in: the best trial, over seeds where it was repeated, or the Pareto front.

    Args:
        study: The search.
        repeats: The study of the repetitions.
    """
    found = best(study)
    if len(study.directions) > 1:
        return found
    ranked = [one.number for one in rank(study, repeats) if one.values] if repeats is not None else []
    return [trial for trial in found if trial.number == ranked[0]] if ranked else found[:1]


def rank(study: "Study", repeats: "Study") -> list[Ranked]:
    """Ranks trials by the mean of their first objective over seeds.

    The interval is Student's: mean +- t(0.975, n - 1) s / sqrt(n) (Student, The Probable Error of a Mean, 1908).

    Args:
        study: The search.
        repeats: The study of the repetitions.

    Returns:
        The best mean first; those of which a repetition failed after all others.
    """
    from scipy.stats import t

    repeated: dict[int, dict[int, float | None]] = {}
    for trial in studies.wanted(repeats):
        if trial.state.name not in ("COMPLETE", "FAIL"):
            continue
        # A lost repetition is tried again: of one that was planned, a score is what counts.
        planned = trial.user_attrs.get("planned", trial.number)
        scores = repeated.setdefault(trial.user_attrs["repeat_of"], {})
        scores[planned] = trial.values[0] if trial.state.name == "COMPLETE" else scores.get(planned)
    exact = {number: in_states(study)[number].values[0] for number in repeats.user_attrs.get("exact", ())}
    ranked = [Ranked(number, score, score, score, (score,), 0, exact=True) for number, score in exact.items()]
    for number, scores in repeated.items():
        values = np.array([scores[planned] for planned in sorted(scores) if scores[planned] is not None])
        mean = float(values.mean()) if len(values) else math.nan
        half = (
            float(t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5)
            if len(values) > 1
            else math.nan
        )
        ranked.append(Ranked(number, mean, mean - half, mean + half, tuple(values.tolist()), len(scores) - len(values)))
    sign = signs(repeats)[0]
    return sorted(
        ranked, key=lambda one: (one.failed > 0, math.inf if math.isnan(one.mean) else sign * one.mean, one.number)
    )


def in_states(study: "Study", *states: str) -> list["FrozenTrial"]:
    """Returns the trials in these of Optuna's states (all states where none is named), by number."""
    return [one for one in study.get_trials(deepcopy=False) if not states or one.state.name in states]


def short(keys: Sequence[str]) -> dict[str, str]:
    """Returns what to call override keys: their last part, where no two have the same."""
    last = {key: key.rpartition(".")[2] for key in keys}
    return {key: last[key] if list(last.values()).count(last[key]) == 1 else key for key in keys}


def text(value: Any) -> str:
    """Returns a setting as it is shown."""
    return f"{value:.9g}" if isinstance(value, float) else str(value)


def override(name: str) -> str:
    """Returns the override key of a parameter, without the condition on which it was asked for."""
    return name.rpartition(": ")[2]
