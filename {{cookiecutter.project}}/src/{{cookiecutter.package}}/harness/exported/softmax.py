"""Softmax in a model that gives the same bits on every processor."""

from pathlib import Path

OPSET = 18  # since which the axes of ReduceMax are an input


def spelled_out(model: Path | bytes) -> bytes:
    """A model whose softmax is four operators: exponentials of the differences to the largest, divided by their sum.

    ONNX Runtime's own adds as many exponentials at once as the processor's vectors hold: 8 with AVX2, 16 with AVX-512,
    so that probabilities of more than 16 classes differ in their last digits.

    Args:
        model: The ONNX file, or its content.
    """
    import onnx
    from onnx.helper import make_node, make_tensor

    content = model if isinstance(model, bytes) else Path(model).read_bytes()
    proto = onnx.load_from_string(content)
    nodes = list(proto.graph.node)
    own = any(entry.domain in ("", "ai.onnx") and entry.version >= OPSET for entry in proto.opset_import)
    if not own or not any(node.op_type == "Softmax" for node in nodes):
        return content
    del proto.graph.node[:]
    for number, node in enumerate(nodes):
        if node.op_type != "Softmax":
            proto.graph.node.append(node)
            continue
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), -1)
        axes, largest, difference, power, total = (f"softmax_{number}_{part}" for part in range(5))
        proto.graph.initializer.append(make_tensor(axes, onnx.TensorProto.INT64, [1], [axis]))
        proto.graph.node.extend(
            [
                make_node("ReduceMax", [node.input[0], axes], [largest]),
                make_node("Sub", [node.input[0], largest], [difference]),
                make_node("Exp", [difference], [power]),
                make_node("ReduceSum", [power, axes], [total]),
                make_node("Div", [power, total], [node.output[0]]),
            ]
        )
    return bytes(proto.SerializeToString())
