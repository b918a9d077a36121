"""The report of a sweep: tables for the terminal, CSV files, plots."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core import text
from . import trials
from .trials import FINISHED, STATES, Ranked

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

ALWAYS_COUNTED = ("complete", "pruned", "failed")


def comment(study: "Study", repeats: "Study | None", trial: "FrozenTrial") -> str:
    """The number and the scores of a trial, in one line.

    Args:
        study: The search.
        repeats: The study of the repetitions.
        trial: A trial of the search.
    """
    scores = ", ".join(f"{name} {value:.9g}" for name, value in zip(trials.metrics(study), trial.values, strict=True))
    line = f"Trial {trial.number} of {len(trials.in_states(study, *FINISHED))}: {scores}"
    ranked = trials.rank(study, repeats) if repeats is not None else []
    for entry in ranked:
        if entry.number == trial.number and entry.scores:
            line += f"; {_over_seeds(entry, trials.metrics(study)[0])}"
    return line


def _over_seeds(entry: Ranked, metric: str) -> str:
    count = len(entry.scores)
    seeds = "every seed" if entry.seedless else "1 seed" if count == 1 else f"{count} seeds"
    mean = f"over {seeds} {metric} {entry.mean:.5g}"
    return mean if math.isnan(entry.low) else f"{mean}, 95 % interval {entry.low:.5g} to {entry.high:.5g}"


def summary(study: "Study") -> str:
    """The number of trials in each state, in one line.

    A lost trial is counted as lost, not as failed: it is queued again.
    """
    counts = dict.fromkeys((*ALWAYS_COUNTED, "lost", "running", "waiting"), 0)
    every = trials.in_states(study)
    for trial in every:
        lost = trial.state.name == "FAIL" and "error" not in trial.user_attrs
        counts["lost" if lost else STATES[trial.state.name]] += 1
    states = ", ".join(f"{count} {state}" for state, count in counts.items() if count or state in ALWAYS_COUNTED)
    return f"{len(every)} trial{'' if len(every) == 1 else 's'}: {states}"


def table(study: "Study", top: int) -> str:
    """The best trials, or the Pareto front, as aligned text.

    Args:
        study: The search.
        top: Maximum number of rows.
    """
    best = trials.best(study, top)
    if not best:
        return "no trial is complete"
    columns = _varying(trials.in_states(study, *FINISHED))
    rows = [["rank", "trial", *trials.metrics(study), *trials.short(columns).values(), "epochs", "seconds"]]
    for place, trial in enumerate(best, 1):
        scores = [f"{value:.5g}" for value in trial.values]
        seconds = _number(trials.seconds(trial), ".1f")
        rows.append([str(place), str(trial.number), *scores, *_cells(trial, columns), str(_epochs(trial)), seconds])
    return _aligned(rows)


def seeds_table(study: "Study", repeats: "Study") -> str:
    """The ranking over seeds, as aligned text.

    Args:
        study: The search.
        repeats: The study of the repetitions.
    """
    ranked = trials.rank(study, repeats)
    if not ranked:
        return "no repetition is finished"
    searched = {trial.number: trial for trial in trials.in_states(study)}
    columns = _varying([searched[entry.number] for entry in ranked if entry.number in searched])
    mean = f"mean {trials.metrics(repeats)[0]}"
    rows = [["rank", "trial", mean, "95 % interval", "seeds", "failed", "in the search"]]
    rows[0] += trials.short(columns).values()
    for place, entry in enumerate(ranked, 1):
        trial = searched.get(entry.number)
        rows.append([str(place), str(entry.number), *_interval(entry), str(entry.failed), _score(trial)])
        rows[-1] += _cells(trial, columns)
    return _aligned(rows)


def _interval(entry: Ranked) -> list[str]:
    """The cells mean, 95 % interval and seeds."""
    interval = "-" if math.isnan(entry.low) else f"{entry.low:.5g} to {entry.high:.5g}"
    return [_number(entry.mean, ".5g"), interval, "any" if entry.seedless else str(len(entry.scores))]


def _score(trial: "FrozenTrial | None") -> str:
    return f"{trial.values[0]:.5g}" if trial is not None and trial.values else "-"


def _cells(trial: "FrozenTrial | None", columns: Sequence[str]) -> list[str]:
    """The values of a trial's parameters, "-" for a parameter without a value."""
    parameters = trials.parameters(trial) if trial is not None else {}
    return [trials.text(parameters[column]) if column in parameters else "-" for column in columns]


def _number(value: float | None, form: str) -> str:
    return "-" if value is None or math.isnan(value) else format(value, form)


def _varying(shown: Sequence["FrozenTrial"]) -> list[str]:
    """The override keys that differ between trials, otherwise all keys."""
    values: list[Mapping[str, Any]] = [trials.parameters(trial) for trial in shown]
    return trials.varying(values) or list(dict.fromkeys(key for parameters in values for key in parameters))


def _epochs(trial: "FrozenTrial") -> int:
    return len(trial.user_attrs.get("history", ())) or len(trial.intermediate_values)


def write(study: "Study", repeats: "Study | None", folder: Path) -> list[Path]:
    """Writes the plots and CSV files of a sweep.

    trials.csv lists the trials of the search, seeds.csv those of the repetitions.

    Args:
        study: The search.
        repeats: The study of the repetitions.
        folder: The study's folder.

    Returns:
        Paths of the search's plots.
    """
    from . import plots  # here: importing matplotlib takes a second, also for `--help`
    from .plots import seeds

    paths = plots.draw(study, folder)
    write_csv(study, folder / "trials.csv")
    if repeats is not None:
        seeds.draw(study, repeats, folder / "seeds.png")
        write_csv(repeats, folder / "seeds.csv")
    return paths


def write_csv(study: "Study", path: Path) -> None:
    """Writes a CSV file with a row for each trial.

    Only complete trials have values of the objectives.

    Args:
        study: The study.
        path: The CSV file to write.
    """
    every, metrics = trials.in_states(study), trials.metrics(study)
    scores = sorted({name for trial in every for name in trial.user_attrs.get("scores", {})} - set(metrics))
    keys = list(dict.fromkeys(key for trial in every for key in trials.parameters(trial)))
    columns = ["number", "state", *metrics, *scores, *keys, "repeat_of", "seed", "epochs", "seconds", "error"]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(_row(trial, metrics, scores) for trial in every)


def _row(trial: "FrozenTrial", metrics: Sequence[str], scores: Sequence[str]) -> dict[str, Any]:
    attributes = trial.user_attrs
    return {
        **trials.parameters(trial),
        **{name: attributes.get("scores", {}).get(name) for name in scores},
        **(dict(zip(metrics, trial.values, strict=True)) if trial.state.name == "COMPLETE" else {}),
        "number": trial.number,
        "state": STATES[trial.state.name],
        "repeat_of": attributes.get("repeat_of"),
        "seed": attributes.get("seed"),
        "epochs": _epochs(trial),
        "seconds": trials.seconds(trial),
        "error": trials.error(trial),
    }


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows as text in columns; numbers are aligned right."""
    columns = []
    for column in zip(*rows, strict=True):
        numeric = all(cell == "-" or _is_number(cell) for cell in column[1:])
        columns.append([cell.rjust(max(map(len, column))) for cell in column] if numeric else column)
    return "\n".join(text.aligned(list(zip(*columns, strict=True))))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
