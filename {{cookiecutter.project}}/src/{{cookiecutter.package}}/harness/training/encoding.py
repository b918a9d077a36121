"""Encodings of a table: ONNX graphs from its columns to the rows on which a model is fitted."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from ..contracts import Layers, Tensor
from ..core.errors import UserError

if TYPE_CHECKING:
    import onnx
    import pyarrow as pa

Numbers = Literal["standardise", "none"]
Missing = Literal["mean", "median"]
Precision = Literal["float32", "float64"]
TableColumns = Sequence[Mapping[str, str]]  # name and type, `number` or `category`, as in the manifest
OUTPUT = "encoded"
OTHER, MISSING = "(other)", "(missing)"  # levels
ML_OPSET = 2  # of ai.onnx.ml, the version that tf2onnx writes: only equal ones can be joined
# Bound of a standardized number. No training row of fewer than 10^12 lies further out (P. A. Samuelson, How Deviant
# Can You Be?, 1968: at most sqrt(N - 1) deviations), and float32 arithmetic on it stays finite: no output becomes NaN.
LIMIT = 1e6
UNSCALED_LIMIT = 1e37  # bound of a number that is not standardized: float32 ends at 3.4e38


class Column(NamedTuple):
    """A column of the encoded rows.

    Attributes:
        name: The table's column, with the level of a category: "age", "age is missing", "sex=f".
        offset: In the units of the table's column; encoded = (raw - offset) / scale.
        scale: In the units of the table's column.
        levels: Number of levels if the column holds the index of a level, which an embedding looks up; else 0.
    """

    name: str
    offset: float = 0.0
    scale: float = 1.0
    levels: int = 0


class Encoding(NamedTuple):
    """A fitted encoding.

    Attributes:
        graph: Graph from the table's columns, one input each, to the output "encoded", float32 or double [N, F].
        names: Names of the encoded columns.
        layers: Makes the Keras input "encoded" and the tensor for the first layer: the same, or with embeddings.
    """

    graph: "onnx.ModelProto"
    names: tuple[str, ...]
    layers: Layers


class Levels(NamedTuple):
    """The levels of a category in the training rows.

    Attributes:
        names: Names of the levels, in order, (missing) and (other) included.
        of: Value of a cell -> name of its level; other values belong to (other).
        most_frequent: Name of the most frequent level.
    """

    names: list[str]
    of: dict[str, str]
    most_frequent: str


def columns(graph: "onnx.ModelProto") -> list[Column]:
    """The encoded columns, which the graph of an `Encoding` holds as metadata."""
    (content,) = (entry.value for entry in graph.metadata_props if entry.key == "columns")
    return [Column(*column) for column in json.loads(content)]


class Graph:
    """An ONNX graph that grows node by node; none of its names is that of a column."""

    def __init__(self, columns: TableColumns, precision: Precision) -> None:
        """Takes the inputs of the graph.

        Args:
            columns: Columns of the table.
            precision: Type of the encoded rows.

        Raises:
            UserError: If a column has the name of the output.
        """
        self._columns = columns
        self._precision = precision
        self._reserved = {column["name"] for column in columns}
        self._names = 0
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._parts: list[str] = []
        self._encoded: list[Column] = []
        if OUTPUT in self._reserved:
            raise UserError(f"features: a column may not be called {OUTPUT!r}, as the model's own input: rename it")

    def _name(self) -> str:
        while True:
            self._names += 1
            if (name := f"encoding_{self._names}") not in self._reserved:
                return name

    def constant(self, value: Any) -> str:
        """Adds a constant and returns its name."""
        from onnx import numpy_helper

        self._constants.append(numpy_helper.from_array(np.asarray(value), self._name()))
        return str(self._constants[-1].name)

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Adds a node and returns the name of its only output.

        Args:
            operator: Operator of ONNX: https://onnx.ai/onnx/operators/
            *inputs: Names of columns, constants or outputs of nodes.
            output: Name of the output; "" for a new name.
            **attributes: Attributes of the operator, and `domain` of one that is not standard.
        """
        from onnx import helper

        self._nodes.append(helper.make_node(operator, inputs, [output or self._name()], **attributes))
        return str(self._nodes[-1].output[0])

    def cast(self, value: str, kind: str) -> str:
        """Adds a conversion to a type of NumPy, and returns the name of its output."""
        return self.add("Cast", value, to=onnx_type(kind))

    def expand(self, value: str) -> str:
        """Adds a second axis to a vector: [N] -> [N, 1]."""
        return self.add("Unsqueeze", value, self.constant(np.array([1])))

    def look_up(self, column: str, index: Mapping[str, int], default: int) -> str:
        """Adds the index of each value of a category, int64 [N].

        Args:
            column: Name of the category.
            index: Value -> its index.
            default: Index of all other values.
        """
        return self.add(
            "LabelEncoder",
            column,
            domain="ai.onnx.ml",
            keys_strings=list(index),
            values_int64s=list(index.values()),
            default_int64=default,
        )

    def output(self, part: str, columns: Sequence[Column]) -> None:
        """Appends a part of the encoded rows.

        Args:
            part: Name of a value [N, len(columns)], of any type that can be cast to a number.
            columns: Its columns.
        """
        if columns:
            self._parts.append(self.cast(part, self._precision))
            self._encoded += columns

    def encoding(self, layers: Callable[[int], tuple[Tensor, Tensor]] | None = None) -> Encoding:
        """The finished encoding.

        Args:
            layers: Makes the first layers of a Keras model from the number of encoded columns; None for none.

        Raises:
            UserError: If there is no encoded column.
        """
        if not self._parts:
            raise UserError("features: no column is left to learn from: each has one value in all training rows")
        self.add("Concat", *self._parts, axis=1, output=OUTPUT)
        width, make = len(self._encoded), layers or _plain
        return Encoding(self._model(), tuple(column.name for column in self._encoded), lambda: make(width))

    def _model(self) -> "onnx.ModelProto":
        from onnx import checker, helper

        from ..exported.graphs import IR_VERSION, OPSET

        types = {"number": onnx_type("float64"), "category": onnx_type("str")}
        graph = helper.make_graph(
            self._nodes,
            "features",
            [helper.make_tensor_value_info(column["name"], types[column["type"]], ["N"]) for column in self._columns],
            [helper.make_tensor_value_info(OUTPUT, onnx_type(self._precision), ["N", len(self._encoded)])],
            self._constants,
        )
        versions = {"": OPSET, "ai.onnx.ml": ML_OPSET, "com.microsoft": 1}
        domains = {"", *(node.domain for node in self._nodes)}
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid(domain, versions[domain]) for domain in versions if domain in domains],
            ir_version=IR_VERSION,
        )
        helper.set_model_props(model, {"columns": json.dumps(self._encoded, ensure_ascii=False)})
        checker.check_model(model)
        return model


def _plain(width: int) -> tuple[Tensor, Tensor]:
    """A Keras input without further layers."""
    import keras  # here, not above: only the training of a network waits for TensorFlow

    entry = keras.Input((width,), name=OUTPUT)
    return entry, entry


def levels(table: "pa.Table", name: str, min_count: int, max_categories: int) -> Levels | None:
    """The levels of a category; None, with a warning, if all training rows have the same one.

    Memory grows with the number of different values, not with the rows.

    Args:
        table: The training rows.
        name: Name of the category.
        min_count: Values of fewer rows belong to (other).
        max_categories: Maximum number of levels, the most frequent ones; other values belong to (other).

    Raises:
        UserError: If no training row has a value.
    """
    import pyarrow.compute as pc

    counted = pc.value_counts(table[name])
    counts: dict[str, int] = dict(zip(counted.field(0).to_pylist(), counted.field(1).to_pylist(), strict=True))
    missing = counts.pop("", 0) + counts.pop(None, 0)  # type: ignore[call-overload]
    if not counts:
        raise UserError(f"features: column {name!r} has no value in any training row: drop it")
    ranked = sorted(counts, key=lambda value: (-counts[value], value))
    frequent = sorted(value for value in ranked[:max_categories] if counts[value] >= min_count)
    of = {value: value for value in frequent}
    rows = {value: counts[value] for value in frequent}
    if missing:
        of[""] = MISSING
        rows[MISSING] = missing
    if rare := sum(counts.values()) - sum(counts[value] for value in frequent):
        rows[OTHER] = rare
    if len(rows) == 1:
        _warn_constant(name, f"the level {next(iter(rows))!r}")
        return None
    return Levels(list(rows), of, max(rows, key=lambda level: rows[level]))


def categories(
    table: "pa.Table", columns: TableColumns, min_count: int, max_categories: int
) -> list[tuple[str, Levels]]:
    """Name and levels of each category that has more than one level; see `levels` for the parameters."""
    found = ((name, levels(table, name, min_count, max_categories)) for name in named(columns, "category"))
    return [(name, its) for name, its in found if its is not None]


def encode_numbers(graph: Graph, table: "pa.Table", columns: TableColumns, numbers: Numbers, missing: Missing) -> None:
    """Adds the numbers, and an indicator for each number that is missing in some training rows.

    Args:
        graph: The graph.
        table: The training rows.
        columns: Columns of the table.
        numbers: `standardise` to mean 0 and standard deviation 1, or `none`.
        missing: Statistic of the training rows that replaces a missing number.

    Raises:
        UserError: Naming a column that no mean and deviation can describe.
    """
    names = named(columns, "number")
    used: list[tuple[Column, float]] = []
    for name in names:
        if (statistics := _statistics(table, name, missing)) is not None:
            mean, deviation, fill = statistics
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
    if indicated := [name for name in names if table[name].null_count]:
        absent = graph.add("IsNaN", _stack(graph, indicated))
        graph.output(absent, [Column(f"{name} is missing") for name in indicated])


def _statistics(table: "pa.Table", name: str, missing: Missing) -> tuple[float, float, float] | None:
    """Mean, standard deviation and replacement of missing values of a number; None if it has one value only."""
    import pyarrow.compute as pc

    values = table[name]
    if values.null_count == len(values):
        raise UserError(f"features: column {name!r} has no value in any training row: drop it")
    low, high = (value.as_py() for value in pc.min_max(values).values())
    if low == high:
        if not values.null_count:
            _warn_constant(name, f"the value {low:g}")
        return None
    mean, deviation = pc.mean(values).as_py(), pc.stddev(values, ddof=0).as_py()
    # approximate_median is a t-digest (T. Dunning, O. Ertl, 2019): an exact one would sort a copy of the column.
    fill = mean if missing == "mean" else pc.approximate_median(values).as_py()
    if not (np.isfinite([low, high, mean, deviation]).all() and deviation > 0):
        raise UserError(
            f"features: column {name!r} goes from {low:g} to {high:g} in the training rows, which no "
            "double-precision mean and deviation can hold: rescale or drop it"
        )
    return mean, deviation, fill


def _stack(graph: Graph, names: Sequence[str]) -> str:
    """Adds columns side by side, double [N, len(names)]."""
    axis = graph.constant(np.array([1]))
    return graph.add("Concat", *[graph.add("Unsqueeze", name, axis) for name in names], axis=1)


def dummies(graph: Graph, index: str, count: int) -> str:
    """Adds indicators of an index, bool [N, count]; ONNX Runtime has no OneHot for double.

    Args:
        graph: The graph.
        index: Name of the index, [N].
        count: Number of columns; a larger index has none.
    """
    axis, numbers = graph.constant(np.array([1])), graph.constant(np.arange(count)[None])
    return graph.add("Equal", graph.add("Unsqueeze", index, axis), numbers)


def named(columns: TableColumns, kind: str) -> list[str]:
    """Names of the columns of a type, `number` or `category`."""
    return [column["name"] for column in columns if column["type"] == kind]


def onnx_type(name: str) -> int:
    """ONNX' number of a type of NumPy, or of `str`."""
    from onnx import helper

    return int(helper.np_dtype_to_tensor_dtype(np.dtype(object if name == "str" else name)))


def _warn_constant(name: str, value: str) -> None:
    print(f"features: column {name!r} has {value} in all training rows and is left out", file=sys.stderr)
