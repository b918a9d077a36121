"""The schema of a table, inferred from its rows."""

import argparse
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core import config, stages
from ..core.errors import UserError
from ..core.paths import NAME
from .schema import MAX_CATEGORIES, Column
from .table_files import LARGEST, as_numpy, convert

if TYPE_CHECKING:
    import pyarrow as pa

    from .table import Table

MOSTLY = 0.9  # a column with so many numbers is meant to hold numbers: the rest are violations


class _Seen:
    """What a pass over a column has seen, in bounded memory."""

    def __init__(self) -> None:
        self.rows = self.nulls = self.numbers = self.times = 0
        self.low, self.high = math.inf, -math.inf
        self.values: set[str] | None = set()

    def add(self, values: "pa.Array", is_time: bool) -> None:
        import pyarrow.compute as pc

        self.rows += len(values)
        self.nulls += values.null_count
        counted = values.value_counts()  # each different cell is looked at once
        cells, counts = counted.field("values"), as_numpy(counted.field("counts"))
        numbers, _ = convert(cells, "number")
        self.numbers += int(counts[as_numpy(numbers.is_valid())].sum())
        if len(numbers) > numbers.null_count:
            extremes = pc.min_max(numbers).as_py()
            self.low, self.high = min(self.low, extremes["min"]), max(self.high, extremes["max"])
        elif is_time:
            times, _ = convert(cells, "time")
            self.times += int(counts[as_numpy(times.is_valid())].sum())
        if self.values is not None:
            text, _ = convert(cells, "text")
            self.values.update(text.drop_null().to_pylist())
            if len(self.values) > MAX_CATEGORIES:
                self.values = None

    def mostly(self, count: int) -> bool:
        return count > 0 and count >= MOSTLY * (self.rows - self.nulls)


def infer(source: "Table") -> dict[str, Column]:
    """Reads all of a table and returns the schema it meets.

    Args:
        source: The table.

    Raises:
        UserError: Where the files or the configured columns do not fit, or nothing is in them.
    """
    names = source.header()
    seen = {name: _Seen() for name in names}
    for _, part in source.chunks(dict.fromkeys(names, "raw")):
        for name, values in zip(names, part.values.columns, strict=True):
            seen[name].add(values, name == source.time)
    if not names or not seen[names[0]].rows:
        raise UserError(f"{source.label}: has no rows below its header, nothing can be learnt from it")
    return {name: _column(name, found, source) for name, found in seen.items()}


def _column(name: str, seen: _Seen, source: "Table") -> Column:
    numeric, constant = seen.mostly(seen.numbers), seen.values is not None and len(seen.values) < 2
    role = name in (source.target, source.id, source.time, source.group)
    nulls = 0.0 if role else min(1.0, math.ceil(200 * seen.nulls / seen.rows) / 100)
    if name == source.time and not numeric:
        if not seen.mostly(seen.times):
            raise UserError(f"data.time: column {name!r} holds neither numbers nor times such as 2026-01-31T12:00:00")
        return Column(type="time")
    if name in (source.id, source.group) and name != source.target:
        return Column(type="text", unique=name == source.id)
    wants_category = name in source.categories or (name == source.target and source.problem == "classification")
    if name == source.target and source.problem == "regression" and not numeric:
        raise UserError(f"data.target: column {name!r} holds no numbers: choose another one or problem: classification")
    if numeric and not wants_category:
        if bad := seen.rows - seen.nulls - seen.numbers:
            print(
                f"schema: column {name!r}: {bad} cells are no usable numbers; `prepare` will list them", file=sys.stderr
            )
        low, high = _range(seen.low, seen.high)
        return Column(type="number", min=low, max=high, nulls=nulls, constant=constant)
    if seen.values is None and not wants_category:
        print(
            f"schema: column {name!r} has more than {MAX_CATEGORIES} different texts: an identifier or a free text? "
            "Name it in data.drop, or leave it as it is: new texts are then allowed",
            file=sys.stderr,
        )
    if seen.values is None and name == source.target:
        raise UserError(
            f"data.target: column {name!r} has more than {MAX_CATEGORIES} classes: choose problem: regression or "
            "another column"
        )
    categories = None if seen.values is None else sorted(seen.values)
    return Column(type="category", categories=categories, nulls=nulls, constant=constant)


def _range(low: float, high: float) -> tuple[float, float]:
    """Returns the range seen, wider by half its width at both ends (a constant: by half its size), in 3 digits."""
    slack = (high - low) / 2 or abs(low) / 2 or 1.0
    step = 10.0 ** (math.floor(math.log10(slack)) - 1)
    wide = (math.floor((low - slack) / step) * step, math.ceil((high + slack) / step) * step)
    lowest, highest = (float(f"{max(-LARGEST, min(LARGEST, bound)):.12g}") for bound in wide)
    return (max(0.0, lowest) if low >= 0 else lowest), (min(0.0, highest) if high <= 0 else highest)


def write(columns: Mapping[str, Column], path: Path) -> None:
    """Writes a schema as YAML, what is as by default left out.

    Args:
        columns: Column -> what it may hold.
        path: The file.
    """
    import yaml

    content = {"columns": {name: column.model_dump(exclude_defaults=True) for name, column in columns.items()}}
    text = yaml.safe_dump(content, default_flow_style=None, width=100, allow_unicode=True, sort_keys=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    head = "# `prepare` checks every row against this; data/schema.py of the package explains each key.\n"
    path.write_text(head + text, encoding="utf-8")


def main() -> None:
    """Infers the schema of the configured table and writes it."""
    from omegaconf import OmegaConf

    from . import table

    parser = argparse.ArgumentParser(prog=f"python -m {NAME} schema", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--force", action="store_true", help="overwrite the file that is there")
    force = parser.parse_args().force
    raw: Any = OmegaConf.to_container(OmegaConf.create(config.compose()))
    config.check({"data": raw.get("data")}, {}, ["data"])
    source = config.instantiate(raw["data"])
    if not isinstance(source, table.Table):
        raise UserError(f"data: {raw['data']['_target_']} reads no table; only tables have a schema")
    if source.schema.exists() and not force:
        raise UserError(f"{source.schema} exists: edit it, or overwrite it with --force and read the difference")
    columns = infer(source)
    write(columns, source.schema)
    print(f"{source.schema}: {len(columns)} columns. Read it, correct it, commit it", file=sys.stderr)


if __name__ == "__main__":
    stages.run(main)
