"""What a sweep found: the best trials, in tables for the terminal, and all trials in one file; pictures are in `plots`.

Trials count as Optuna keeps them; what a worker adds to a trial is said in `study`.
"""

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import trials
from .trials import FINISHED, STATES

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial


def comment(study: "Study", repeats: "Study | None", trial: "FrozenTrial") -> str:
    """Returns a line that says what a trial has reached.

    Args:
        study: The search.
        repeats: The study of the repetitions.
        trial: Of the search.
    """
    scores = ", ".join(f"{name} {value:.9g}" for name, value in zip(trials.metrics(study), trial.values, strict=True))
    said = f"Trial {trial.number} of {len(trials.in_states(study, *FINISHED))}: {scores}"
    for one in trials.rank(study, repeats) if repeats is not None else ():
        if one.number == trial.number and one.values:
            seeds = "every seed" if one.exact else f"{len(one.values)} seed{'s' * (len(one.values) > 1)}"
            said += f"; over {seeds} {trials.metrics(study)[0]} {one.mean:.5g}"
            said += "" if math.isnan(one.low) else f", 95 % interval {one.low:.5g} to {one.high:.5g}"
    return said


def summary(study: "Study") -> str:
    """Returns one line that says how many trials ended how; lost ones, which are tried again, are no failed ones."""
    counts = dict.fromkeys(("complete", "pruned", "failed", "lost", "running", "waiting"), 0)
    every = trials.in_states(study)
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
    found = trials.best(study, top)
    if not found:
        return "no trial is complete"
    columns = _varying(trials.in_states(study, "COMPLETE", "PRUNED", "FAIL"))
    rows = [["rank", "trial", *trials.metrics(study), *trials.short(columns).values(), "epochs", "seconds"]]
    for place, trial in enumerate(found, 1):
        chosen, spent = trials.settings(trial), trials.seconds(trial)
        rows.append(
            [
                *map(str, (place, trial.number)),
                *(f"{value:.5g}" for value in trial.values),
                *(trials.text(chosen[column]) if column in chosen else "-" for column in columns),
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
    ranked = trials.rank(study, repeats)
    if not ranked:
        return "no repetition is finished"
    known = {trial.number: trial for trial in trials.in_states(study)}
    columns = _varying([known[one.number] for one in ranked if one.number in known])
    name = trials.metrics(repeats)[0]
    rows = [["rank", "trial", f"mean {name}", "95 % interval", "seeds", "failed", "in the search"]]
    rows[0] += trials.short(columns).values()
    for place, one in enumerate(ranked, 1):
        trial = known.get(one.number)
        searched = f"{trial.values[0]:.5g}" if trial is not None and trial.values else "-"
        chosen = trials.settings(trial) if trial is not None else {}
        interval = "-" if math.isnan(one.low) else f"{one.low:.5g} to {one.high:.5g}"
        mean = "-" if math.isnan(one.mean) else f"{one.mean:.5g}"
        seeds = "any" if one.exact else str(len(one.values))
        rows.append([str(place), str(one.number), mean, interval, seeds, str(one.failed), searched])
        rows[-1] += [trials.text(chosen[column]) if column in chosen else "-" for column in columns]
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
    every, names = trials.in_states(study), trials.metrics(study)
    more = sorted({name for trial in every for name in trial.user_attrs.get("scores", {})} - set(names))
    keys = list(dict.fromkeys(key for trial in every for key in trials.settings(trial)))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["number", "state", *names, *more, *keys, "repeat_of", "seed", "epochs", "seconds", "error"])
        for trial in every:
            own, scores, chosen = trial.user_attrs, trial.user_attrs.get("scores", {}), trials.settings(trial)
            writer.writerow(
                [
                    trial.number,
                    STATES[trial.state.name],
                    *(trial.values if trial.state.name == "COMPLETE" else [None] * len(names)),
                    *(scores.get(name) for name in more),
                    *(chosen.get(key) for key in keys),
                    *(
                        own.get("repeat_of"),
                        own.get("seed"),
                        _epochs(trial),
                        trials.seconds(trial),
                        trials.error(trial),
                    ),
                ]
            )


def _varying(shown: Sequence["FrozenTrial"]) -> list[str]:
    """Returns the override keys that do not have one value in all trials; all keys where none varies."""
    values: dict[str, set[str]] = {}
    for trial in shown:
        for key, value in trials.settings(trial).items():
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
