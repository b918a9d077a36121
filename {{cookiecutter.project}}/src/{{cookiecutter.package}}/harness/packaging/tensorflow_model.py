"""The exported model in TensorFlow: the encoding, then the Keras layers.

Nothing is fitted again: the layers are the trained ones, and the encoding of a table is computed operator by operator
from models/model.onnx. A graph without Keras layers (a linear model) is computed as a whole.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from numpy.typing import NDArray

from .. import targets
from ..contracts import Target
from ..core.errors import UserError
from ..core.paths import MODELS
from ..exported import model as exported

if TYPE_CHECKING:
    import keras
    import onnx
    import tensorflow as tf

Tensor = Any
Feeds = Mapping[str, NDArray[Any]]
Predict = Callable[[Feeds], NDArray[Any]]


class ExportedModel(NamedTuple):
    """The exported model on disk, split into its encoding and its layers.

    Attributes:
        graph: The graph of model.onnx.
        description: The content of model.json.
        encoding: The graph's first nodes, up to the input of the Keras layers; all nodes if there are none.
        encoded: Name of the encoding's result; None if the layers take the graph's input.
    """

    graph: "onnx.GraphProto"
    description: dict[str, Any]
    encoding: "Sequence[onnx.NodeProto]"
    encoded: str | None

    @property
    def target(self) -> Target:
        """The module of the model's target."""
        return targets.target(self.description)


def operators() -> "dict[str, Callable[..., Tensor]]":
    """ONNX operator -> its exact counterpart in TensorFlow.

    A counterpart takes the operator's inputs, and its attributes by name. An operator that features.py adds to the
    encoding needs a row here, and a case in the tests, which compare it with ONNX Runtime.
    """
    import tensorflow as tf
    from onnx import helper

    return {
        "Add": tf.add,
        "Cast": lambda x, to: tf.cast(x, tf.as_dtype(helper.tensor_dtype_to_np_dtype(to))),
        "Clip": tf.clip_by_value,
        "Concat": lambda *parts, axis: tf.concat(list(parts), axis),
        "Div": tf.divide,
        "Equal": tf.equal,
        "Floor": tf.floor,
        "IsNaN": tf.math.is_nan,
        "MatMul": tf.matmul,
        "Mul": tf.multiply,
        "Softmax": lambda x, axis=-1: tf.nn.softmax(x, axis),
        "Sub": tf.subtract,
        "Unsqueeze": lambda x, axes: tf.expand_dims(x, int(axes[0])),
        "Where": tf.where,
    }


# The keys of `operators`, for checks without TensorFlow; and LabelEncoder, whose table must be part of the module.
OPERATORS = {
    "Add", "Cast", "Clip", "Concat", "Div", "Equal", "Floor", "IsNaN", "LabelEncoder", "MatMul", "Mul", "Softmax",
    "Sub", "Unsqueeze", "Where",
}  # fmt: skip


def read(folder: Path = MODELS) -> ExportedModel:
    """Reads the exported model, without TensorFlow.

    Args:
        folder: The folder of model.json and model.onnx.

    Raises:
        UserError: If there is no model, or TensorFlow has no counterpart for one of its operators.
    """
    import onnx

    description = exported.read(folder)
    graph = onnx.load(folder / "model.onnx").graph
    nodes, encoded = _encoding(graph, description)
    unknown = {node.op_type for node in nodes} - OPERATORS
    if "MurmurHash3" in unknown:
        raise UserError(
            "features: hashing is computed by ONNX Runtime's MurmurHash3, which TensorFlow Serving does not have: "
            "choose features: default or embedding in conf/config.yaml, or serve the ONNX model (`make serve`)"
        )
    if unknown:
        raise UserError(f"the encoding has {', '.join(sorted(unknown))}, which has no exact counterpart in TensorFlow")
    return ExportedModel(graph, description, nodes, encoded)


def _encoding(graph: "onnx.GraphProto", description: Mapping[str, Any]) -> "tuple[list[onnx.NodeProto], str | None]":
    """The nodes of the encoding, and the name of its result."""
    if "keras" not in description:
        return list(graph.node), graph.output[0].name
    if description["input"] == "images":
        return [], None
    # The encoding ends with the only Concat before the layers whose inputs all come from a Cast.
    casts = {name for node in graph.node if node.op_type == "Cast" for name in node.output}
    last = next(i for i, node in enumerate(graph.node) if node.op_type == "Concat" and {*node.input} <= casts)
    return list(graph.node[: last + 1]), graph.node[last].output[0]


def build(model: ExportedModel, layers: "keras.Model | None") -> "tf.Module":
    """The whole model in TensorFlow.

    Args:
        model: The exported model.
        layers: The trained Keras model, if there is one.

    Returns:
        A module whose `predict` takes tensors by name and returns the output.
    """
    import tensorflow as tf
    from onnx import helper, numpy_helper

    module, functions, read = tf.Module(), operators(), _reader(model.description)
    constants = {constant.name: numpy_helper.to_array(constant) for constant in model.graph.initializer}
    # A SavedModel holds the variables and tables that are attributes of the module.
    module.variables_of_layers = [variable.value for variable in layers.weights] if layers else []
    module.lookups = {node.name: _lookup(node) for node in model.encoding if node.op_type == "LabelEncoder"}

    def run(node: "onnx.NodeProto", inputs: list[Tensor]) -> Tensor:
        if node.op_type == "LabelEncoder":
            return module.lookups[node.name].lookup(*inputs)
        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        return functions[node.op_type](*inputs, **attributes)

    def predict(feeds: Mapping[str, Tensor]) -> Tensor:
        cells = {name: read(name, tf.convert_to_tensor(value)) for name, value in feeds.items()}
        values = {**constants, **cells}
        for node in model.encoding:
            values[node.output[0]] = run(node, [values[name] for name in node.input])
        entry = values[model.encoded or model.graph.input[0].name]
        return layers(entry, training=False) if layers else entry

    module.predict = predict
    return module


def _reader(description: Mapping[str, Any]) -> Callable[[str, Tensor], Tensor]:
    """A function from the name and the values of an input to those that the graph takes."""
    if "notation" not in description:  # a picture
        return lambda name, values: values
    read: Callable[[str, Tensor], Tensor] = importlib.import_module(".tables", __package__).reader(description)
    return read


def _lookup(node: "onnx.NodeProto") -> "tf.lookup.StaticHashTable":
    """The table of a LabelEncoder."""
    import tensorflow as tf
    from onnx import helper

    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    entries = tf.lookup.KeyValueTensorInitializer(
        tf.constant(attributes["keys_strings"]), tf.constant(attributes["values_int64s"], tf.int64)
    )
    return tf.lookup.StaticHashTable(entries, attributes["default_int64"])
