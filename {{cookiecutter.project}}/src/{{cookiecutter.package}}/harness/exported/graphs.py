"""ONNX graphs: joined, and in canonical form."""

import itertools
from typing import TYPE_CHECKING

import onnx
import onnx.compose

if TYPE_CHECKING:
    pass

OPSET, IR_VERSION = 18, 10  # of every graph made here: only equal ones can be joined


def prepend(first: onnx.ModelProto, second: onnx.ModelProto) -> onnx.ModelProto:
    """Returns both graphs as one: the only output of the first becomes the only input of the second.

    Args:
        first: Its inputs become the inputs.
        second: Its outputs become the outputs.
    """
    for model in (first, second):
        model.ir_version = IR_VERSION
    link = first.graph.output[0].name, second.graph.input[0].name
    return onnx.compose.merge_models(first, second, [link], prefix1="first/", prefix2="second/")


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
    taken = {*inputs, *outputs}  # a column may be called anything

    def unused(prefix: str) -> str:
        return next(name for n in itertools.count(len(names)) if (name := f"{prefix}_{n}") not in taken)

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
                names.setdefault(name, unused("constant"))
        for name in filter(None, node.output):  # "" is an optional output, or input, that is left out
            names[name] = unused("value")
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
