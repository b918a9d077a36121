"""Signatures of the SavedModel, named as TensorFlow Serving expects.

serving_default       inputs of the exported ONNX model -> its output, under the same names
classify or regress   serialized tf.Example -> `classes` and `scores`, or `outputs`. A feature is named as its input.
                      tf.Example has 32-bit floats only; serving_default takes the numbers of tables as 64-bit floats
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .tensorflow_model import ExportedModel, Feeds, Predict, Tensor, build

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


def specifications(model: ExportedModel) -> "dict[str, tf.TensorSpec]":
    """Input -> shape and type, as in the ONNX model."""
    import tensorflow as tf
    from onnx import helper

    specs = {}
    for value in model.graph.input:
        tensor = value.type.tensor_type
        shape = [dimension.dim_value or None for dimension in tensor.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        specs[value.name] = tf.TensorSpec(shape, tf.string if dtype == np.object_ else tf.as_dtype(dtype))
    return specs


def examples_method(model: ExportedModel) -> str:
    """The method of the signature that takes tf.Examples: `classify` or `regress`."""
    return {"classification": "classify", "regression": "regress"}[model.description["target"]]


def save(model: ExportedModel, layers: "keras.Model | None", folder: Path) -> None:
    """Writes the SavedModel.

    Args:
        model: The exported model.
        layers: The trained Keras model, if there is one.
        folder: The folder to write.
    """
    import tensorflow as tf

    module, specs = build(model, layers), specifications(model)
    # A column name need not be a valid argument name: `_rename` gives the inputs their names.
    arguments = {name: f"input_{index}" for index, name in enumerate(specs)}

    @tf.function(autograph=False)
    def predict(**feeds: Tensor) -> dict[str, Tensor]:
        return {model.target.OUTPUT: module.predict({name: feeds[arguments[name]] for name in specs})}

    features = {name: _feature(spec) for name, spec in specs.items()}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")], autograph=False)
    def examples(inputs: Tensor) -> dict[str, Tensor]:
        parsed = tf.io.parse_example(inputs, features)
        outputs = module.predict({name: tf.cast(parsed[name], spec.dtype) for name, spec in specs.items()})
        if examples_method(model) == "regress":
            return {tf.saved_model.REGRESS_OUTPUTS: outputs}
        classes = tf.tile(tf.constant([model.description["classes"]]), [tf.shape(outputs)[0], 1])
        return {tf.saved_model.CLASSIFY_OUTPUT_CLASSES: classes, tf.saved_model.CLASSIFY_OUTPUT_SCORES: outputs}

    named = {arguments[name]: tf.TensorSpec(spec.shape, spec.dtype, arguments[name]) for name, spec in specs.items()}
    signatures = {
        tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY: predict.get_concrete_function(**named),
        examples_method(model): examples.get_concrete_function(),
    }
    tf.saved_model.save(module, str(folder), signatures)
    (folder / "fingerprint.pb").unlink()  # optional, and wrong after `_rename`
    _rename(folder / "saved_model.pb", {argument: name for name, argument in arguments.items()}, model)


def _feature(spec: "tf.TensorSpec") -> Any:
    """An input as a feature of a tf.Example."""
    import tensorflow as tf

    text = spec.dtype == tf.string
    # A row of a table may lack a value; a picture has all of its values.
    default = None if spec.shape.rank > 1 else "" if text else np.nan
    return tf.io.FixedLenFeature(spec.shape[1:], tf.string if text else tf.float32, default)


def _rename(file: Path, names: Mapping[str, str], model: ExportedModel) -> None:
    """Sets names of inputs and methods, which `tf.saved_model.save` cannot.

    Args:
        file: The saved_model.pb.
        names: Argument -> input.
        model: The exported model.
    """
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    methods = {"classify": tf.saved_model.CLASSIFY_METHOD_NAME, "regress": tf.saved_model.REGRESS_METHOD_NAME}
    (graph,) = saved.meta_graphs
    inputs = graph.signature_def[tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY].inputs
    for argument, name in names.items():
        inputs[name].CopyFrom(inputs[argument])
        del inputs[argument]
    graph.signature_def[examples_method(model)].method_name = methods[examples_method(model)]
    for node in graph.object_graph_def.nodes:  # Python programs that load the model read the names here
        if node.WhichOneof("kind") == "bare_concrete_function":
            keywords = node.bare_concrete_function.argument_keywords
            keywords[:] = [names.get(keyword, keyword) for keyword in keywords]
    file.write_bytes(saved.SerializeToString(deterministic=True))


def as_examples(feeds: Feeds) -> "list[tf.train.Example]":
    """Rows as tf.Examples, without missing values.

    Args:
        feeds: Input -> array, as for the ONNX model.
    """
    import tensorflow as tf

    def feature(value: Any) -> tf.train.Feature:
        if isinstance(value, str):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode()]))
        return tf.train.Feature(float_list=tf.train.FloatList(value=np.ravel(value)))

    def missing(value: Any) -> bool:
        return value == "" if isinstance(value, str) else bool(np.isnan(value).any())

    examples = []
    for row in zip(*feeds.values(), strict=True):
        present = {name: feature(value) for name, value in zip(feeds, row, strict=True) if not missing(value)}
        examples.append(tf.train.Example(features=tf.train.Features(feature=present)))
    return examples


def load(folder: Path, model: ExportedModel) -> dict[str, Predict]:
    """Loads a SavedModel.

    Args:
        folder: The folder of the SavedModel.
        model: The exported model that it holds.

    Returns:
        Signature -> a function from rows to outputs.
    """
    import tensorflow as tf

    loaded = tf.saved_model.load(str(folder))
    default, parsing = loaded.signatures["serving_default"], loaded.signatures[examples_method(model)]
    scores = tf.saved_model.REGRESS_OUTPUTS if "regress" in loaded.signatures else tf.saved_model.CLASSIFY_OUTPUT_SCORES

    def of_rows(feeds: Feeds) -> NDArray[Any]:
        return np.asarray(default(**{name: tf.constant(value) for name, value in feeds.items()})[model.target.OUTPUT])

    def of_examples(feeds: Feeds) -> NDArray[Any]:
        serialized = [example.SerializeToString() for example in as_examples(feeds)]
        return np.asarray(parsing(inputs=tf.constant(serialized))[scores])

    return {"serving_default": of_rows, examples_method(model): of_examples}
