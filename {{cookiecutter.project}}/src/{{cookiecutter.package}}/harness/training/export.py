"""The trained model on disk: canonical weights and ONNX, the same bytes for the same training.

models/weights.npz   name -> array
models/model.onnx    what the model is asked with, unprocessed -> its answer
models/model.json    what the service must know of both, configuration of the model, SHA-256 of model.onnx

Pictures: "image" float32 [N, H, W, C], pixel values 0..255. Tables: an input a column, named as the column, double [N]
(NaN is missing) or string [N] ("" is missing). Classification: "probabilities" float32 [N, K]. Regression:
"prediction" float32 [N, 1].
"""

import hashlib
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

from .. import contracts, prepared, targets
from ..core.errors import UserError
from ..exported import graphs, inference
from ..exported.graphs import OPSET

if TYPE_CHECKING:
    import keras

    from ..contracts import Fitted

TOLERANCE = 1e-5  # largest difference between what was fitted and ONNX Runtime, relative to the largest answer


def save(
    fitted: "Fitted",
    inputs: contracts.Inputs,
    manifest: contracts.Manifest,
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
    modality, target = prepared.modality(manifest), targets.target(manifest)
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


def serialise(fitted: "Fitted", inputs: contracts.Inputs, output: str) -> bytes:
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
        graph, names = (
            graphs.prepend(inputs.preprocessing, graph),
            [value.name for value in inputs.preprocessing.graph.input],
        )
    if output in names:
        raise UserError(f"data: a column may not be called {output!r}, as the model's answer: rename or drop it")
    serialised: bytes = graphs.canonical(graph, names, [output]).SerializeToString(deterministic=True)
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
