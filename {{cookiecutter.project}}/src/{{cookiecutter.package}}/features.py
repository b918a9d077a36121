"""Feature engineering of tables: an ONNX graph from raw columns to the matrix `encoded`, part of the exported model.

Keras has preprocessing layers for this, but tf2onnx cannot export those for strings. So the graph is built here out of
ONNX operators, with statistics of the training rows alone, and training itself reads rows that ONNX Runtime has
encoded with this very graph; export puts the same graph in front of the trained model. There is no second
implementation: what the service computes from a raw row is what the model was trained on.

Inputs are named as the columns: a number is double [N], NaN where missing; a category is string [N], "" where missing.
Arithmetic is double until numbers are standardised, so that a column with a large offset keeps its digits.

What is missing or new:
    number    the training mean or median stands in; a column that lacked values in training also has an indicator
    category  "missing" is a level of its own where it occurred in training. Rare levels are one level, "(other)"; one
              never seen counts as that where there is one, and else as no level at all (zeros), as in scikit-learn's
              OneHotEncoder(handle_unknown="infrequent_if_exist")
    constant  a column with one value in all training rows tells nothing and is left out, with a warning

Each encoding is a function chosen by `_target_` in conf/features/; its keyword-only parameters are the configuration.
Nothing heavy is imported above: the stage `config` reads these signatures.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import Field

from .cli import UserError
from .data.prepared import Layers, Tensor

if TYPE_CHECKING:
    import onnx
    import pyarrow as pa

Numbers = Literal["standardise", "none"]
Missing = Literal["mean", "median"]
Precision = Literal["float32", "float64"]
Positive = Annotated[int, Field(ge=1)]
Levels = Annotated[int, Field(ge=1, le=1_000_000)]  # float32 counts to 16 million without a gap

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


def one_hot(
    table: "pa.Table",
    columns: Sequence[Mapping[str, str]],
    *,
    numbers: Numbers,
    missing: Missing,
    min_count: Positive,
    max_categories: Levels,
    reference: bool,
    precision: Precision,
) -> Encoding:
    """A column of zeros and ones for each level of a category.

    Args:
        table: The training rows.
        columns: Their features: name and type, `number` or `category`.
        numbers: `standardise` to mean 0 and standard deviation 1, or `none`.
        missing: What stands in for a missing number.
        min_count: Levels that fewer training rows have become "(other)".
        max_categories: The most levels of a column, the most frequent ones; the rest becomes "(other)".
        reference: Leaves out the most frequent level of each category, to which the others are then compared: all of
            them would add up to the intercept of a linear model. A level never seen then counts as the reference.
        precision: Of the result: float32 for Keras, float64 for the linear models.

    Raises:
        UserError: Naming a column that cannot be encoded.
    """
    graph = _Graph(columns, precision)
    _encode_numbers(graph, table, columns, numbers, missing)
    for name in _named(columns, "category"):
        levels = _levels(table, name, min_count, max_categories)
        if levels is None:
            continue
        kept = [level for level in levels.names if not (reference and level == levels.most_frequent)]
        index = {key: kept.index(level) if level in kept else len(kept) for key, level in levels.of.items()}
        other = kept.index(_OTHER) if _OTHER in kept else len(kept)  # len(kept) is no column: all of them stay 0
        graph.output(
            _dummies(graph, graph.look_up(name, index, other), len(kept)), [Column(f"{name}={k}") for k in kept]
        )
    return graph.encoding()


def hashing(
    table: "pa.Table",
    columns: Sequence[Mapping[str, str]],
    *,
    numbers: Numbers,
    missing: Missing,
    buckets: Annotated[int, Field(ge=2, le=65_536)],
    precision: Precision,
) -> Encoding:
    """A fixed number of columns for each category, of which number MurmurHash3(level) modulo `buckets` is 1.

    No list of levels is kept, so that new ones are as good as old ones; several share a bucket (K. Weinberger et al.,
    Feature Hashing for Large Scale Multitask Learning, ICML 2009, here without signs). The standard operators of ONNX
    cannot hash a string: this is ONNX Runtime's own `com.microsoft.MurmurHash3`, of which scikit-learn's
    `murmurhash3_32(level, seed=0, positive=True)` is the same function.

    Args:
        table: The training rows.
        columns: Their features: name and type, `number` or `category`.
        numbers: `standardise` to mean 0 and standard deviation 1, or `none`.
        missing: What stands in for a missing number.
        buckets: Columns for each category.
        precision: Of the result: float32 for Keras, float64 for the linear models.

    Raises:
        UserError: Naming a column that cannot be encoded.
    """
    graph = _Graph(columns, precision)
    _encode_numbers(graph, table, columns, numbers, missing)
    for name in _named(columns, "category"):
        levels = _levels(table, name, 1, len(table))
        if levels is None:
            continue
        has_missing = _MISSING in levels.names
        code = graph.add("MurmurHash3", name, domain="com.microsoft", seed=0, positive=1)
        bucket = graph.add("Cast", graph.add("Mod", code, graph.constant(np.uint32(buckets))), to=_type("int64"))
        absent = graph.add("Cast", graph.look_up(name, {"": 1}, 0), to=_type("bool"))
        bucket = graph.add("Where", absent, graph.constant(np.int64(buckets)), bucket)
        found = [Column(f"{name}#{i}") for i in range(buckets)] + [Column(f"{name}={_MISSING}")] * has_missing
        graph.output(_dummies(graph, bucket, len(found)), found)
    return graph.encoding()


def embedding(
    table: "pa.Table",
    columns: Sequence[Mapping[str, str]],
    *,
    numbers: Numbers,
    missing: Missing,
    min_count: Positive,
    max_categories: Levels,
    width: Positive,
) -> Encoding:
    """A trainable vector for each level of a category, learnt by the network (for Keras models).

    Source: C. Guo, F. Berkhahn, Entity Embeddings of Categorical Variables, arXiv:1604.06737, 2016. `encoded` holds the
    number of the level, which is looked up by the first layers of the Keras model. Vectors start at zero, so that the
    one for levels never seen stays there where training had no rare levels to learn it from.

    Args:
        table: The training rows.
        columns: Their features: name and type, `number` or `category`.
        numbers: `standardise` to mean 0 and standard deviation 1, or `none`.
        missing: What stands in for a missing number.
        min_count: Levels that fewer training rows have share one vector.
        max_categories: The most levels of a column, the most frequent ones; the rest shares that vector.
        width: Numbers in a vector; at most as many as the column has levels.

    Raises:
        UserError: Naming a column that cannot be encoded.
    """
    graph = _Graph(columns, "float32")
    _encode_numbers(graph, table, columns, numbers, missing)
    sizes: list[int] = []
    for name in _named(columns, "category"):
        levels = _levels(table, name, min_count, max_categories)
        if levels is None:
            continue
        number = {level: i for i, level in enumerate([k for k in levels.names if k != _OTHER], 1)}
        index = {key: number.get(level, 0) for key, level in levels.of.items()}
        looked_up = graph.add("Unsqueeze", graph.look_up(name, index, 0), graph.constant(np.array([1])))
        sizes.append(len(number) + 1)
        graph.output(looked_up, [Column(f"{name} (level)", levels=sizes[-1])])

    def layers(features: int) -> tuple[Tensor, Tensor]:
        import keras  # here, not above: only who trains a network waits for TensorFlow

        entry = keras.Input((features,), name=OUTPUT)
        dense = features - len(sizes)
        parts = [entry[:, :dense]] if dense else []
        for i, size in enumerate(sizes):
            vectors = keras.layers.Embedding(size, min(width, size), embeddings_initializer="zeros")
            parts.append(vectors(entry[:, dense + i]))
        return entry, keras.layers.Concatenate()(parts) if len(parts) > 1 else parts[0]

    return graph.encoding(layers)


def columns(graph: "onnx.ModelProto") -> list[Column]:
    """Returns what the columns of `encoded` are.

    Args:
        graph: Of an `Encoding`, which keeps them as metadata.
    """
    (kept,) = (entry.value for entry in graph.metadata_props if entry.key == "columns")
    return [Column(*column) for column in json.loads(kept)]


class _Graph:
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
            self._parts.append(self.add("Cast", part, to=_type(self._precision)))
            self._encoded += columns

    def encoding(self, layers: Callable[[int], tuple[Tensor, Tensor]] | None = None) -> Encoding:
        """Completes the graph."""
        from onnx import checker, helper

        from .export import IR_VERSION, OPSET

        if not self._parts:
            raise UserError("features: no column is left to learn from: each has one value in all training rows")
        self.add("Concat", *self._parts, axis=1, output=OUTPUT)
        width = len(self._encoded)
        inputs = [
            helper.make_tensor_value_info(
                column["name"], _type("float64" if column["type"] == "number" else "str"), ["N"]
            )
            for column in self._columns
        ]
        outputs = [helper.make_tensor_value_info(OUTPUT, _type(self._precision), ["N", width])]
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


_OTHER, _MISSING = "(other)", "(missing)"


class _Levels(NamedTuple):
    """Levels of a category: their names in order, the name for each value that training had, the most frequent name."""

    names: list[str]
    of: dict[str, str]
    most_frequent: str


def _levels(table: "pa.Table", name: str, min_count: int, max_categories: int) -> _Levels | None:
    """Counts the values of a category; memory grows with the number of different ones, not with the rows."""
    import pyarrow.compute as pc

    counted = pc.value_counts(table[name])
    counts: dict[str, int] = dict(zip(counted.field(0).to_pylist(), counted.field(1).to_pylist(), strict=True))
    missing = counts.pop("", 0) + counts.pop(None, 0)  # type: ignore[call-overload]
    if not counts:
        raise UserError(f"features: column {name!r} has no value in any training row: drop it")
    ranked = sorted(counts, key=lambda value: (-counts[value], value))
    kept = sorted(value for value in ranked[:max_categories] if counts[value] >= min_count)
    of = {value: value for value in kept} | ({"": _MISSING} if missing else {})
    rows = {value: counts[value] for value in kept} | ({_MISSING: missing} if missing else {})
    if rare := sum(counts.values()) - sum(counts[value] for value in kept):
        rows[_OTHER] = rare
    if len(rows) == 1:
        (only,) = rows
        _warn_constant(name, f"the level {only!r}")
        return None
    return _Levels(list(rows), of, max(rows, key=lambda level: rows[level]))


def _encode_numbers(
    graph: _Graph, table: "pa.Table", columns: Sequence[Mapping[str, str]], numbers: Numbers, missing: Missing
) -> None:
    """Adds the numbers, and an indicator for those that training rows lacked."""
    import pyarrow.compute as pc

    used: list[tuple[Column, float]] = []
    indicated: list[str] = []
    for name in _named(columns, "number"):
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


def _stack(graph: _Graph, names: Sequence[str]) -> str:
    """Adds the columns side by side, double [N, len(names)]."""
    axis = graph.constant(np.array([1]))
    return graph.add("Concat", *[graph.add("Unsqueeze", name, axis) for name in names], axis=1)


def _dummies(graph: _Graph, index: str, count: int) -> str:
    """Adds True where the index is the column's, bool [N, count]. ONNX Runtime has no OneHot for double."""
    axis, numbers = graph.constant(np.array([1])), graph.constant(np.arange(count)[None])
    return graph.add("Equal", graph.add("Unsqueeze", index, axis), numbers)


def _named(columns: Sequence[Mapping[str, str]], kind: str) -> list[str]:
    return [column["name"] for column in columns if column["type"] == kind]


def _warn_constant(name: str, value: str) -> None:
    print(f"features: column {name!r} has {value} in all training rows and is left out", file=sys.stderr)


def _type(name: str) -> int:
    from onnx import helper

    return int(helper.np_dtype_to_tensor_dtype(np.dtype(object if name == "str" else name)))
