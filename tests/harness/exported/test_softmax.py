"""Tests of softmax with the same bits on every processor."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from my_experiment.harness.exported import inference, softmax
from onnx import TensorProto
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
from scipy.special import softmax as expected


def model(opset: int = softmax.OPSET, axis: int = -1) -> bytes:
    ends = [make_tensor_value_info(name, TensorProto.FLOAT, [None, 100]) for name in ("x", "y")]
    nodes = [make_node("Identity", ["x"], ["z"]), make_node("Softmax", ["z"], ["y"], axis=axis)]
    graph = make_graph(nodes, "graph", ends[:1], ends[1:])
    content: bytes = make_model(graph, opset_imports=[make_opsetid("", opset)], ir_version=8).SerializeToString()
    return content


@pytest.mark.parametrize("axis", [-1, 0])
def test_it_is_computed_by_operators_that_add_one_by_one(tmp_path: Path, axis: int) -> None:
    numbers = ((np.arange(6400) * 2654435761 % 2**16 / 2**16 - 0.5) * 12).astype("float32").reshape(64, 100)
    (file := tmp_path / "model.onnx").write_bytes(model(axis=axis))
    found = inference.predict(file, [{"x": numbers}])
    np.testing.assert_allclose(found, expected(numbers, axis), rtol=1e-6)
    if axis == -1:  # seen with AVX-512, and on QEMU's Haswell
        assert hashlib.md5(found.tobytes()).hexdigest()[:8] == "d6e28491"


def test_other_models_stay_as_they_are() -> None:
    assert softmax.spelled_out(model(opset=13)) == model(opset=13)
    proto = onnx.load_from_string(softmax.spelled_out(model()))
    assert [node.op_type for node in proto.graph.node] == ["Identity", "ReduceMax", "Sub", "Exp", "ReduceSum", "Div"]
    assert softmax.spelled_out(proto.SerializeToString()) == proto.SerializeToString()
