"""Feature encodings as ONNX graphs from a table's columns to encoded rows."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from ..contracts import Inputs, Layers, Tensor
from ..core.errors import UserError

if TYPE_CHECKING:
    import onnx
    import pyarrow as pa

Numbers = Literal["standardise", "none"]
Missing = Literal["mean", "median"]
Precision = Literal["float32", "float64"]
TableColumns = Sequence[Mapping[str, str]]  # name and type, `number`, `date` or `category`, as in the manifest
OUTPUT = "encoded"
OTHER, MISSING = "(other)", "(missing)"  # names of the levels of rare and of missing values
ML_OPSET = 2  # of ai.onnx.ml, as tf2onnx writes it: graphs of different versions cannot be merged
# Bound of a standardized number, which keeps float32 arithmetic finite. It changes no training row if there are fewer
# than 10^12: a value is at most sqrt(N - 1) standard deviations from the mean (P. A. Samuelson, How Deviant Can You
# Be?, 1968).
LIMIT = 1e6
UNSCALED_LIMIT = 1e37  # bound of a number that is not standardized; the maximum of float32 is 3.4e38


class Column(NamedTuple):
    """A column of the encoded rows.

    Attributes:
        name: Name of the table's column, with the level if it is a category: "age", "age is missing", "sex=f".
        offset: Offset in the units of the table's column; encoded = (raw - offset) / scale.
        scale: Scale in the units of the table's column.
        levels: Number of levels if the column holds indices of levels, for embeddings and trees; else 0.
        missing: Whether missing values stay missing, as NaN, which only trees can use.
    """

    name: str
    offset: float = 0.0
    scale: float = 1.0
    levels: int = 0
    missing: bool = False


class Encoding(NamedTuple):
    """A fitted encoding.

    Attributes:
        graph: Graph from an input for each column of the table to the output "encoded", float32 or double [N, F].
        names: Names of the encoded columns.
        layers: Makes the Keras input "encoded" and the tensor for the first layer, the input itself or with embeddings.
    """

    graph: "onnx.ModelProto"
    names: tuple[str, ...]
    layers: Layers


class Levels(NamedTuple):
    """The levels of a category in the training rows.

    Attributes:
        names: Names of the levels in order, including (missing) and (other).
        of: Value of a cell -> name of its level; any other value belongs to (other).
        most_frequent: Name of the most frequent level.
    """

    names: list[str]
    of: dict[str, str]
    most_frequent: str


def columns(graph: "onnx.ModelProto") -> list[Column]:
    """The encoded columns, from the metadata of an `Encoding`'s graph."""
    (content,) = (entry.value for entry in graph.metadata_props if entry.key == "columns")
    return [Column(*column) for column in json.loads(content)]


def encoded_columns(inputs: Inputs, models: str) -> list[Column]:
    """The columns of the encoded rows of a table.

    Args:
        inputs: Arrays on which the model is fitted.
        models: Kind of models, in the plural, for the message.

    Raises:
        UserError: If the inputs are not a table.
    """
    if inputs.preprocessing is None:
        raise UserError(f"model: {models} are for tables: choose another model in conf/config.yaml")
    return columns(inputs.preprocessing)


class Graph:
    """Builder of an encoding's ONNX graph; names never clash with columns."""

    def __init__(self, columns: TableColumns, precision: Precision) -> None:
        """Starts a graph with an input for each column.

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
            raise UserError(f"features: a column may not be called {OUTPUT!r}, like the model's input: rename it")

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
        """Adds a node with one output and returns the output's name.

        Args:
            operator: ONNX operator: https://onnx.ai/onnx/operators/
            *inputs: Names of columns, constants or outputs of other nodes.
            output: Name of the output; "" for a new name.
            **attributes: Attributes of the operator; `domain` for an operator outside the standard.
        """
        from onnx import helper

        self._nodes.append(helper.make_node(operator, inputs, [output or self._name()], **attributes))
        return str(self._nodes[-1].output[0])

    def cast(self, value: str, kind: str) -> str:
        """Adds a conversion to a NumPy type and returns the output's name."""
        return self.add("Cast", value, to=onnx_type(kind))

    def expand(self, value: str) -> str:
        """Adds a second axis to a vector: [N] -> [N, 1]."""
        return self.add("Unsqueeze", value, self.constant(np.array([1])))

    def look_up(self, column: str, index: Mapping[str, int], default: int) -> str:
        """Adds a lookup of each value of a category, int64 [N].

        Args:
            column: Name of the category.
            index: Value -> index.
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
        """Appends columns to the encoded rows.

        Args:
            part: Name of a value [N, len(columns)], of any type that can be cast to a number.
            columns: The encoded columns that it holds.
        """
        if columns:
            self._parts.append(self.cast(part, self._precision))
            self._encoded += columns

    def encoding(self, layers: Callable[[int], tuple[Tensor, Tensor]] | None = None) -> Encoding:
        """The finished encoding.

        Args:
            layers: Number of encoded columns -> Keras input and tensor for the first layer; None for a plain input.

        Raises:
            UserError: If there are no encoded columns.
        """
        if not self._parts:
            raise UserError("features: no column is left to learn from: each has a single value in the training rows")
        self.add("Concat", *self._parts, axis=1, output=OUTPUT)
        width, make = len(self._encoded), layers or _plain
        return Encoding(self._model(), tuple(column.name for column in self._encoded), lambda: make(width))

    def _model(self) -> "onnx.ModelProto":
        from onnx import checker, helper

        from ..exported.graphs import IR_VERSION, OPSET

        types = {"number": onnx_type("float64"), "date": onnx_type("float64"), "category": onnx_type("str")}
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
    """A Keras input, also as tensor for the first layer."""
    import keras  # here, not above: only the training of a network waits for TensorFlow

    entry = keras.Input((width,), name=OUTPUT)
    return entry, entry


def levels(table: "pa.Table", name: str, min_count: int, max_categories: int) -> Levels | None:
    """The levels of a category; None, with a warning, if constant.

    Memory grows with the number of distinct values, not with the number of rows.

    Args:
        table: The training rows.
        name: Name of the category.
        min_count: Minimum number of rows of a level; rarer values belong to (other).
        max_categories: Maximum number of levels; beyond it, the rarest values belong to (other).
    """
    import pyarrow.compute as pc

    counted = pc.value_counts(table[name])
    counts: dict[str, int] = dict(zip(counted.field(0).to_pylist(), counted.field(1).to_pylist(), strict=True))
    missing = counts.pop("", 0) + counts.pop(None, 0)  # type: ignore[call-overload]
    if not counts:
        warn_constant(name, "a gap")
        return None
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
        warn_constant(name, f"the level {next(iter(rows))!r}")
        return None
    return Levels(list(rows), of, max(rows, key=lambda level: rows[level]))


def categories(
    table: "pa.Table", columns: TableColumns, min_count: int, max_categories: int
) -> list[tuple[str, Levels]]:
    """Name and levels of each category that is not constant; see `levels`."""
    pairs = ((name, levels(table, name, min_count, max_categories)) for name in named(columns, "category"))
    return [(name, levels_) for name, levels_ in pairs if levels_ is not None]


def dummies(graph: Graph, index: str, count: int) -> str:
    """Adds indicators of an index, bool [N, count].

    ONNX Runtime has no OneHot for doubles.

    Args:
        graph: The graph.
        index: Name of the index, [N]; an index >= count sets no indicator.
        count: Number of indicators.
    """
    axis, numbers = graph.constant(np.array([1])), graph.constant(np.arange(count)[None])
    return graph.add("Equal", graph.add("Unsqueeze", index, axis), numbers)


def named(columns: TableColumns, kind: str) -> list[str]:
    """Names of the columns of a type: `number`, `date` or `category`."""
    return [column["name"] for column in columns if column["type"] == kind]


def onnx_type(name: str) -> int:
    """ONNX type number of a NumPy type or of `str`."""
    from onnx import helper

    return int(helper.np_dtype_to_tensor_dtype(np.dtype(object if name == "str" else name)))


def warn_constant(name: str, value: str) -> None:
    """Says that a column is left out, because it is constant.

    Args:
        name: Name of the column.
        value: Its value, in words.
    """
    print(f"features: column {name!r} has {value} in all training rows and is left out", file=sys.stderr)
