"""The golden answer: what a model answers to a fixed input, recorded by `evaluate` and compared by each start.

Another ONNX Runtime, processor or operator that computes otherwise is found before any client is answered. The input is
made of models/reference.json, so that it holds no example: the middle of each column of a table, which is where a model
is not certain, and a pattern for a picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

TYPES = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(string)": "object"}
TOLERANCE = 1e-5  # absolute for probabilities, relative for larger numbers
# Of a picture: values from 0 to 250, all in turn. Of zeros, convolutions of any weights would answer the same.
RANGE, STEP = 251, 97


class Input(Protocol):
    """An input of an ONNX model, as ONNX Runtime describes it.

    Attributes:
        name: Its name.
        shape: Sizes; text or None for one that may vary.
        type: Its type, `tensor(float)` for instance.
    """

    name: str
    shape: Sequence[Any]
    type: str


def probe(inputs: Sequence[Input], reference: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """The fixed input of a model: name of an input -> array of one row.

    Args:
        inputs: The inputs of the model.
        reference: Content of models/reference.json; {} without one.
    """
    middles = {each["column"]: _middle(each) for each in reference.get("variables", []) if each["kind"] == "input"}
    feeds = {}
    for each in inputs:
        shape, kind = [size if isinstance(size, int) else 1 for size in each.shape], TYPES[each.type]
        if (count := math.prod(shape)) > 1:
            feeds[each.name] = (np.arange(count) * STEP % RANGE).reshape(shape).astype(kind)
        else:
            feeds[each.name] = np.full(shape, middles.get(each.name, "" if kind == "object" else 0), kind)
    return feeds


def _middle(variable: Mapping[str, Any]) -> float | str:
    """The median of a number or date, the most frequent level of a category."""
    if variable["type"] == "category":
        return next(iter(variable["levels"]), "")
    edges: list[float] = variable["edges"]
    return edges[len(edges) // 2]


def recorded(output: NDArray[np.float32]) -> list[float]:
    """A golden answer as models/reference.json keeps it: eight digits hold all of a float32 but its last bit.

    Args:
        output: Output of the model for `probe`.
    """
    return [float(f"{value:.8g}") for value in output.ravel().tolist()]


def disagreement(reference: Mapping[str, Any], output: NDArray[np.float32]) -> str | None:
    """How an answer differs from the recorded one, in words; None if it is the same, or none was recorded.

    Args:
        reference: Content of models/reference.json.
        output: Output of the model for `probe`.
    """
    golden = reference.get("golden")
    if golden is None:
        return None
    actual = output.ravel().astype(np.float64)
    if len(golden) != len(actual):
        return f"it has {len(actual)} numbers, not {len(golden)}"
    expected = np.array(golden, np.float64)
    distance = np.abs(actual - expected) / np.maximum(1.0, np.abs(expected))
    worst = int(distance.argmax())
    if distance[worst] <= TOLERANCE:  # False for NaN
        return None
    return f"{actual[worst]:.8g}, not {expected[worst]:.8g}"
