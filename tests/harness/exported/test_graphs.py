"""ONNX export: bytes that depend on the computation alone."""

import os
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from my_experiment.harness.exported import graphs
from onnx import helper, numpy_helper


def graph(prefix: str = "", backwards: bool = False, scale: float = 0.5) -> Any:
    """A small classifier, its names and the order of its parts as asked for."""

    def n(name: str) -> str:
        return prefix + name

    nodes = [
        helper.make_node("Mul", [n("in"), n("scale")], [n("scaled")], name=n("first")),
        helper.make_node("Flatten", [n("scaled")], [n("flat")], name=n("second")),
        helper.make_node("MatMul", [n("flat"), n("left")], [n("a")], name=n("third")),
        helper.make_node("MatMul", [n("flat"), n("right")], [n("b")], name=n("fourth")),
        helper.make_node("Clip", [n("a"), "", n("limit")], [n("clipped")], name=n("fifth")),
        helper.make_node("Dropout", [n("b")], [n("kept"), n("mask")], name=n("sixth")),
        helper.make_node("Add", [n("clipped"), n("kept")], [n("sum")], name=n("seventh")),
        helper.make_node("Softmax", [n("sum")], [n("out")], name=n("last")),
    ]
    if backwards:  # the two branches change places, still producers before consumers
        nodes = [*nodes[:2], nodes[3], nodes[5], nodes[2], nodes[4], *nodes[6:]]
    generator = np.random.default_rng(0)
    constants = [
        numpy_helper.from_array(np.array(scale, np.float32), n("scale")),
        numpy_helper.from_array(generator.normal(size=(6, 3)).astype(np.float32), n("left")),
        numpy_helper.from_array(generator.normal(size=(6, 3)).astype(np.float32), n("right")),
        numpy_helper.from_array(np.array(1, np.float32), n("limit")),
        numpy_helper.from_array(np.array(9, np.float32), n("unused")),
    ]
    if backwards:
        constants.reverse()
    made = helper.make_graph(
        nodes,
        n("graph"),
        [helper.make_tensor_value_info(n("in"), onnx.TensorProto.FLOAT, [n("batch"), 2, 3, 1])],
        [helper.make_tensor_value_info(n("out"), onnx.TensorProto.FLOAT, [n("batch"), 3])],
        constants,
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def canonical(model: Any) -> bytes:
    """The canonical bytes of a model."""
    result: bytes = graphs.canonical(model, ["image"], ["probabilities"]).SerializeToString(deterministic=True)
    return result


def answer(serialised: bytes, name: str) -> Any:
    """What a model says of three pictures."""
    images = np.random.default_rng(1).random((3, 2, 3, 1), np.float32)
    session = onnxruntime.InferenceSession(serialised, providers=["CPUExecutionProvider"])
    return session.run(None, {name: images})[0]


@pytest.mark.parametrize("prefix", ["", "StatefulPartitionedCall/", "value_"])
@pytest.mark.parametrize("backwards", [False, True])
def test_names_and_order_leave_no_trace(prefix: str, backwards: bool) -> None:
    assert canonical(graph(prefix, backwards)) == canonical(graph())


def test_once_is_enough() -> None:
    once = canonical(graph())
    assert canonical(onnx.load_from_string(once)) == once


def test_the_computation_stays() -> None:
    np.testing.assert_array_equal(answer(canonical(graph()), "image"), answer(graph().SerializeToString(), "in"))


def test_another_computation_has_other_bytes() -> None:
    assert canonical(graph(scale=0.25)) != canonical(graph())


def test_inputs_and_outputs_have_their_names_and_any_number_of_images() -> None:
    made = onnx.load_from_string(canonical(graph())).graph
    assert [value.name for value in (*made.input, *made.output)] == ["image", "probabilities"]
    for value in (*made.input, *made.output):
        assert value.type.tensor_type.shape.dim[0].dim_param == "N"
    assert len(made.initializer) == 4  # the unused constant is gone


def test_outputs_that_were_left_out_stay_so() -> None:
    model = graph()
    model.graph.node[5].CopyFrom(helper.make_node("Dropout", ["b"], ["kept", ""]))
    np.testing.assert_array_equal(answer(canonical(model), "image"), answer(graph().SerializeToString(), "in"))


def test_the_model_is_not_changed() -> None:
    model = graph()
    canonical(model)
    assert model == graph()


def test_onnx_runtime_tells_nobody_of_its_use() -> None:
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
