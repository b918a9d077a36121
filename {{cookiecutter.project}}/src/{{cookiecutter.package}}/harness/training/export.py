"""Export of a fitted model: equal trainings write equal bytes.

models/weights.npz   name -> array
models/model.onnx    the whole model, from raw inputs to outputs, in canonical form
models/model.json    description of the model: input, target, configuration, calibration, SHA-256 of model.onnx

Images: input "image", float32 [N, H, W, C], pixel values 0..255. Tables: an input for each column, with its name,
double [N] (NaN is missing) or string [N] ("" is missing). Classification: output "probabilities", float32
[N, K]. Regression: output "prediction", float32 [N, 1].
"""

import hashlib
import json
import logging
import tempfile
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray

from .. import contracts, prepared, targets
from ..core.errors import UserError
from ..exported import graphs, inference

if TYPE_CHECKING:
    import keras

TOLERANCE = 1e-5  # maximum difference between fitted model and ONNX Runtime, relative to the largest output
VERIFIED_ROWS = 256  # number of rows of the validation split that are compared


def save(
    fitted: contracts.Fitted,
    inputs: contracts.Inputs,
    manifest: contracts.Manifest,
    sections: Mapping[str, Any],
    folder: Path,
) -> None:
    """Writes weights, ONNX model and description, after verifying the export.

    Args:
        fitted: The fitted model.
        inputs: Arrays on which the model was fitted.
        manifest: Manifest of the prepared data.
        sections: Sections of the configuration to store in the description.
        folder: Folder to write to.

    Raises:
        UserError: If an output differs by more than `TOLERANCE`.
    """
    prepared_input, target = prepared.modality(manifest), targets.target(manifest)
    content = serialize(fitted, inputs, target.OUTPUT)
    outputs = inference.predict(content, prepared_input.feeds("validation"))
    verify(fitted.predict(inputs.array("validation")[:VERIFIED_ROWS]), outputs[:VERIFIED_ROWS])
    description = {
        **{key: manifest[key] for key in ("input", "target", "target_name", "classes") if key in manifest},
        **prepared_input.describe(manifest),
        **sections,
        **fitted.notes,
        "calibration": target.calibrate(outputs, prepared.targets("validation")),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    folder.mkdir(exist_ok=True)
    np.savez(folder / "weights.npz", **fitted.weights)  # type: ignore[arg-type]
    (folder / "model.onnx").write_bytes(content)
    text = json.dumps(description, indent=2, sort_keys=True, ensure_ascii=False)
    (folder / "model.json").write_text(text + "\n", encoding="utf-8")


def serialize(fitted: contracts.Fitted, inputs: contracts.Inputs, output: str) -> bytes:
    """The model from raw inputs to output, as canonical ONNX bytes.

    Args:
        fitted: The fitted model.
        inputs: Arrays on which the model was fitted.
        output: Name of the output.

    Raises:
        UserError: If an input has the name of the output.
    """
    graph, names = fitted.graph(), [inputs.name]
    if inputs.preprocessing is not None:
        graph = graphs.prepend(inputs.preprocessing, graph)
        names = [value.name for value in inputs.preprocessing.graph.input]
    if output in names:
        raise UserError(f"data: a column may not be called {output!r}, like the model's output: rename or drop it")
    content: bytes = graphs.canonical(graph, names, [output]).SerializeToString(deterministic=True)
    return content


def verify(expected: NDArray[Any], actual: NDArray[Any]) -> None:
    """Compares the outputs of ONNX Runtime with those of the fitted model.

    Args:
        expected: Outputs of the fitted model, [N, ...].
        actual: Outputs of the exported model, [N, ...].

    Raises:
        UserError: If an output differs by more than `TOLERANCE` times the largest |expected|, or times 1 if that is
            smaller.
    """
    difference = float(np.abs(actual - expected).max())
    if not difference <= TOLERANCE * max(1.0, float(np.abs(expected).max())):
        raise UserError(
            f"the ONNX export differs from the fitted model by {difference:.2g} (tolerance {TOLERANCE:.0e}): "
            "ONNX computes a layer of the model differently; replace it. Nothing was written"
        )


def to_onnx(model: "keras.Model") -> onnx.ModelProto:
    """A Keras model in ONNX; equal models give equal graphs.

    tf2onnx optimizes the graph in an order that depends on memory addresses (it iterates over sets of nodes) and on
    names (a counter of the process numbers them), and the order can decide which nodes are merged. Both are therefore
    fixed here.

    Args:
        model: A model with one input and one output.
    """
    import tf2onnx.convert  # also its submodules: loading them advances the counter that is set below

    tf2onnx.graph.Node.__hash__ = lambda node: zlib.crc32(node.name.encode())
    tf2onnx.utils.INTERNAL_NAME = 1
    with tempfile.TemporaryDirectory() as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # Keras uses deprecated names of NumPy
        path = Path(temporary, "model.onnx")
        logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)  # it reports optimizations that do not apply as errors
        model.export(path, format="onnx", opset_version=graphs.OPSET, verbose=False)
        return onnx.load(path)
