"""The trained model on disk: canonical weights and ONNX, the same bytes for the same training.

models/weights.npz   variable path -> array
models/model.onnx    "image" float32 [N, H, W, C], pixel values 0..255 -> "probabilities" float32 [N, K]
models/model.json    classes, input shape, configuration of the model, SHA-256 of model.onnx
"""

import hashlib
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray

from . import config
from .cli import UserError

if TYPE_CHECKING:
    import keras

TOLERANCE = 1e-5  # largest difference between a probability from Keras and from ONNX Runtime


def save(
    model: "keras.Model",
    target: Mapping[str, Any],
    manifest: Mapping[str, Any],
    images: NDArray[np.uint8],
    folder: Path,
) -> None:
    """Writes weights, ONNX and their description, and verifies that Keras and ONNX Runtime agree.

    Args:
        model: The trained model.
        target: Section `model` of the configuration, with which `load_keras` builds the model again.
        manifest: Of the prepared data.
        images: uint8 [N, H, W, C]; up to 256 of them are predicted both ways.
        folder: Where to write.

    Raises:
        UserError: Where a probability differs by more than `TOLERANCE`.
    """
    graph = to_onnx(model)
    serialised = graph.SerializeToString(deterministic=True)
    verify(model, serialised, images[:256].astype(np.float32))
    folder.mkdir(exist_ok=True)
    np.savez(folder / "weights.npz", **{v.path: np.asarray(v) for v in model.weights})  # type: ignore[arg-type]
    (folder / "model.onnx").write_bytes(serialised)
    description = {
        "classes": manifest["classes"],
        "input_shape": manifest["shape"],
        "max_pixels": manifest["max_pixels"],
        "model": dict(target),
        "sha256": hashlib.sha256(serialised).hexdigest(),
    }
    (folder / "model.json").write_text(json.dumps(description, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def verify(model: "keras.Model", serialised: bytes, images: NDArray[np.float32]) -> None:
    """Compares Keras with ONNX Runtime.

    Args:
        model: The model in Keras.
        serialised: The same model in ONNX.
        images: float32 [N, H, W, C], pixel values 0..255.

    Raises:
        UserError: Where a probability differs by more than `TOLERANCE`.
    """
    import onnxruntime

    expected = np.asarray(model(images, training=False))
    session = onnxruntime.InferenceSession(serialised, providers=["CPUExecutionProvider"])
    difference = float(np.abs(session.run(["probabilities"], {"image": images})[0] - expected).max())
    if not difference <= TOLERANCE:
        raise UserError(
            f"the ONNX export differs from Keras by {difference:.2g} (tolerance {TOLERANCE:.0e}): "
            "the model holds a layer that ONNX computes otherwise; replace it, nothing was written"
        )


def to_onnx(model: "keras.Model") -> onnx.ModelProto:
    """Converts a Keras model to ONNX, with canonical names.

    Args:
        model: With one input "image" and one output.
    """
    import tempfile

    with tempfile.TemporaryDirectory() as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # Keras asks NumPy for names that it no longer has
        path = Path(temporary, "model.onnx")
        model.export(path, format="onnx", verbose=False)
        return canonical(onnx.load(path), ["image"], ["probabilities"])


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
                names.setdefault(name, f"constant_{len(names)}")
        for name in filter(None, node.output):  # "" is an optional output, or input, that is left out
            names[name] = f"value_{len(names)}"
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
    """
    from . import training  # noqa: F401  loads TensorFlow quietly

    description = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    model = config.instantiate(description["model"], tuple(description["input_shape"]), len(description["classes"]))
    with np.load(folder / "weights.npz") as weights:
        for variable, name in zip(model.weights, weights.files, strict=True):
            variable.assign(weights[name])
    return model
