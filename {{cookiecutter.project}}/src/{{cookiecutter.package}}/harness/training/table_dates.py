"""Dates as features: their places in year, week and day, inside the exported model.

A date is a number of days since 1970-01-01 in UTC, with its time as a fraction; `table_numbers` adds that number. Time
of year and time of day are a sine and a cosine each, so that December is close to January; days of the week are
indicators. Only what differs in the training rows is added.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from . import encoding, table_numbers
from .encoding import Column, Graph, Missing, TableColumns

if TYPE_CHECKING:
    import pyarrow as pa

YEAR = 365.2425  # mean length in days
RANGE = (-719_162.0, 2_932_896.0)  # years 1 to 9999
THURSDAY = 3  # 1970-01-01, if Monday is 0
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
PHASES = 12  # parts of a cycle; with fewer than three of them, sine and cosine depend on each other


def encode(graph: Graph, table: "pa.Table", columns: TableColumns, missing: Missing) -> None:
    """Adds time of year, day of the week and time of day of each date.

    Args:
        graph: The graph.
        table: The training rows.
        columns: Columns of the table.
        missing: Statistic of the training rows that replaces a missing date.
    """
    for name in encoding.named(columns, "date"):
        if (known := table_numbers.statistics(table, name, missing)) is not None:
            days = graph.add("Where", graph.add("IsNaN", name), graph.constant(known[2]), name)
            days = graph.add("Clip", days, *map(graph.constant, RANGE))
            _cycle(graph, table, days, name, "time of year", YEAR)
            _weekdays(graph, table, days, name)
            _cycle(graph, table, days, name, "time of day", 1.0)


def _chunks(table: "pa.Table", name: str) -> Iterator[NDArray[np.float64]]:
    for chunk in table[name].chunks:
        yield chunk.drop_null().to_numpy(zero_copy_only=False)


def _cycle(graph: Graph, table: "pa.Table", days: str, name: str, cycle: str, length: float) -> None:
    phases = {int(part) for chunk in _chunks(table, name) for part in np.unique(chunk / length % 1 * PHASES // 1)}
    if len(phases) < 3:
        return
    turns = graph.add("Div", days, graph.constant(length))
    later = graph.add("Add", turns, graph.constant(0.25))
    graph.output(graph.expand(_sine(graph, turns)), [Column(f"{name} ({cycle}, sine)")])
    graph.output(graph.expand(_sine(graph, later)), [Column(f"{name} ({cycle}, cosine)")])


def _sine(graph: Graph, turns: str) -> str:
    """Adds Bhaskara's sine of a number of turns, which differs by at most 0.0017.

    ONNX's own differs in the last digit between a row alone and a row in a batch, and from TensorFlow's; these
    operators do not: sin(pi x) = 16 x (1 - x) / (5 - 4 x (1 - x)) for x from 0 to 1.
    """

    def add(operator: str, *inputs: str | float) -> str:
        return graph.add(operator, *(value if isinstance(value, str) else graph.constant(value) for value in inputs))

    twice = add("Mul", add("Sub", turns, add("Floor", turns)), 2.0)
    half = add("Floor", twice)  # 0 in the first half of a turn, 1 in the second
    x = add("Sub", twice, half)
    y = add("Mul", x, add("Sub", 1.0, x))
    size = add("Div", add("Mul", y, 16.0), add("Sub", 5.0, add("Mul", y, 4.0)))
    return add("Mul", size, add("Sub", 1.0, add("Mul", half, 2.0)))


def _weekdays(graph: Graph, table: "pa.Table", days: str, name: str) -> None:
    """Adds an indicator for each day of the week in the training rows but the first."""
    present = {int(day) for chunk in _chunks(table, name) for day in np.unique((np.floor(chunk) + THURSDAY) % 7)}
    if len(present) < 2:
        return
    day = graph.add("Add", graph.add("Floor", days), graph.constant(float(THURSDAY)))
    weeks = graph.add("Floor", graph.add("Div", day, graph.constant(7.0)))
    weekday = graph.add("Sub", day, graph.add("Mul", weeks, graph.constant(7.0)))
    for index in sorted(present)[1:]:
        is_day = graph.add("Equal", weekday, graph.constant(float(index)))
        graph.output(graph.expand(is_day), [Column(f"{name} is {WEEKDAYS[index]}")])
