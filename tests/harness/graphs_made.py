"""Models for tests: ONNX graphs, exported to models/model.onnx."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper


def save(graph: onnx.GraphProto) -> str:
    """Writes models/model.onnx; gives its SHA-256."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 2)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    Path("models").mkdir(exist_ok=True)
    Path("models/model.onnx").write_bytes(model)
    return hashlib.sha256(model).hexdigest()


def save_linear_classifier(weights: NDArray[Any], bias: Sequence[float], shape: Sequence[int]) -> str:
    """Writes a linear classifier of pictures; gives its SHA-256.

    Args:
        weights: Of each value of a picture and class, [H * W * C, K].
        bias: Of each class, [K].
        shape: Height, width and channels of the pictures.
    """
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["image"], ["flat"]),
            helper.make_node("Gemm", ["flat", "weights", "bias"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["probabilities"]),
        ],
        "model",
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["N", *shape])],
        [helper.make_tensor_value_info("probabilities", onnx.TensorProto.FLOAT, ["N", len(bias)])],
        [
            numpy_helper.from_array(weights.astype(np.float32), "weights"),
            numpy_helper.from_array(np.array(bias, np.float32), "bias"),
        ],
    )
    return save(graph)
