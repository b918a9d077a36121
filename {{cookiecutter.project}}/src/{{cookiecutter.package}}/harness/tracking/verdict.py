"""The verdict about results that were made again: identical, equivalent or different.

Results are equivalent if the same code, data and parameters gave other bytes on another machine, and the two models
agree as far as two trainings do that differ in rounding only. Nothing has to be fetched for it: machine.json keeps the
metrics with their intervals, and a sketch of the outputs.
"""

import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..core import config
from ..core.errors import UserError, shortened
from . import git, lockfile, machine
from .outcome import disagreement, outside

# Largest difference of two models' outputs, as a share of the first one's own error (both root mean square). Rounding
# alone took the default network to 0.78: early stopping ends it at another epoch (decision 33 of the template).
TOLERANCE = 1.0
IDENTICAL, EQUIVALENT, DIFFERENT = "identical", "equivalent", "different"


class Verdict(NamedTuple):
    """A verdict about results.

    Attributes:
        name: `identical`, `equivalent` or `different`.
        reason: What differs, and by how much; empty if nothing does.
    """

    name: str
    reason: str

    def __str__(self) -> str:
        """Name and reason, in one line."""
        return f"{self.name}: {self.reason}" if self.reason else self.name


class Made(NamedTuple):
    """Results of the pipeline with the machine that made them.

    Attributes:
        lock: The text of dvc.lock; "" without one.
        record: What machine.json says of the model in `lock`; None if it is unknown.
    """

    lock: str
    record: Mapping[str, Any] | None


def made(lock: str) -> Made:
    """Results with the record of their model, wherever git has it.

    Args:
        lock: The text of dvc.lock.
    """
    model = lockfile.outputs(lock).get(lockfile.MODEL)
    return Made(lock, machine.recorded(model) if model else None)


def judge(before: Made, after: Made) -> Verdict:
    """The verdict about results that were made again.

    Args:
        before: The results as they were committed.
        after: The results that were made again.
    """
    if causes := changed_inputs(before.lock, after.lock):
        return Verdict(DIFFERENT, "; ".join(causes))
    _, changed = lockfile.differing(before.lock, after.lock)
    if not changed:
        return Verdict(IDENTICAL, "")
    if early := [path for path in changed if path.startswith("data/")]:
        return Verdict(DIFFERENT, f"data ({shortened(early, 3)}), made from the same inputs")
    if before.record and before.record == after.record:  # the same model, evaluated here
        after = Made(after.lock, {**before.record, "machine": machine.today(before.record["machine"])})
    found = agreement(before.record, after.record)
    return found if found.name == EQUIVALENT else Verdict(DIFFERENT, f"{shortened(changed, 3)}; {found.reason}")


def agreement(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> Verdict:
    """The verdict about two results of the same inputs, from their records.

    Args:
        before: What machine.json says of the first; None if it is unknown.
        after: What it says of the second.
    """
    if not before or not after:
        return Verdict(DIFFERENT, f"nothing is known of the machine: no {machine.FILE} of git speaks of the model")
    differing = between(before["machine"], after["machine"])
    if not differing:
        return Verdict(DIFFERENT, "nothing known differs, and the machine is the same: a step may be unseeded")
    elsewhere = f"another machine ({shortened(differing, 4, '; ')})"
    if not before.get("results") or not after.get("results"):
        return Verdict(DIFFERENT, f"{elsewhere}; {machine.FILE} lacks the results with which to compare")
    apart, far = disagreement(before["results"], after["results"]), outside(before["results"], after["results"])
    share = "less than 1e-06" if apart < 1e-6 else f"{apart:.2g}"
    size = f"the outputs differ by {share} of the model's own error"
    if not apart <= TOLERANCE or far:
        beyond = [f"{', '.join(far)}: outside the interval"] if far else []
        beyond += [] if apart <= TOLERANCE else [f"{size}, more than rounding explains ({TOLERANCE:g})"]
        return Verdict(DIFFERENT, f"environment: {elsewhere}; {'; '.join(beyond)}")
    return Verdict(EQUIVALENT, f"{elsewhere}; {size}, every metric lies within its interval")


def changed_inputs(before: str, after: str) -> list[str]:
    """What the pipeline read differently: data, code, parameters, commands.

    Args:
        before: The text of the earlier dvc.lock.
        after: The text of the later one.
    """
    paths, _ = lockfile.differing(before, after)
    old, new = (lockfile.stages(lock).items() for lock in (before, after))
    parameters = _differing(*({k: v for _, stage in each for k, v in stage.parameters.items()} for each in (old, new)))
    commands = _differing(*({name: stage.command for name, stage in each} for each in (old, new)))
    data = [path for path in paths if path.startswith(("data/", "schema"))]
    kinds = {
        "data": data,
        "code": [path for path in paths if path not in data],
        "parameters": parameters,
        "commands of dvc.yaml": commands,
    }
    return [f"{kind} ({shortened(names, 3)})" for kind, names in kinds.items() if names]


def _differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    old, new = config.flatten(dict(before)), config.flatten(dict(after))
    return [key for key in dict.fromkeys([*old, *new]) if old.get(key) != new.get(key)]


def between(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What differs between two machines, in words.

    Args:
        before: The machine that made the first results.
        after: The machine that made the second.
    """
    old, new = config.flatten(dict(before)), config.flatten(dict(after))
    lines = []
    for name in _differing(before, after):
        if name == "instructions":
            sets = [set(str(each.get(name, "")).split()) for each in (old, new)]
            changes = [
                f"{word} {shortened(sorted(names), 3)}"
                for word, names in (("without", sets[0] - sets[1]), ("with", sets[1] - sets[0]))
                if names
            ]
            lines.append(f"a processor {' and '.join(changes)}")
        else:
            lines.append(f"{name.rpartition('.')[2]} {old.get(name, 'none')} -> {new.get(name, 'none')}")
    return lines


def tell() -> None:
    """Says if a training gave another model than the committed one, from the same code, data and parameters.

    The stage `evaluate` ends with it. Whatever prevents the comparison is no error of the stage.
    """
    try:
        committed, current = lockfile.lock_at("HEAD"), lockfile.read_lock()
        if committed is None:
            return
        old, new = lockfile.training(committed), lockfile.training(current)
        if old.key != new.key or old.model == new.model:
            return
        found = agreement(machine.recorded(old.model), machine.recorded(new.model))
        kept = [name for name in (str(lockfile.LOCK), str(machine.FILE)) if git.git("show", f"HEAD:./{name}")]
    except (UserError, KeyError, ValueError):
        return
    relation = "equivalent to" if found.name == EQUIVALENT else "NOT those of"
    print(
        f"evaluate: the same code, data and parameters gave other results here, {relation} the commit: {found.reason}\n"
        f"          To keep those of the commit: git checkout HEAD {' '.join(kept)} && dvc checkout (or dvc pull); "
        f"to keep these: commit {lockfile.LOCK} and {machine.FILE}",
        file=sys.stderr,
    )
