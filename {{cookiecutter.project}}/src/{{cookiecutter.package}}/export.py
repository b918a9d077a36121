"""The trained model on disk: canonical weights and ONNX, the same bytes for the same training.

models/weights.npz   name -> array
models/model.onnx    what the model is asked with, unprocessed -> its answer
models/model.json    what the service must know of both, configuration of the model, SHA-256 of model.onnx

Pictures: "image" float32 [N, H, W, C], pixel values 0..255. Tables: an input a column, named as the column, double [N]
(NaN is missing) or string [N] ("" is missing). Classification: "probabilities" float32 [N, K]. Regression:
"prediction" float32 [N, 1].
"""

import hashlib
import itertools
import json
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx.compose
from numpy.typing import NDArray

from . import inference
from .cli import UserError
from .data import prepared

if TYPE_CHECKING:
    import keras

    from .training import Fitted

OPSET, IR_VERSION = 18, 10  # of every graph made here: only equal ones can be joined
TOLERANCE = 1e-5  # largest difference between what was fitted and ONNX Runtime, relative to the largest answer


def save(
    fitted: "Fitted",
    inputs: prepared.Inputs,
    manifest: prepared.Manifest,
    sections: Mapping[str, Any],
    folder: Path,
) -> None:
    """Writes weights, ONNX and their description, and verifies that the ONNX model answers as the fitted one does.

    Args:
        fitted: The trained model.
        inputs: What it was fitted on.
        manifest: Of the prepared data.
        sections: Of the configuration, kept in the description.
        folder: Where to write.

    Raises:
        UserError: Where an answer differs by more than `TOLERANCE`.
    """
    modality, target = prepared.modality(manifest), prepared.target(manifest)
    serialised = serialise(fitted, inputs, target.OUTPUT)
    answers = inference.predict(serialised, modality.feeds("validation"))
    verify(fitted.predict(inputs.array("validation")[:256]), answers[:256])
    description = {
        **{key: manifest[key] for key in ("input", "target", "target_name", "classes") if key in manifest},
        **modality.describe(manifest),
        **sections,
        **fitted.notes,
        "calibration": target.calibrate(answers, prepared.targets("validation")),
        "sha256": hashlib.sha256(serialised).hexdigest(),
    }
    folder.mkdir(exist_ok=True)
    np.savez(folder / "weights.npz", **fitted.weights)  # type: ignore[arg-type]
    (folder / "model.onnx").write_bytes(serialised)
    text = json.dumps(description, indent=2, sort_keys=True, ensure_ascii=False)
    (folder / "model.json").write_text(text + "\n", encoding="utf-8")


def serialise(fitted: "Fitted", inputs: prepared.Inputs, output: str) -> bytes:
    """Returns the whole model in ONNX, from what it is asked with to its answer, in canonical form.

    Args:
        fitted: The trained model.
        inputs: What it was fitted on.
        output: Name of the answer.

    Raises:
        UserError: Where an input has the name of the answer.
    """
    graph, names = fitted.graph(), [inputs.name]
    if inputs.preprocessing is not None:
        graph, names = prepend(inputs.preprocessing, graph), [value.name for value in inputs.preprocessing.graph.input]
    if output in names:
        raise UserError(f"data: a column may not be called {output!r}, as the model's answer: rename or drop it")
    serialised: bytes = canonical(graph, names, [output]).SerializeToString(deterministic=True)
    return serialised


def verify(expected: NDArray[Any], answers: NDArray[Any]) -> None:
    """Compares what the fitted model answers with what ONNX Runtime does.

    Args:
        expected: Of the fitted model, [N, ...].
        answers: Of its export.

    Raises:
        UserError: Where one differs by more than `TOLERANCE` times the largest, or times 1 where all are smaller.
    """
    difference = float(np.abs(answers - expected).max())
    if not difference <= TOLERANCE * max(1.0, float(np.abs(expected).max())):
        raise UserError(
            f"the ONNX export differs from the fitted model by {difference:.2g} (tolerance {TOLERANCE:.0e}): "
            "the model holds a layer that ONNX computes otherwise; replace it, nothing was written"
        )


def to_onnx(model: "keras.Model") -> onnx.ModelProto:
    """Converts a Keras model to ONNX; which operations it is made of depends on the model alone.

    tf2onnx improves the graph node by node: in the order of a set of them, which is that of their addresses in memory,
    and of their names, which are numbered on through the process. Either decides at times what can be merged.

    Args:
        model: With one input "image" and one output.
    """
    import tempfile
    import zlib

    import tf2onnx.convert  # all of it, which takes numbers as it is loaded

    tf2onnx.graph.Node.__hash__ = lambda node: zlib.crc32(node.name.encode())
    tf2onnx.utils.INTERNAL_NAME = 1
    with tempfile.TemporaryDirectory() as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # Keras asks NumPy for names that it no longer has
        path = Path(temporary, "model.onnx")
        logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)  # an optimisation that does not apply is no news
        model.export(path, format="onnx", opset_version=OPSET, verbose=False)
        return onnx.load(path)


def prepend(first: onnx.ModelProto, second: onnx.ModelProto) -> onnx.ModelProto:
    """Returns both graphs as one: the only output of the first becomes the only input of the second.

    Args:
        first: Its inputs become the inputs.
        second: Its outputs become the outputs.
    """
    for model in (first, second):
        model.ir_version = IR_VERSION
    link = first.graph.output[0].name, second.graph.input[0].name
    return onnx.compose.merge_models(first, second, [link], prefix1="first/", prefix2="second/")


def canonical(model: onnx.ModelProto, inputs: list[str], outputs: list[str]) -> onnx.ModelProto:
    """Rewrites names and order of an ONNX graph so that they depend on the computation alone.

    tf2onnx merges equal constants in the order of their memory addresses, and its names carry that order: equal
    models come out with different bytes. Nodes are sorted depth first from the outputs, then numbered.

    Args:
        model: The model; not changed.
        inputs: The new names of its inputs.
        outputs: The new names of its outputs.

    Returns:
        The same computation.
    """
    graph = onnx.GraphProto()
    graph.CopyFrom(model.graph)
    producer = {name: node for node in graph.node for name in node.output if name}
    constants = {constant.name: constant for constant in graph.initializer}
    names = dict(zip((i.name for i in graph.input), inputs, strict=True))
    taken = {*inputs, *outputs}  # a column may be called anything

    def unused(prefix: str) -> str:
        return next(name for n in itertools.count(len(names)) if (name := f"{prefix}_{n}") not in taken)

    results = [output.name for output in graph.output]
    ordered: list[onnx.NodeProto] = []
    done: set[int] = set()
    stack = [(producer[name], False) for name in reversed(results)]
    while stack:  # depth first without recursion: deep models have thousands of nodes
        node, visited = stack.pop()
        if id(node) in done:
            continue
        if not visited:
            stack.append((node, True))
            stack += [(producer[name], False) for name in reversed(node.input) if name in producer]
            continue
        done.add(id(node))
        ordered.append(node)
        for name in node.input:
            if name in constants:
                names.setdefault(name, unused("constant"))
        for name in filter(None, node.output):  # "" is an optional output, or input, that is left out
            names[name] = unused("value")
    names |= dict(zip(results, outputs, strict=True))
    for index, node in enumerate(ordered):
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        node.name = f"{node.op_type}_{index}"
    used = [name for name in names if name in constants]
    for value in [*graph.input, *graph.output]:
        value.name = names[value.name]
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    for name in used:
        constants[name].name = names[name]
    made = onnx.helper.make_graph(ordered, "model", graph.input, graph.output, [constants[name] for name in used])
    result = onnx.helper.make_model(made, opset_imports=model.opset_import, ir_version=model.ir_version)
    onnx.checker.check_model(result)
    return result


def load_keras(folder: Path) -> "keras.Model":
    """Builds the trained Keras model again, from its description and weights.

    Args:
        folder: Where `save` has written.

    Returns:
        What was fitted: it takes prepared rows, for a table the encoded ones.
    """
    from . import keras_training  # noqa: F401, I001  loads TensorFlow quietly, before Keras would
    import keras

    description = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    described = description["keras"] | {"compile_config": None}  # to be asked, not trained: without its own loss
    model = keras.models.model_from_json(json.dumps(described))
    with np.load(folder / "weights.npz") as weights:
        for variable, name in zip(model.weights, weights.files, strict=True):
            variable.assign(weights[name])
    return model
