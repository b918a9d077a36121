"""False alarms and delays of the drift alarm, simulated through the functions of a generated project.

    python benchmarks/drift.py [PROJECT]            a generated project; default build/demo
    python benchmarks/drift.py --rows 20000 ...     clean rows, shorter than 1,000,000

Rows have 30 columns: normal, skewed, few different numbers, categories. Each 1/20 of the clean rows has a reference of
its own, of 400, 2,000 or 10,000 rows. A look every 50 rows compares the last 1,000 (1h) and 10,000 (1d) rows with the
reference. The alarm: evidence above `limit(columns)` and PSI above EFFECT, as in conf/monitoring.yaml. Beside it:
PSI > 0.2 alone, and a dummy that blames a random column every 500 rows. Then: rows until an alarm after one column has
shifted, and what one client's rows do that depend on each other. The last line on stdout is JSON.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

COLUMNS = 30
EFFECT = 0.1  # PSI below which a shift is not worth a person's time
LOOK = 50  # rows
WINDOWS = {"1h": 1000, "1d": 10_000}  # rows
PARTS = 20  # of the clean rows
REFERENCES = (400, 2000, 10_000)
HOURS = 24
Table = dict[str, NDArray[Any]]


def draw(rng: np.random.Generator, rows: int, shift: float = 0.0) -> Table:
    """Draw rows; the first column is shifted by some of its standard deviations."""
    table: Table = {}
    for number in range(COLUMNS):
        kind, name = number % 6, f"column {number}"
        if kind == 0:
            table[name] = rng.normal(size=rows)
        elif kind == 1:
            table[name] = rng.lognormal(sigma=1.0, size=rows)
        elif kind == 2:
            table[name] = rng.poisson(3, rows).astype(float)
        elif kind == 3:
            table[name] = np.where(rng.random(rows) < 0.05, np.nan, rng.exponential(size=rows))
        elif kind == 4:
            table[name] = np.array([*"abcdefgh"], object)[np.minimum(rng.geometric(0.4, rows) - 1, 7)]
        else:
            table[name] = np.array([f"level {level}" for level in range(60)], object)[
                np.minimum(rng.zipf(1.6, rows) - 1, 59)
            ]
    table["column 0"] = table["column 0"] + shift
    return table


class Watch:
    """A reference, and the counts of rows in blocks, for all columns."""

    def __init__(self, harness: Any, reference: Table) -> None:
        self.drift = harness
        self.variables = []
        for name, values in reference.items():
            found = (
                harness.bins.categories(values.tolist(), len(values))
                if values.dtype == object
                else (harness.bins.numbers(values))
            )
            self.variables.append((name, harness.bins.place(found), harness.bins.reference_rows(found, values)))

    def counts(self, table: Table, block: NDArray[np.int64], blocks: int) -> list[NDArray[np.int64]]:
        """Count the rows of each block in the bins of each column, [blocks, K]."""
        return [
            np.bincount(block * len(rows) + place(table[name]), minlength=blocks * len(rows)).reshape(blocks, -1)
            for name, place, rows in self.variables
        ]

    def compared(self, counts: list[NDArray[Any]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Compute evidence and PSI of each column and window, [columns, windows]."""
        pairs = [*zip(self.variables, counts, strict=True)]
        found = [
            np.array([function(np.broadcast_to(rows, each.shape), each) for (_, _, rows), each in pairs])
            for function in (self.drift.evidence.evidence, self.drift.evidence.psi)
        ]
        return found[0], found[1]

    def alarms(self, evidence: NDArray[Any], psi: NDArray[Any]) -> NDArray[np.bool_]:
        """Say which columns and windows alarm."""
        return (evidence > self.drift.evidence.limit(len(self.variables))) & (psi > EFFECT)


def sliding(counts: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    """Sum the last `width` blocks, or all at the beginning."""
    total = np.concatenate([np.zeros((1, counts.shape[1]), np.int64), counts.cumsum(0)])
    ends = np.arange(1, len(total))
    return total[ends] - total[np.maximum(ends - width, 0)]


def clean(harness: Any, rows: int) -> dict[str, Any]:
    """Count alarms in clean rows."""
    found: dict[str, Any] = {"rows": 0, "looks": 0, "ours": 0, "PSI > 0.2": 0, "dummy": 0, "largest evidence": -9.0}
    for part in range(PARTS):
        rng = np.random.default_rng(part)
        watch = Watch(harness, draw(rng, REFERENCES[part % len(REFERENCES)]))
        size = rows // PARTS // LOOK * LOOK
        counts = watch.counts(draw(rng, size), np.arange(size) // LOOK, size // LOOK)
        found["rows"] += size
        found["dummy"] += size // 500
        for width in WINDOWS.values():
            evidence, psi = watch.compared([sliding(each, width // LOOK) for each in counts])
            found["looks"] += evidence.size
            found["ours"] += int(watch.alarms(evidence, psi).sum())
            found["PSI > 0.2"] += int((psi > 0.2).any(0).sum())
            found["largest evidence"] = max(found["largest evidence"], round(float(evidence.max()), 2))
    return found


def delays(harness: Any, repeats: int) -> dict[str, Any]:
    """Measure after how many rows of 3,000 a shift alarms, in a window of 1,000; -1 for never, and wrong columns."""
    found: dict[str, Any] = {}
    for reference in REFERENCES:
        for shift in (1.0, 0.5, 0.3):
            told, wrong = [], 0
            for seed in range(repeats):
                rng = np.random.default_rng(1000 + seed)
                watch = Watch(harness, draw(rng, reference))
                before, after = draw(rng, 1000), draw(rng, 3000, shift)
                table = {name: np.concatenate([before[name], after[name]]) for name in before}
                counts = watch.counts(table, np.arange(4000) // LOOK, 4000 // LOOK)
                alarms = watch.alarms(*watch.compared([sliding(each, 1000 // LOOK) for each in counts]))
                wrong += int(alarms[1:].any())
                first = np.flatnonzero(alarms[0])
                told.append((int(first[0]) + 1) * LOOK - 1000 if len(first) else -1)
            found[f"reference {reference}, {shift} sd"] = {
                "median": int(np.median(told)),
                "longest": max(told),
                "never": told.count(-1),
                "wrong": wrong,
            }
    return found


def sick(rng: np.random.Generator, rows: int) -> Table:
    """Draw the rows of one client whose patients are of another kind: seven columns are shifted by 1 sd."""
    table = draw(rng, rows, 1.0)
    for number in (6, 12, 18, 24, 1, 3):
        table[f"column {number}"] = table[f"column {number}"] + 1.0
    return table


def day(rng: np.random.Generator, hourly: int, kind: str) -> tuple[Table, NDArray[np.int64]]:
    """Draw a day of rows, and the hour of each: honest ones, and a client's, by kind."""
    rows = hourly * HOURS
    shifts = {"all rows drift all day": 1.0, "all rows drift slightly all day": 0.5}
    parts, hours = [draw(rng, rows, shifts.get(kind, 0.0))], [np.repeat(np.arange(HOURS), hourly)]
    few = {"one patient polled": 1, "5 rows in a loop": 5}.get(kind)
    share = {"a batch in one hour": 4, "as large a batch in one hour": 1}.get(kind)
    if few:
        asked = draw(rng, few)
        parts.append({name: np.resize(values, rows // 4) for name, values in asked.items()})
        hours.append(np.arange(rows // 4) * HOURS // (rows // 4))
    elif share:
        parts.append(sick(rng, rows // share))
        hours.append(np.full(rows // share, 12))
    table = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    hour = np.concatenate(hours)
    order = np.argsort(hour, kind="stable")
    return {name: values[order] for name, values in table.items()}, hour[order]


KINDS = (
    "one patient polled",
    "5 rows in a loop",
    "a batch in one hour",
    "as large a batch in one hour",
    "all rows drift all day",
    "all rows drift slightly all day",
)
RULES = ("1h", "1d", "1h, once", "1d, once", "1d beyond its loudest hour", "1d, both halves")


def dependent(harness: Any, repeats: int) -> dict[str, Any]:
    """Count days that alarm, by rule: of an hour, of a day, and without rows that were there a moment ago."""
    found: dict[str, Any] = {}
    for hourly in (20, 100, 500):
        for kind in KINDS:
            days = dict.fromkeys(RULES, 0)
            for seed in range(repeats):
                rng = np.random.default_rng(2000 + seed)
                watch = Watch(harness, draw(rng, 2000))
                table, hour = day(rng, hourly, kind)
                fresh = harness.recent.Recent().fresh(table)
                for suffix, chosen in (("", np.ones(len(hour), bool)), (", once", fresh)):
                    counts = watch.counts({n: v[chosen] for n, v in table.items()}, hour[chosen], HOURS)
                    hours, effects = watch.compared(counts)
                    evidence, psi = watch.compared([each.sum(0, keepdims=True) for each in counts])
                    days[f"1h{suffix}"] += int(watch.alarms(hours, effects).any())
                    days[f"1d{suffix}"] += int(watch.alarms(evidence, psi).any())
                loudest = np.maximum(hours.max(1, keepdims=True), 0)
                days["1d beyond its loudest hour"] += int(watch.alarms(evidence - loudest, psi).any())
                halves = watch.compared([each.reshape(2, HOURS // 2, -1).sum(1) for each in counts])
                days["1d, both halves"] += int(watch.alarms(*halves).all(1).any())
            found[f"{hourly} rows an hour: {kind}"] = days
    return found


def show(title: str, found: dict[str, Any]) -> None:
    """Print figures by name."""
    print(f"\n{title}", flush=True)
    for name, figures in found.items():
        told = [f"{key} {value}" for key, value in figures.items()] if isinstance(figures, dict) else [str(figures)]
        print(f"  {name:56}{', '.join(told)}")


def main() -> None:
    """Simulate, and print what alarms."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("project", nargs="?", type=Path, default=Path("build/demo"))
    parser.add_argument("--rows", type=int, default=1_000_000, help="clean rows")
    parser.add_argument("--repeats", type=int, default=20, help="of each shift, and days of dependent rows")
    arguments = parser.parse_args()
    (package,) = (file.parents[2].name for file in (arguments.project / "src").glob("*/harness/drift/evidence.py"))
    sys.path.insert(0, str((arguments.project / "src").resolve()))
    load: Callable[[str], Any] = importlib.import_module
    harness = load(f"{package}.harness.drift")
    for name in ("bins", "evidence", "recent"):
        load(f"{package}.harness.drift.{name}")
    found = {
        "clean": clean(harness, arguments.rows),
        "delays": delays(harness, arguments.repeats),
        "dependent": dependent(harness, arguments.repeats),
    }
    show("clean rows: alarms", found["clean"])
    show(f"rows until an alarm, of {arguments.repeats} shifts", found["delays"])
    show(f"days with an alarm, of {arguments.repeats}", found["dependent"])
    print(json.dumps(found))


if __name__ == "__main__":
    main()
