"""Trials of a study: their parameters, the best, the ranking over seeds."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import space
from . import study as studies

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running", "WAITING": "waiting"}
FINISHED = ("COMPLETE", "PRUNED", "FAIL")
MIN_COMPLETE = 10  # trials; with fewer, the importance of a parameter is chance


class Ranked(NamedTuple):
    """A trial and its repetitions over seeds.

    Attributes:
        number: Number of the trial in the search.
        mean: Mean of the scores; NaN if every repetition failed.
        low: Lower end of the mean's 95 % interval; NaN with fewer than two scores.
        high: Upper end of the interval.
        scores: Scores of the repetitions.
        failed: Number of repetitions without a score.
        seedless: Whether the training depends on no seed, so that it was not repeated.
    """

    number: int
    mean: float
    low: float
    high: float
    scores: tuple[float, ...]
    failed: int
    seedless: bool = False


def in_states(study: "Study", *states: str) -> list["FrozenTrial"]:
    """The trials in some states of Optuna, by number; default: all."""
    return [trial for trial in study.get_trials(deepcopy=False) if not states or trial.state.name in states]


def metrics(study: "Study") -> list[str]:
    """The name of each objective."""
    return study.metric_names or [f"score_{index}" for index in range(len(study.directions))]


def signs(study: "Study") -> NDArray[np.float64]:
    """Factors that turn objectives into losses: -1 if higher is better."""
    return np.array([-1.0 if direction.name == "MAXIMIZE" else 1.0 for direction in study.directions])


def parameters(trial: "FrozenTrial") -> dict[str, Any]:
    """The values that the search chose for a trial: override key -> value."""
    return {override_key(name): space.rounded(value, trial.distributions[name]) for name, value in trial.params.items()}


def varying(values: Sequence[Mapping[str, Any]]) -> list[str]:
    """The parameters that differ between trials.

    Args:
        values: Parameter -> value, for each trial.
    """
    levels: dict[str, set[str]] = {}
    for parameters in values:
        for name, value in parameters.items():
            levels.setdefault(name, set()).add(repr(value))
    return [name for name, level in levels.items() if len(level) > 1]


def seconds(trial: "FrozenTrial") -> float | None:
    """The duration of a trial, for a lost one until its detection."""
    if "seconds" in trial.user_attrs:
        return float(trial.user_attrs["seconds"])
    return trial.duration.total_seconds() if trial.duration else None


def error(trial: "FrozenTrial") -> str:
    """The reason why a trial failed, or an empty string."""
    default = "its worker was stopped or died" if trial.state.name == "FAIL" else ""  # a killed worker records nothing
    return str(trial.user_attrs.get("error", default))


def best(study: "Study", top: int | None = None) -> list["FrozenTrial"]:
    """The best trials, or the Pareto front of several objectives.

    A trial is on the front if no other is as good in every objective and better in one. The front is sorted by the
    first objective.

    Args:
        study: The search.
        top: Maximum number of trials; None for all.
    """
    complete = in_states(study, "COMPLETE")
    losses = np.array([trial.values for trial in complete]).reshape(len(complete), len(study.directions)) * signs(study)
    front: Sequence[int] = range(len(complete))
    if len(study.directions) > 1:
        front = [index for index, loss in enumerate(losses) if not _dominated(loss, losses)]
    ordered = sorted(front, key=lambda index: (*losses[index], complete[index].number))
    return [complete[index] for index in ordered[:top]]


def _dominated(loss: NDArray[np.float64], losses: NDArray[np.float64]) -> bool:
    return bool(((losses <= loss).all(axis=1) & (losses < loss).any(axis=1)).any())


def winners(study: "Study", repeats: "Study | None" = None) -> list["FrozenTrial"]:
    """The result of a sweep: the best trial, or the Pareto front.

    If trials were repeated, the best mean over seeds decides.

    Args:
        study: The search.
        repeats: The study of the repetitions.
    """
    trials = best(study)
    if len(study.directions) > 1:
        return trials
    ranked = [entry.number for entry in rank(study, repeats) if entry.scores] if repeats is not None else []
    return [trial for trial in trials if trial.number == ranked[0]] if ranked else trials[:1]


def rank(study: "Study", repeats: "Study") -> list[Ranked]:
    """Ranks trials by the mean of their first objective over seeds.

    Args:
        study: The search.
        repeats: The study of the repetitions.

    Returns:
        The best mean first; trials with a failed repetition after all others.
    """
    searched = in_states(study)
    ranked = []
    for number in repeats.user_attrs.get("seedless", ()):
        score = searched[number].values[0]
        ranked.append(Ranked(number, score, score, score, (score,), 0, seedless=True))
    ranked += [_ranked(number, scores) for number, scores in _repetitions(repeats).items()]
    sign = signs(repeats)[0]

    def place(entry: Ranked) -> tuple[bool, float, int]:
        return entry.failed > 0, math.inf if math.isnan(entry.mean) else sign * entry.mean, entry.number

    return sorted(ranked, key=place)


def _repetitions(repeats: "Study") -> dict[int, list[float | None]]:
    """Trial number -> scores of its repetitions, None for a failed repetition."""
    repetitions: dict[int, dict[Any, float | None]] = {}
    for trial in studies.planned(repeats):
        if trial.state.name in ("COMPLETE", "FAIL"):
            # A lost repetition is queued again under the same key: the later score replaces None.
            key = trial.user_attrs.get("plan_key", trial.number)
            scores = repetitions.setdefault(trial.user_attrs["repeat_of"], {})
            scores[key] = trial.values[0] if trial.state.name == "COMPLETE" else scores.get(key)
    return {number: [scores[key] for key in sorted(scores)] for number, scores in repetitions.items()}


def _ranked(number: int, repetitions: Sequence[float | None]) -> Ranked:
    """A trial with the 95 % confidence interval of its mean score.

    mean +- t(0.975, n - 1) s / sqrt(n) (Student, The Probable Error of a Mean, 1908).
    """
    from scipy.stats import t

    scores = np.array([score for score in repetitions if score is not None])
    count = len(scores)
    mean = float(scores.mean()) if count else math.nan
    half = float(t.ppf(0.975, count - 1) * scores.std(ddof=1) / count**0.5) if count > 1 else math.nan
    return Ranked(number, mean, mean - half, mean + half, tuple(scores.tolist()), len(repetitions) - count)


def short(keys: Sequence[str]) -> dict[str, str]:
    """Override key -> last part, or the whole key if ambiguous."""
    last = {key: key.rpartition(".")[2] for key in keys}
    return {key: last[key] if list(last.values()).count(last[key]) == 1 else key for key in keys}


def text(value: Any) -> str:
    """A value as tables and plots show it."""
    return f"{value:.9g}" if isinstance(value, float) else str(value)


def override_key(name: str) -> str:
    """The override key of a parameter, without its condition."""
    return name.rpartition(": ")[2]
