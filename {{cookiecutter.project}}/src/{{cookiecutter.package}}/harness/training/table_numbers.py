"""Numbers and dates in an encoding: scaled and imputed, or as they are."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..core.errors import UserError
from . import encoding
from .encoding import LIMIT, UNSCALED_LIMIT, Column, Graph, Missing, Numbers, TableColumns

if TYPE_CHECKING:
    import pyarrow as pa


def encode_numbers(graph: Graph, table: "pa.Table", columns: TableColumns, numbers: Numbers, missing: Missing) -> None:
    """Adds numbers and dates, and an indicator for each with missing training values.

    Args:
        graph: The graph.
        table: The training rows.
        columns: Columns of the table.
        numbers: `standardise` to mean 0 and standard deviation 1, or `none`.
        missing: Statistic of the training rows that replaces a missing number.

    Raises:
        UserError: Naming a column whose mean or deviation is not finite.
    """
    names = _numeric(columns)
    used: list[tuple[Column, float]] = []
    for name in names:
        if (known := statistics(table, name, missing)) is not None:
            mean, deviation, fill = known
            used.append((Column(name, mean, deviation) if numbers == "standardise" else Column(name), fill))
    if used:
        offset, scale = (np.array([getattr(column, key) for column, _ in used]) for key in ("offset", "scale"))
        raw = _stack(graph, [column.name for column, _ in used])
        fills = graph.constant((np.array([fill for _, fill in used]) - offset) / scale)
        value, limit = raw, UNSCALED_LIMIT
        if numbers == "standardise":
            value = graph.add("Div", graph.add("Sub", raw, graph.constant(offset)), graph.constant(scale))
            limit = LIMIT
        value = graph.add("Clip", value, graph.constant(-limit), graph.constant(limit))
        value = graph.add("Where", graph.add("IsNaN", raw), fills, value)
        graph.output(value, [column for column, _ in used])
    if indicated := [name for name in names if 0 < table[name].null_count < len(table)]:
        absent = graph.add("IsNaN", _stack(graph, indicated))
        graph.output(absent, [Column(f"{name} is missing") for name in indicated])


def pass_numbers(graph: Graph, table: "pa.Table", columns: TableColumns) -> None:
    """Adds numbers and dates as they are, a missing value as NaN.

    Args:
        graph: The graph.
        table: The training rows.
        columns: Columns of the table.
    """
    used: list[str] = []
    for name in _numeric(columns):
        ends = _range(table, name)
        if ends and (ends[0] != ends[1] or table[name].null_count):
            used.append(name)
    if used:
        graph.output(_stack(graph, used), [Column(name, missing=True) for name in used])


def statistics(table: "pa.Table", name: str, missing: Missing) -> tuple[float, float, float] | None:
    """Mean, deviation and imputed value of a number or date; None, with a warning, if constant."""
    import pyarrow.compute as pc

    values = table[name]
    ends = _range(table, name)
    if ends is None or ends[0] == ends[1]:
        return None
    low, high = ends
    mean, deviation = pc.mean(values).as_py(), pc.stddev(values, ddof=0).as_py()
    # approximate_median uses a t-digest (T. Dunning, O. Ertl, 2019); an exact median would sort a copy of the column.
    fill = mean if missing == "mean" else pc.approximate_median(values).as_py()
    if not (np.isfinite([low, high, mean, deviation]).all() and deviation > 0):
        raise UserError(
            f"features: column {name!r} goes from {low:g} to {high:g} in the training rows, too far "
            "for a mean and deviation in double precision: rescale or drop it"
        )
    return mean, deviation, fill


def _range(table: "pa.Table", name: str) -> tuple[float, float] | None:
    """Smallest and largest value, None if there is no value; warns if all cells are equal."""
    import pyarrow.compute as pc

    low, high = (value.as_py() for value in pc.min_max(table[name]).values())
    if low is None:
        encoding.warn_constant(name, "a gap")
        return None
    if low == high and not table[name].null_count:
        encoding.warn_constant(name, f"the value {low:g}")
    return low, high


def _stack(graph: Graph, names: Sequence[str]) -> str:
    """Adds a matrix of columns, double [N, len(names)]."""
    axis = graph.constant(np.array([1]))
    return graph.add("Concat", *[graph.add("Unsqueeze", name, axis) for name in names], axis=1)


def _numeric(columns: TableColumns) -> list[str]:
    return [*encoding.named(columns, "number"), *encoding.named(columns, "date")]
