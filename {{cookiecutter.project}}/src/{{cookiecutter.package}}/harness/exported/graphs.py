"""Merging and canonical form of ONNX graphs."""

import itertools
from collections.abc import Sequence

import onnx
import onnx.compose

OPSET, IR_VERSION = 18, 10  # of every graph here: graphs of different versions cannot be merged


def prepend(first: onnx.ModelProto, second: onnx.ModelProto) -> onnx.ModelProto:
    """Two graphs merged: the output of the first feeds the second.

    The merged graph has the later version of an operator set; the operators used here mean the same in both.

    Args:
        first: Graph with one output; its inputs become the inputs of the result.
        second: Graph with one input; its outputs become the outputs of the result.
    """
    latest: dict[str, int] = {}
    for model in (first, second):
        model.ir_version = IR_VERSION
        for opset in model.opset_import:
            latest[opset.domain] = max(opset.version, latest.get(opset.domain, 0))
    for model in (first, second):
        for opset in model.opset_import:
            opset.version = latest[opset.domain]
    link = first.graph.output[0].name, second.graph.input[0].name
    return onnx.compose.merge_models(first, second, [link], prefix1="first/", prefix2="second/")


def canonical(model: onnx.ModelProto, inputs: Sequence[str], outputs: Sequence[str]) -> onnx.ModelProto:
    """The same model in canonical form: equal computations have equal bytes.

    tf2onnx merges equal constants in the order of their memory addresses, and numbers names in that order, so that
    equal models have different bytes. Here, nodes are sorted depth first from the outputs and then numbered.

    Args:
        model: The model, which is not modified.
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
    """The nodes on which the outputs depend, in topological order."""
    producer = {name: node for node in graph.node for name in node.output if name}
    ordered: list[onnx.NodeProto] = []
    visited: set[int] = set()
    stack = [(producer[output.name], False) for output in reversed(graph.output)]
    while stack:  # no recursion: deep models would exceed Python's limit
        node, inputs_visited = stack.pop()
        if id(node) in visited:
            continue
        if inputs_visited:
            visited.add(id(node))
            ordered.append(node)
            continue
        stack.append((node, True))
        stack += [(producer[name], False) for name in reversed(node.input) if name in producer]
    return ordered


def _names(
    graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto], inputs: Sequence[str], outputs: Sequence[str]
) -> dict[str, str]:
    """Old name -> canonical name, numbered in node order."""
    constants = {constant.name for constant in graph.initializer}
    names = dict(zip((value.name for value in graph.input), inputs, strict=True))
    reserved = {*inputs, *outputs}  # a column may have one of the generated names

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
