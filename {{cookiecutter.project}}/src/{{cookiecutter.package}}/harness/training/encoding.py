"""ONNX graphs that encode the columns of a table."""

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
OUTPUT = "encoded"
ML_OPSET = 2  # of ai.onnx.ml, as in what tf2onnx writes: only equal ones can be joined
# Of a standardised number. No training row of fewer than 10^12 lies further out (P. A. Samuelson, How Deviant Can You
# Be?, 1968: at most sqrt(N - 1) deviations), and float32 arithmetic on it stays finite: no answer becomes NaN.
LIMIT = 1e6
UNSCALED_LIMIT = 1e37  # of a number that is not standardised: float32 ends at 3.4e38


class Column(NamedTuple):
    """A column of `encoded`.

    Attributes:
        name: The table's column, with its level where it is a category: "age", "age is missing", "sex=f".
        offset: In the unit of the table's column; encoded = (raw - offset) / scale.
        scale: Likewise.
        levels: How many there are, where the column holds the number of a level, to be looked up and not to be
            calculated with; else 0.
    """

    name: str
    offset: float = 0.0
    scale: float = 1.0
    levels: int = 0


class Encoding(NamedTuple):
    """A fitted encoding.

    Attributes:
        graph: One input a column of the table -> "encoded", float32 or double [N, F].
        names: Of the columns of `encoded`.
        layers: Makes the Keras input "encoded" and the tensor for the first layer: the same, or with embeddings.
    """

    graph: "onnx.ModelProto"
    names: tuple[str, ...]
    layers: Layers


def columns(graph: "onnx.ModelProto") -> list[Column]:
    """Returns what the columns of `encoded` are.

    Args:
        graph: Of an `Encoding`, which keeps them as metadata.
    """
    (kept,) = (entry.value for entry in graph.metadata_props if entry.key == "columns")
    return [Column(*column) for column in json.loads(kept)]


class Graph:
    """An ONNX graph that grows node by node; its names are none that a column has."""

    def __init__(self, columns: Sequence[Mapping[str, str]], precision: Precision) -> None:
        self._columns = columns
        self._precision = precision
        self._taken = {column["name"] for column in columns}
        self._made = 0
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._parts: list[str] = []
        self._encoded: list[Column] = []
        if OUTPUT in self._taken:
            raise UserError(f"features: a column may not be called {OUTPUT!r}, as the model's own input: rename it")

    def _name(self) -> str:
        while True:
            self._made += 1
            if (name := f"encoding_{self._made}") not in self._taken:
                return name

    def constant(self, value: Any) -> str:
        """Adds a constant and returns its name."""
        from onnx import numpy_helper

        self._constants.append(numpy_helper.from_array(np.asarray(value), self._name()))
        return str(self._constants[-1].name)

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Adds a node and returns the name of its only output."""
        from onnx import helper

        self._nodes.append(helper.make_node(operator, inputs, [output or self._name()], **attributes))
        return str(self._nodes[-1].output[0])

    def look_up(self, column: str, index: Mapping[str, int], default: int) -> str:
        """Adds the number of each value of a column, int64 [N]."""
        keys, values = list(index), list(index.values())
        return self.add(
            "LabelEncoder",
            column,
            domain="ai.onnx.ml",
            keys_strings=keys,
            values_int64s=values,
            default_int64=default,
        )

    def output(self, part: str, columns: Sequence[Column]) -> None:
        """Appends a part, [N, len(columns)], to `encoded`."""
        if columns:
            self._parts.append(self.add("Cast", part, to=onnx_type(self._precision)))
            self._encoded += columns

    def encoding(self, layers: Callable[[int], tuple[Tensor, Tensor]] | None = None) -> Encoding:
        """Completes the graph."""
        from onnx import checker, helper

        from ..exported.graphs import IR_VERSION, OPSET

        if not self._parts:
            raise UserError("features: no column is left to learn from: each has one value in all training rows")
        self.add("Concat", *self._parts, axis=1, output=OUTPUT)
        width = len(self._encoded)
        inputs = [
            helper.make_tensor_value_info(
                column["name"], onnx_type("float64" if column["type"] == "number" else "str"), ["N"]
            )
            for column in self._columns
        ]
        outputs = [helper.make_tensor_value_info(OUTPUT, onnx_type(self._precision), ["N", width])]
        made = helper.make_graph(self._nodes, "features", inputs, outputs, self._constants)
        opsets = {"": OPSET, "ai.onnx.ml": ML_OPSET, "com.microsoft": 1}
        used = {"", *(node.domain for node in self._nodes)}
        model = helper.make_model(
            made,
            opset_imports=[helper.make_opsetid(domain, opsets[domain]) for domain in opsets if domain in used],
            ir_version=IR_VERSION,
        )
        helper.set_model_props(model, {"columns": json.dumps(self._encoded, ensure_ascii=False)})
        checker.check_model(model)

        def plain(features: int) -> tuple[Tensor, Tensor]:
            import keras  # here, not above: only who trains a network waits for TensorFlow

            entry = keras.Input((features,), name=OUTPUT)
            return entry, entry

        make = layers or plain
        return Encoding(model, tuple(column.name for column in self._encoded), lambda: make(width))


OTHER, MISSING = "(other)", "(missing)"


class CategoryLevels(NamedTuple):
    """Levels of a category: their names in order, the name for each value that training had, the most frequent name."""

    names: list[str]
    of: dict[str, str]
    most_frequent: str


def levels(table: "pa.Table", name: str, min_count: int, max_categories: int) -> CategoryLevels | None:
    """Counts the values of a category; memory grows with the number of different ones, not with the rows."""
    import pyarrow.compute as pc

    counted = pc.value_counts(table[name])
    counts: dict[str, int] = dict(zip(counted.field(0).to_pylist(), counted.field(1).to_pylist(), strict=True))
    missing = counts.pop("", 0) + counts.pop(None, 0)  # type: ignore[call-overload]
    if not counts:
        raise UserError(f"features: column {name!r} has no value in any training row: drop it")
    ranked = sorted(counts, key=lambda value: (-counts[value], value))
    kept = sorted(value for value in ranked[:max_categories] if counts[value] >= min_count)
    of = {value: value for value in kept} | ({"": MISSING} if missing else {})
    rows = {value: counts[value] for value in kept} | ({MISSING: missing} if missing else {})
    if rare := sum(counts.values()) - sum(counts[value] for value in kept):
        rows[OTHER] = rare
    if len(rows) == 1:
        (only,) = rows
        _warn_constant(name, f"the level {only!r}")
        return None
    return CategoryLevels(list(rows), of, max(rows, key=lambda level: rows[level]))


def encode_numbers(
    graph: Graph, table: "pa.Table", columns: Sequence[Mapping[str, str]], numbers: Numbers, missing: Missing
) -> None:
    """Adds the numbers, and an indicator for those that training rows lacked."""
    import pyarrow.compute as pc

    used: list[tuple[Column, float]] = []
    indicated: list[str] = []
    for name in named(columns, "number"):
        column = table[name]
        if column.null_count == len(column):
            raise UserError(f"features: column {name!r} has no value in any training row: drop it")
        if column.null_count:
            indicated.append(name)
        low, high = (value.as_py() for value in pc.min_max(column).values())
        if low == high:
            if not column.null_count:
                _warn_constant(name, f"the value {low:g}")
            continue
        mean, deviation = pc.mean(column).as_py(), pc.stddev(column, ddof=0).as_py()
        # approximate_median is a t-digest (T. Dunning, O. Ertl, 2019): an exact one would sort a copy of the column.
        fill = mean if missing == "mean" else pc.approximate_median(column).as_py()
        if not (np.isfinite([low, high, mean, deviation]).all() and deviation > 0):
            raise UserError(
                f"features: column {name!r} goes from {low:g} to {high:g} in the training rows, which no "
                "double-precision mean and deviation can hold: rescale or drop it"
            )
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
    if indicated:
        absent = graph.add("IsNaN", _stack(graph, indicated))
        graph.output(absent, [Column(f"{name} is missing") for name in indicated])


def _stack(graph: Graph, names: Sequence[str]) -> str:
    """Adds the columns side by side, double [N, len(names)]."""
    axis = graph.constant(np.array([1]))
    return graph.add("Concat", *[graph.add("Unsqueeze", name, axis) for name in names], axis=1)


def dummies(graph: Graph, index: str, count: int) -> str:
    """Adds True where the index is the column's, bool [N, count]. ONNX Runtime has no OneHot for double."""
    axis, numbers = graph.constant(np.array([1])), graph.constant(np.arange(count)[None])
    return graph.add("Equal", graph.add("Unsqueeze", index, axis), numbers)


def named(columns: Sequence[Mapping[str, str]], kind: str) -> list[str]:
    return [column["name"] for column in columns if column["type"] == kind]


def _warn_constant(name: str, value: str) -> None:
    print(f"features: column {name!r} has {value} in all training rows and is left out", file=sys.stderr)


def onnx_type(name: str) -> int:
    from onnx import helper

    return int(helper.np_dtype_to_tensor_dtype(np.dtype(object if name == "str" else name)))
