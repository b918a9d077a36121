"""What a sweep found: the best trials, in tables for the terminal, and all trials in one file; pictures are in `plots`.

Trials count as Optuna keeps them; what a worker adds to a trial is said in `study`.
"""

import csv
import math
from collections.abc import Sequence
from pathlib import Path
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
    complete = trials(study, "COMPLETE")
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


def comment(study: "Study", repeats: "Study | None", trial: "FrozenTrial") -> str:
    """Returns a line that says what a trial has reached.

    Args:
        study: The search.
        repeats: The study of the repetitions.
        trial: Of the search.
    """
    scores = ", ".join(f"{name} {value:.9g}" for name, value in zip(metrics(study), trial.values, strict=True))
    said = f"Trial {trial.number} of {len(trials(study, *FINISHED))}: {scores}"
    for one in rank(study, repeats) if repeats is not None else ():
        if one.number == trial.number and one.values:
            seeds = "every seed" if one.exact else f"{len(one.values)} seed{'s' * (len(one.values) > 1)}"
            said += f"; over {seeds} {metrics(study)[0]} {one.mean:.5g}"
            said += "" if math.isnan(one.low) else f", 95 % interval {one.low:.5g} to {one.high:.5g}"
    return said


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
    exact = {number: trials(study)[number].values[0] for number in repeats.user_attrs.get("exact", ())}
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


def summary(study: "Study") -> str:
    """Returns one line that says how many trials ended how; lost ones, which are tried again, are no failed ones."""
    counts = dict.fromkeys(("complete", "pruned", "failed", "lost", "running", "waiting"), 0)
    every = trials(study)
    for trial in every:
        lost = trial.state.name == "FAIL" and "error" not in trial.user_attrs
        counts["lost" if lost else STATES[trial.state.name]] += 1
    always = ("complete", "pruned", "failed")
    said = ", ".join(f"{count} {name}" for name, count in counts.items() if count or name in always)
    return f"{len(every)} trial{'' if len(every) == 1 else 's'}: {said}"


def table(study: "Study", top: int) -> str:
    """Returns the best trials, or the Pareto front, as aligned text.

    Args:
        study: The search.
        top: The most rows.
    """
    found = best(study, top)
    if not found:
        return "no trial is complete"
    columns = _varying(trials(study, "COMPLETE", "PRUNED", "FAIL"))
    rows = [["rank", "trial", *metrics(study), *short(columns).values(), "epochs", "seconds"]]
    for place, trial in enumerate(found, 1):
        chosen, spent = settings(trial), seconds(trial)
        rows.append(
            [
                *map(str, (place, trial.number)),
                *(f"{value:.5g}" for value in trial.values),
                *(text(chosen[column]) if column in chosen else "-" for column in columns),
                str(_epochs(trial)),
                "-" if spent is None else f"{spent:.1f}",
            ]
        )
    return _aligned(rows)


def seeds_table(study: "Study", repeats: "Study") -> str:
    """Returns the ranking over seeds as aligned text.

    Args:
        study: The search.
        repeats: The study of the repetitions of its best trials.
    """
    ranked = rank(study, repeats)
    if not ranked:
        return "no repetition is finished"
    known = {trial.number: trial for trial in trials(study)}
    columns = _varying([known[one.number] for one in ranked if one.number in known])
    name = metrics(repeats)[0]
    rows = [["rank", "trial", f"mean {name}", "95 % interval", "seeds", "failed", "in the search"]]
    rows[0] += short(columns).values()
    for place, one in enumerate(ranked, 1):
        trial = known.get(one.number)
        searched = f"{trial.values[0]:.5g}" if trial is not None and trial.values else "-"
        chosen = settings(trial) if trial is not None else {}
        interval = "-" if math.isnan(one.low) else f"{one.low:.5g} to {one.high:.5g}"
        mean = "-" if math.isnan(one.mean) else f"{one.mean:.5g}"
        seeds = "any" if one.exact else str(len(one.values))
        rows.append([str(place), str(one.number), mean, interval, seeds, str(one.failed), searched])
        rows[-1] += [text(chosen[column]) if column in chosen else "-" for column in columns]
    return _aligned(rows)


def write(study: "Study", repeats: "Study | None", folder: Path) -> list[Path]:
    """Writes the pictures, and all trials as trials.csv; of the repetitions seeds.png and seeds.csv.

    Args:
        study: The search.
        repeats: The study of the repetitions.
        folder: The study's folder.

    Returns:
        The pictures of the search.
    """
    from . import plots  # here: matplotlib takes a second, which `--help` need not

    drawn = plots.draw(study, folder)
    write_csv(study, folder / "trials.csv")
    if repeats is not None:
        plots.seeds(study, repeats, folder / "seeds.png")
        write_csv(repeats, folder / "seeds.csv")
    return drawn


def write_csv(study: "Study", path: Path) -> None:
    """Writes all trials, a row each; only complete ones have the objectives' values.

    Args:
        study: The search.
        path: The CSV file to write.
    """
    every, names = trials(study), metrics(study)
    more = sorted({name for trial in every for name in trial.user_attrs.get("scores", {})} - set(names))
    keys = list(dict.fromkeys(key for trial in every for key in settings(trial)))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["number", "state", *names, *more, *keys, "repeat_of", "seed", "epochs", "seconds", "error"])
        for trial in every:
            own, scores, chosen = trial.user_attrs, trial.user_attrs.get("scores", {}), settings(trial)
            writer.writerow(
                [
                    trial.number,
                    STATES[trial.state.name],
                    *(trial.values if trial.state.name == "COMPLETE" else [None] * len(names)),
                    *(scores.get(name) for name in more),
                    *(chosen.get(key) for key in keys),
                    *(own.get("repeat_of"), own.get("seed"), _epochs(trial), seconds(trial), error(trial)),
                ]
            )


def trials(study: "Study", *states: str) -> list["FrozenTrial"]:
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


def _varying(shown: Sequence["FrozenTrial"]) -> list[str]:
    """Returns the override keys that do not have one value in all trials; all keys where none varies."""
    values: dict[str, set[str]] = {}
    for trial in shown:
        for key, value in settings(trial).items():
            values.setdefault(key, set()).add(repr(value))
    return [key for key, found in values.items() if len(found) > 1] or list(values)


def _epochs(trial: "FrozenTrial") -> int:
    return len(trial.user_attrs.get("history", ())) or len(trial.intermediate_values)


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """Returns columns side by side; those that hold numbers stand on the right."""
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    right = [all(cell == "-" or _numeric(cell) for cell in column[1:]) for column in columns]
    lines = (
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(row, widths, right, strict=True)
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def _numeric(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
