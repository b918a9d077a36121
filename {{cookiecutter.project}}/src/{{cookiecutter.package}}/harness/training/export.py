"""The trained model on disk: weights and ONNX in canonical form, the same bytes for the same training.

models/weights.npz   name -> array
models/model.onnx    the whole model, from raw inputs to outputs
models/model.json    its description: input, target, configuration, calibration, SHA-256 of model.onnx

Images: input "image", float32 [N, H, W, C], pixel values 0..255. Tables: an input for each column, named as the
column, double [N] (NaN is missing) or string [N] ("" is missing). Classification: output "probabilities", float32
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

TOLERANCE = 1e-5  # largest difference between fitted model and ONNX Runtime, relative to the largest output
VERIFIED_ROWS = 256  # of the validation split


def save(
    fitted: contracts.Fitted,
    inputs: contracts.Inputs,
    manifest: contracts.Manifest,
    sections: Mapping[str, Any],
    folder: Path,
) -> None:
    """Writes weights, ONNX and description, once the outputs of the ONNX model equal those of the fitted one.

    Args:
        fitted: The fitted model.
        inputs: Arrays on which it was fitted.
        manifest: Manifest of the prepared data.
        sections: Sections of the configuration that the description holds.
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
    """The whole model in ONNX, from raw inputs to output, in canonical form.

    Args:
        fitted: The fitted model.
        inputs: Arrays on which it was fitted.
        output: Name of the output.

    Raises:
        UserError: If an input has the name of the output.
    """
    graph, names = fitted.graph(), [inputs.name]
    if inputs.preprocessing is not None:
        graph = graphs.prepend(inputs.preprocessing, graph)
        names = [value.name for value in inputs.preprocessing.graph.input]
    if output in names:
        raise UserError(f"data: a column may not be called {output!r}, as the model's answer: rename or drop it")
    content: bytes = graphs.canonical(graph, names, [output]).SerializeToString(deterministic=True)
    return content


def verify(expected: NDArray[Any], actual: NDArray[Any]) -> None:
    """Compares the outputs of ONNX Runtime with those of the fitted model.

    Args:
        expected: Outputs of the fitted model, [N, ...].
        actual: Outputs of its export.

    Raises:
        UserError: If one differs by more than `TOLERANCE` times the largest, or times 1 if all are smaller.
    """
    difference = float(np.abs(actual - expected).max())
    if not difference <= TOLERANCE * max(1.0, float(np.abs(expected).max())):
        raise UserError(
            f"the ONNX export differs from the fitted model by {difference:.2g} (tolerance {TOLERANCE:.0e}): "
            "the model holds a layer that ONNX computes otherwise; replace it, nothing was written"
        )


def to_onnx(model: "keras.Model") -> onnx.ModelProto:
    """A Keras model in ONNX, with nodes that depend on the model alone.

    tf2onnx optimizes the graph node by node, in the order of a set of nodes, which is that of their addresses in
    memory, and of their names, which are numbered on through the process. Both can decide which nodes are merged.

    Args:
        model: A model with one input and one output.
    """
    import tf2onnx.convert  # all of it, because it takes numbers while it loads

    tf2onnx.graph.Node.__hash__ = lambda node: zlib.crc32(node.name.encode())
    tf2onnx.utils.INTERNAL_NAME = 1
    with tempfile.TemporaryDirectory() as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # Keras uses names that NumPy no longer has
        path = Path(temporary, "model.onnx")
        logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)  # an optimization that does not apply is no problem
        model.export(path, format="onnx", opset_version=graphs.OPSET, verbose=False)
        return onnx.load(path)
