"""How much is explained, within the budget of what the model computes.

The plan depends on the model, the data and the configuration, never on the clock, so that it is the same on every
machine.
"""

from math import prod
from pathlib import Path
from typing import NamedTuple

from .settings import Explain

EXACT = 8  # number of parts up to which all their combinations are asked for
SEEDS = 2  # explanations of an example that are compared with each other
WEIGHTS = 2  # models with random weights for each example that is shown
ORDERS = 3  # random orders of deletion
WEIGHTED = {"Conv", "Gemm", "MatMul"}  # operators whose constants are weights
CALL = 20_000  # fixed cost of an example, in multiplications that take as long


class Plan(NamedTuple):
    """How much is explained.

    Attributes:
        examples: Number of test examples.
        shown: Number of the worst, and of the typical ones, that are shown and checked.
        background: Number of background examples.
    """

    examples: int
    shown: int
    background: int


def plan(
    parts: int, multiplications: int, background: int, examples: int, settings: Explain, questions: int = 0
) -> tuple[Plan, bool]:
    """The plan, and whether the budget reduced it.

    Args:
        parts: Number of parts of an example.
        multiplications: Number of multiplications of the model for one example.
        background: Number of background examples.
        examples: Number of examples of the test split.
        settings: Section `explain` of the configuration.
        questions: Number of examples that the model is asked for the words about one that is shown.
    """
    most = min(settings.examples, examples)
    wanted = current = Plan(most, max(1, min(settings.shown, most // 2)), background)
    floor = Plan(min(most, 20), current.shown, min(background, 10))
    while cost(current, parts, questions) * (multiplications + CALL) > settings.budget * 10**9:
        if current == floor:  # a large model: fewer are shown, too
            floor = Plan(min(most, 2), 1, 1)
            if current == floor:  # the least that can be explained, whatever it costs
                break
        shares = [now / least for now, least in zip(current, floor, strict=True)]
        place = shares.index(max(shares))  # what is furthest above its floor
        current = current._replace(**{Plan._fields[place]: max(current[place] * 2 // 3, floor[place])})
    return current, current != wanted


def orders(parts: int) -> int:
    """Number of random orders of the parts, each taken forwards and backwards, from which SHAP values are made."""
    return max(1, 96 // parts)


def samples(parts: int) -> int:
    """Number of masks on which LIME's linear model is fitted."""
    return 2 * parts + 100


def cost(plan: Plan, parts: int, questions: int = 0) -> int:
    """Number of examples that the model is asked.

    Args:
        plan: How much is explained.
        parts: Number of parts of an example.
        questions: Number of examples that the model is asked for the words about one that is shown.
    """
    shapley = 2**parts if parts <= EXACT else orders(parts) * (2 * parts + 1)
    tests = SEEDS * samples(parts) + (SEEDS + WEIGHTS) * shapley + (ORDERS + 2) * (parts + 1)
    return (plan.examples * shapley + 2 * plan.shown * tests) * plan.background + 2 * plan.shown * questions


def multiplications(model: Path) -> int:
    """Number of multiplications with weights of an ONNX model for one example.

    Args:
        model: The ONNX file.
    """
    import onnx

    graph = onnx.shape_inference.infer_shapes(onnx.load(model)).graph
    weights = {constant.name: prod(constant.dims) for constant in graph.initializer}
    shapes = {value.name: [d.dim_value for d in value.type.tensor_type.shape.dim] for value in graph.value_info}
    total = 0
    for node in graph.node:
        if node.op_type in WEIGHTED:
            places = prod(shapes.get(node.output[0], [])[2:]) if node.op_type == "Conv" else 1
            total += max(places, 1) * max(weights.get(name, 0) for name in node.input[:2])
    return total
