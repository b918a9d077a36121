"""The model for TensorFlow Serving, and as a Keras file.

    python -m <package>.savedmodel                writes models/serving/
    python -m <package>.savedmodel --keras FILE   writes the trained Keras model, as .keras or HDF5 (.h5)

models/serving/models.config                      the ModelServerConfig: which models, and where the server finds them
models/serving/<package>/<version>/               a SavedModel; the version is the time of the commit that brought the
                                                  model into dvc.lock: the same in every clone, and the latest is served
        assets.extra/tf_serving_warmup_requests   what the server asks the model before it says that it is ready

Signatures, named as TensorFlow Serving expects:
    serving_default       what the exported ONNX model takes -> what it answers, under the same names
    classify or regress   serialised tf.Example -> `classes` and `scores`, or `outputs`. A feature has the name of its
                          input. tf.Example knows floats of 32 bits only; serving_default takes the numbers of tables
                          as double

Nothing is fitted or encoded anew: the layers are the trained ones, and the encoding of a table is read from
models/model.onnx, operator by operator. What was written is loaded again and must answer the test split as ONNX Runtime
does.
"""

import argparse
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import prepared, targets
from ..core import stages
from ..core.errors import UserError
from ..core.paths import MODELS, NAME
from ..tracking import git, lockfile
from ..training import restore
from ..training.export import TOLERANCE

if TYPE_CHECKING:
    import keras
    import onnx
    import tensorflow as tf

SERVING = MODELS / "serving"
MOUNTED = "/models"  # where the server's image has models/serving
WARM_UP = 32  # rows
# What the encodings of tables and the linear models are made of; each has an exact counterpart in TensorFlow.
OPERATORS = {
    "Add", "Cast", "Clip", "Concat", "Div", "Equal", "IsNaN", "LabelEncoder", "MatMul", "Softmax", "Sub", "Unsqueeze",
    "Where",
}  # fmt: skip
Tensor = Any
Feeds = Mapping[str, NDArray[Any]]
Answer = Callable[[Feeds], NDArray[Any]]


class Model(NamedTuple):
    """The model as it lies on disk.

    Attributes:
        graph: Of model.onnx.
        description: The content of model.json.
        encoding: The graph's first nodes, up to what the Keras model takes; all of them where there is no Keras model.
        encoded: The name of the last one's result; None where Keras takes the input itself.
    """

    graph: "onnx.GraphProto"
    description: dict[str, Any]
    encoding: "Sequence[onnx.NodeProto]"
    encoded: str | None

    @property
    def target(self) -> Any:
        """What it answers: `targets.classification` or `targets.regression`."""
        return targets.target(self.description)


def read(folder: Path = MODELS) -> Model:
    """Reads the model, without TensorFlow.

    Args:
        folder: Where `export.save` has written.

    Raises:
        UserError: Where there is none, or TensorFlow has no counterpart for a part of it.
    """
    import onnx

    try:
        content = (folder / "model.onnx").read_bytes()
        description = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"there is no {error.filename}: run `dvc repro` or `dvc pull`") from None
    if hashlib.sha256(content).hexdigest() != description["sha256"]:
        raise UserError(f"{folder / 'model.onnx'} differs from model.json: run `dvc repro`")
    graph = onnx.load_from_string(content).graph
    if "keras" not in description:
        nodes, encoded = list(graph.node), graph.output[0].name
    elif description["input"] == "images":
        nodes, encoded = [], None
    else:
        # `features` joins its parts, all of them cast to one type: no other Concat before the Keras layers is so.
        casts = {name for node in graph.node if node.op_type == "Cast" for name in node.output}
        last = next(i for i, node in enumerate(graph.node) if node.op_type == "Concat" and {*node.input} <= casts)
        nodes, encoded = list(graph.node[: last + 1]), graph.node[last].output[0]
    unknown = {node.op_type for node in nodes} - OPERATORS
    if "MurmurHash3" in unknown:
        raise UserError(
            "features: hashing is computed by ONNX Runtime's MurmurHash3, which TensorFlow Serving does not have: "
            "choose features: default or embedding in conf/config.yaml, or serve the ONNX model (`make serve`)"
        )
    if unknown:
        raise UserError(f"the encoding has {', '.join(sorted(unknown))}, which has no exact counterpart in TensorFlow")
    return Model(graph, description, nodes, encoded)


def commit_time(folder: Path = MODELS) -> int:
    """Returns when the commit was made that brought the model into dvc.lock, in seconds since 1970.

    Args:
        folder: Where the model lies.

    Raises:
        UserError: Where no commit has it.
    """
    md5 = hashlib.md5((folder / "model.onnx").read_bytes(), usedforsecurity=False).hexdigest()
    if git.git("show", "HEAD:./dvc.lock") is None or lockfile.training(lockfile.read_lock("HEAD")).model != md5:
        raise UserError(
            f"{folder / 'model.onnx'} is in the dvc.lock of no commit here, whose time would be its version: commit "
            "dvc.lock and params.yaml first"
        )
    return int(git.git("log", "-1", "--format=%ct", "-S", md5, "--", "dvc.lock") or 0)


def run(node: "onnx.NodeProto", inputs: Sequence[Tensor], tables: "Mapping[str, tf.lookup.StaticHashTable]") -> Tensor:
    """Computes an operator of ONNX in TensorFlow.

    Args:
        node: The operator.
        inputs: Tensors, or arrays where they are constants.
        tables: Node -> its table, for LabelEncoder.
    """
    import tensorflow as tf
    from onnx import helper

    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    match node.op_type:
        case "Add":
            return tf.add(*inputs)
        case "Cast":
            return tf.cast(inputs[0], tf.as_dtype(helper.tensor_dtype_to_np_dtype(attributes["to"])))
        case "Clip":
            return tf.clip_by_value(*inputs)
        case "Concat":
            return tf.concat(list(inputs), attributes["axis"])
        case "Div":
            return tf.divide(*inputs)
        case "Equal":
            return tf.equal(*inputs)
        case "IsNaN":
            return tf.math.is_nan(inputs[0])
        case "LabelEncoder":
            return tables[node.name].lookup(inputs[0])
        case "MatMul":
            return tf.matmul(*inputs)
        case "Softmax":
            return tf.nn.softmax(inputs[0])
        case "Sub":
            return tf.subtract(*inputs)
        case "Unsqueeze":
            return tf.expand_dims(inputs[0], int(inputs[1][0]))
        case "Where":
            return tf.where(*inputs)
        case other:
            raise NotImplementedError(other)  # `read` has refused it


def build(model: Model, layers: "keras.Model | None") -> "tf.Module":
    """Returns the whole model in TensorFlow: `ask` takes tensors by name and returns the answer.

    Args:
        model: As it lies on disk.
        layers: The Keras model, if it has one.
    """
    import tensorflow as tf
    from onnx import helper, numpy_helper

    module = tf.Module()
    constants = {constant.name: numpy_helper.to_array(constant) for constant in model.graph.initializer}
    # What a SavedModel keeps must hang on the module.
    module.kept = [variable.value for variable in layers.weights] if layers else []
    module.tables = {}
    for node in model.encoding:
        if node.op_type == "LabelEncoder":
            found = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
            entries = tf.lookup.KeyValueTensorInitializer(
                tf.constant(found["keys_strings"]), tf.constant(found["values_int64s"], tf.int64)
            )
            module.tables[node.name] = tf.lookup.StaticHashTable(entries, found["default_int64"])

    def ask(feeds: Mapping[str, Tensor]) -> Tensor:
        values = {**constants, **{name: tf.convert_to_tensor(value) for name, value in feeds.items()}}
        for node in model.encoding:
            values[node.output[0]] = run(node, [values[name] for name in node.input], module.tables)
        entry = values[model.encoded or model.graph.input[0].name]
        return layers(entry, training=False) if layers else entry

    module.ask = ask
    return module


def specifications(model: Model) -> "dict[str, tf.TensorSpec]":
    """Returns the inputs: name -> shape and type, as the ONNX model has them."""
    import tensorflow as tf
    from onnx import helper

    found = {}
    for value in model.graph.input:
        kind = value.type.tensor_type
        shape = [dimension.dim_value or None for dimension in kind.shape.dim]
        numpy = helper.tensor_dtype_to_np_dtype(kind.elem_type)
        found[value.name] = tf.TensorSpec(shape, tf.string if numpy == np.object_ else tf.as_dtype(numpy))
    return found


def examples_method(model: Model) -> str:
    """Returns how TensorFlow Serving calls the signature that takes tf.Examples."""
    return {"classification": "classify", "regression": "regress"}[model.description["target"]]


def save(model: Model, layers: "keras.Model | None", folder: Path) -> None:
    """Writes the SavedModel.

    Args:
        model: As it lies on disk.
        layers: The Keras model, if it has one.
        folder: Where to write.
    """
    import tensorflow as tf

    module, wanted = build(model, layers), specifications(model)
    # Columns may be called anything, arguments may not: they get their names in `rename`.
    arguments = {name: f"input_{index}" for index, name in enumerate(wanted)}
    features = {
        name: tf.io.FixedLenFeature(
            spec.shape[1:],
            tf.string if spec.dtype == tf.string else tf.float32,
            # Where a row of a table lacks a value; pictures have all of theirs.
            None if spec.shape.rank > 1 else "" if spec.dtype == tf.string else np.nan,
        )
        for name, spec in wanted.items()
    }

    @tf.function(autograph=False)
    def predict(**feeds: Tensor) -> dict[str, Tensor]:
        return {model.target.OUTPUT: module.ask({name: feeds[arguments[name]] for name in wanted})}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")], autograph=False)
    def examples(inputs: Tensor) -> dict[str, Tensor]:
        parsed = tf.io.parse_example(inputs, features)
        answers = module.ask({name: tf.cast(parsed[name], spec.dtype) for name, spec in wanted.items()})
        if examples_method(model) == "regress":
            return {tf.saved_model.REGRESS_OUTPUTS: answers}
        classes = tf.tile(tf.constant([model.description["classes"]]), [tf.shape(answers)[0], 1])
        return {tf.saved_model.CLASSIFY_OUTPUT_CLASSES: classes, tf.saved_model.CLASSIFY_OUTPUT_SCORES: answers}

    asked = {arguments[name]: tf.TensorSpec(spec.shape, spec.dtype, arguments[name]) for name, spec in wanted.items()}
    signatures = {
        tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY: predict.get_concrete_function(**asked),
        examples_method(model): examples.get_concrete_function(),
    }
    tf.saved_model.save(module, str(folder), signatures)
    (folder / "fingerprint.pb").unlink()  # of a file that changes now; it is optional
    rename(folder / "saved_model.pb", {argument: name for name, argument in arguments.items()}, model)


def rename(file: Path, names: Mapping[str, str], model: Model) -> None:
    """Gives inputs and methods the names that clients know: `tf.saved_model.save` cannot.

    Args:
        file: Of a SavedModel.
        names: Argument -> input.
        model: What it holds.
    """
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    methods = {
        "classify": tf.saved_model.CLASSIFY_METHOD_NAME,
        "regress": tf.saved_model.REGRESS_METHOD_NAME,
    }
    (graph,) = saved.meta_graphs
    inputs = graph.signature_def[tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY].inputs
    for argument, name in names.items():
        inputs[name].CopyFrom(inputs[argument])
        del inputs[argument]
    graph.signature_def[examples_method(model)].method_name = methods[examples_method(model)]
    for node in graph.object_graph_def.nodes:  # what loads it in Python reads the names here
        if node.WhichOneof("kind") == "bare_concrete_function":
            keywords = node.bare_concrete_function.argument_keywords
            keywords[:] = [names.get(keyword, keyword) for keyword in keywords]
    file.write_bytes(saved.SerializeToString(deterministic=True))


def as_examples(feeds: Feeds) -> "list[tf.train.Example]":
    """Returns rows as tf.Examples; what is missing is left out.

    Args:
        feeds: As for the ONNX model.
    """
    import tensorflow as tf

    def feature(value: Any) -> tf.train.Feature:
        if isinstance(value, str):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode()]))
        return tf.train.Feature(float_list=tf.train.FloatList(value=np.ravel(value)))

    return [
        tf.train.Example(
            features=tf.train.Features(
                feature={
                    name: feature(value)
                    for name, value in zip(feeds, row, strict=True)
                    if not (value == "" if isinstance(value, str) else np.isnan(value).any())
                }
            )
        )
        for row in zip(*feeds.values(), strict=True)
    ]


def answers(folder: Path, model: Model) -> dict[str, Answer]:
    """Loads a SavedModel and returns what each of its signatures answers to rows.

    Args:
        folder: Where it lies.
        model: What it should hold.
    """
    import tensorflow as tf

    loaded = tf.saved_model.load(str(folder))
    asked, parsed = loaded.signatures["serving_default"], loaded.signatures[examples_method(model)]
    scores = tf.saved_model.REGRESS_OUTPUTS if "regress" in loaded.signatures else tf.saved_model.CLASSIFY_OUTPUT_SCORES

    def default(feeds: Feeds) -> NDArray[Any]:
        return np.asarray(asked(**{name: tf.constant(value) for name, value in feeds.items()})[model.target.OUTPUT])

    def examples(feeds: Feeds) -> NDArray[Any]:
        serialised = [example.SerializeToString() for example in as_examples(feeds)]
        return np.asarray(parsed(inputs=tf.constant(serialised))[scores])

    return {"serving_default": default, examples_method(model): examples}


def single(feeds: Feeds) -> dict[str, NDArray[Any]]:
    """Returns rows with the precision that a tf.Example has."""
    return {
        name: value if value.dtype == object else value.astype(np.float32).astype(value.dtype)
        for name, value in feeds.items()
    }


def compare(answer: Answer, model: Model, what: str, folder: Path = MODELS) -> float:
    """Asks with the test split what was written, and ONNX Runtime, batch by batch.

    Args:
        answer: Of what was written.
        model: What it should be.
        what: How it is called.
        folder: Where the ONNX model lies.

    Returns:
        The largest difference, relative to the largest answer, or to 1 where all are smaller.

    Raises:
        UserError: Where that is more than `export.TOLERANCE`.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    difference, largest = 0.0, 1.0
    for feeds in prepared.modality(model.description).feeds("test", 256):
        rows = feeds if what in ("serving_default", "keras") else single(feeds)
        expected = session.run([model.target.OUTPUT], rows)[0]
        difference = float(np.maximum(difference, np.abs(answer(rows) - expected).max()))  # NaN stays
        largest = max(largest, float(np.abs(expected).max()))
    if not difference <= TOLERANCE * largest:
        raise UserError(
            f"{what}: TensorFlow's answers differ from those of models/model.onnx by {difference:.2g} (tolerance "
            f"{TOLERANCE:.0e}, largest answer {largest:.3g}): nothing was written"
        )
    return difference / largest


def write_warm_up(folder: Path, model: Model) -> None:
    """Writes a request for every signature, of a row of the test split: the server sends them before it is ready.

    Source: https://www.tensorflow.org/tfx/serving/saved_model_warmup

    Args:
        folder: Of the SavedModel.
        model: What it holds.
    """
    import tensorflow as tf
    from tensorflow_serving.apis import (
        classification_pb2,
        model_pb2,
        predict_pb2,
        prediction_log_pb2,
        regression_pb2,
    )

    row = next(iter(prepared.modality(model.description).feeds("test", 1)))
    predict = predict_pb2.PredictRequest(model_spec=model_pb2.ModelSpec(name=NAME, signature_name="serving_default"))
    for name, value in row.items():
        predict.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    logs = [prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=predict))]
    method = examples_method(model)
    asked = classification_pb2.ClassificationRequest() if method == "classify" else regression_pb2.RegressionRequest()
    asked.model_spec.CopyFrom(model_pb2.ModelSpec(name=NAME, signature_name=method))
    asked.input.example_list.examples.extend(as_examples(row))
    log = prediction_log_pb2.PredictionLog()
    getattr(log, f"{method}_log").request.CopyFrom(asked)
    file = folder / "assets.extra" / "tf_serving_warmup_requests"
    file.parent.mkdir()
    with tf.io.TFRecordWriter(str(file)) as writer:
        for each in (*logs, log):
            writer.write(each.SerializeToString())


def configuration() -> str:
    """Returns the ModelServerConfig of models/serving, as text."""
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    made = model_server_config_pb2.ModelServerConfig()
    made.model_config_list.config.add(name=NAME, base_path=f"{MOUNTED}/{NAME}", model_platform="tensorflow")
    return str(text_format.MessageToString(made))


def trained(model: Model, folder: Path = MODELS) -> "keras.Model | None":
    """Loads TensorFlow, and the trained Keras model if there is one.

    Args:
        model: As it lies on disk.
        folder: Where it lies.
    """
    from absl import logging

    from ..training import keras_fit  # noqa: F401  loads TensorFlow quietly

    # That a column's name is none for an argument, and HDF5 is an old format, is nothing that users could change.
    logging.set_verbosity(logging.ERROR)
    return restore.load_keras(folder) if "keras" in model.description else None


def write(model: Model, place: Path, folder: Path = MODELS) -> dict[str, float]:
    """Writes the SavedModel with its warm-up requests, and loads it again to compare.

    Args:
        model: As it lies on disk.
        place: Where to write.
        folder: Where the model lies.

    Returns:
        Signature -> what `compare` returns.

    Raises:
        UserError: Where a signature answers otherwise than the ONNX model.
    """
    save(model, trained(model, folder), place)
    write_warm_up(place, model)
    return {signature: compare(ask, model, signature, folder) for signature, ask in answers(place, model).items()}


def export(folder: Path = SERVING) -> Path:
    """Writes models/serving; what is there already of another commit stays.

    Args:
        folder: Where to write.

    Returns:
        The folder of the SavedModel.

    Raises:
        UserError: Where the model has no version, TensorFlow cannot compute it, or answers otherwise.
    """
    model = read()
    place = folder / NAME / str(commit_time())
    if place.exists():
        return place  # the model of a commit is always the same, and a server may be reading it
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=folder) as temporary:
        made, config = Path(temporary, "model"), Path(temporary, "models.config")
        for signature, difference in write(model, made).items():
            print(f"{signature}: answers the test split as models/model.onnx does, to {difference:.1g}")
        config.write_text(configuration(), encoding="utf-8")
        os.replace(config, folder / config.name)
        place.parent.mkdir(exist_ok=True)
        os.replace(made, place)
    return place


def export_keras(file: Path) -> None:
    """Writes the trained Keras model, which takes pixels 0..255, or the encoded columns of a table.

    Args:
        file: Ends in .keras or, for HDF5, in .h5.

    Raises:
        UserError: Where there is no such model, or the file does not answer as the ONNX model does.
    """
    if file.suffix not in (".keras", ".h5"):
        raise UserError(f"{file}: Keras writes .keras or, for HDF5, .h5: give it one of these endings")
    if not file.parent.is_dir():
        raise UserError(f"{file}: there is no folder {file.parent}: make it first")
    model = read()
    layers = trained(model)
    if layers is None:
        raise UserError("models/: a linear model that was solved exactly has no Keras layers: take models/weights.npz")
    import keras

    temporary = file.with_name(f".{file.stem}.tmp{file.suffix}")
    try:
        layers.save(temporary)
        module = build(model, keras.models.load_model(temporary, compile=False))
        compare(lambda feeds: np.asarray(module.ask(feeds)), model, "keras")
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


def main() -> None:
    """Writes what is asked for."""
    parser = argparse.ArgumentParser(prog=f"python -m {NAME} savedmodel", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--keras", type=Path, metavar="FILE", help="write this .keras or .h5 file instead")
    arguments = parser.parse_args()
    if arguments.keras:
        export_keras(arguments.keras)
    print(arguments.keras or export())


if __name__ == "__main__":
    stages.run(main)
