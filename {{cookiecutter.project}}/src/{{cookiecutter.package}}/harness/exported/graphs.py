"""ONNX graphs: joined, and in canonical form."""

import itertools
from collections.abc import Sequence

import onnx
import onnx.compose

OPSET, IR_VERSION = 18, 10  # of every graph of this package: only equal ones can be joined


def prepend(first: onnx.ModelProto, second: onnx.ModelProto) -> onnx.ModelProto:
    """Both graphs as one: the only output of the first becomes the only input of the second.

    Args:
        first: Its inputs are the inputs of the result.
        second: Its outputs are the outputs of the result.
    """
    for model in (first, second):
        model.ir_version = IR_VERSION
    link = first.graph.output[0].name, second.graph.input[0].name
    return onnx.compose.merge_models(first, second, [link], prefix1="first/", prefix2="second/")


def canonical(model: onnx.ModelProto, inputs: Sequence[str], outputs: Sequence[str]) -> onnx.ModelProto:
    """The same graph with names and order that depend on the computation alone.

    tf2onnx merges equal constants in the order of their memory addresses, and its names carry that order: equal
    models have different bytes. Here, nodes are sorted depth first from the outputs and then numbered.

    Args:
        model: The model; not changed.
        inputs: New names of the inputs.
        outputs: New names of the outputs.
    """
    graph = onnx.GraphProto()
    graph.CopyFrom(model.graph)
    nodes = _depth_first(graph)
    names = _names(graph, nodes, inputs, outputs)
    for index, node in enumerate(nodes):
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        node.name = f"{node.op_type}_{index}"
    for value in [*graph.input, *graph.output]:
        value.name = names[value.name]
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    constants = {constant.name: constant for constant in graph.initializer}
    used = [constants[name] for name in names if name in constants]
    for constant in used:
        constant.name = names[constant.name]
    result = onnx.helper.make_model(
        onnx.helper.make_graph(nodes, "model", graph.input, graph.output, used),
        opset_imports=model.opset_import,
        ir_version=model.ir_version,
    )
    onnx.checker.check_model(result)
    return result


def _depth_first(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes on which the outputs depend, each after those on which it depends."""
    producer = {name: node for node in graph.node for name in node.output if name}
    ordered: list[onnx.NodeProto] = []
    done: set[int] = set()
    stack = [(producer[output.name], False) for output in reversed(graph.output)]
    while stack:  # no recursion: deep models have thousands of nodes
        node, inputs_done = stack.pop()
        if id(node) in done:
            continue
        if inputs_done:
            done.add(id(node))
            ordered.append(node)
            continue
        stack.append((node, True))
        stack += [(producer[name], False) for name in reversed(node.input) if name in producer]
    return ordered


def _names(
    graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto], inputs: Sequence[str], outputs: Sequence[str]
) -> dict[str, str]:
    """Old name -> canonical name, in the order of the nodes."""
    constants = {constant.name for constant in graph.initializer}
    names = dict(zip((value.name for value in graph.input), inputs, strict=True))
    reserved = {*inputs, *outputs}  # a column may have any name

    def add(old: str, prefix: str) -> None:
        numbered = (f"{prefix}_{number}" for number in itertools.count(len(names)))
        names[old] = next(name for name in numbered if name not in reserved)

    for node in nodes:
        for name in node.input:
            if name in constants and name not in names:
                add(name, "constant")
        for name in node.output:
            if name:  # "" is an optional output that is left out
                add(name, "value")
    return names | dict(zip((value.name for value in graph.output), outputs, strict=True))
