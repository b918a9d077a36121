"""The golden answer: the same input in every process, and an answer that is compared."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from my_experiment.harness.exported import golden


@dataclass
class Input:
    name: str
    shape: Sequence[Any]
    type: str


NUMBER = {"kind": "input", "column": "x", "type": "number", "edges": [1.0, 4.0, 9.0]}
CATEGORY = {"kind": "input", "column": "c", "type": "category", "levels": ["often", "seldom"]}
ANSWER = {"kind": "answer", "column": "x", "type": "choice", "levels": ["a"]}
REFERENCE = {"variables": [NUMBER, CATEGORY, ANSWER]}


def test_a_row_is_the_middle_of_each_column() -> None:
    inputs = [Input("x", ["N"], "tensor(double)"), Input("c", ["N"], "tensor(string)")]
    feeds = golden.probe(inputs, REFERENCE)
    assert {name: values.tolist() for name, values in feeds.items()} == {"x": [4.0], "c": ["often"]}
    assert feeds["x"].dtype == np.float64


def test_a_column_without_bins_is_zero_or_missing() -> None:
    inputs = [Input("private", ["N"], "tensor(float)"), Input("text", ["N"], "tensor(string)")]
    rare = {"variables": [{**CATEGORY, "column": "text", "levels": []}]}
    assert [values.tolist() for values in golden.probe(inputs, rare).values()] == [[0.0], [""]]
    assert [values.tolist() for values in golden.probe(inputs, {}).values()] == [[0.0], [""]]


def test_a_picture_is_a_pattern() -> None:
    (picture,) = golden.probe([Input("image", ["N", 16, 16, 3], "tensor(float)")], REFERENCE).values()
    assert picture.shape == (1, 16, 16, 3)
    assert np.unique(picture).tolist() == list(range(golden.RANGE))


@pytest.mark.parametrize(
    ("output", "problem"),
    [
        ([0.25, 20000.1], None),  # relative
        ([0.250004, 20000.0], None),
        ([0.25002, 20000.0], "0.25002, not 0.25"),
        ([0.25, 20001.0], "20001, not 20000"),
        ([math.nan, 20000.0], "nan, not 0.25"),
        ([0.25], "it has 1 numbers, not 2"),
    ],
)
def test_another_answer_is_told(output: list[float], problem: str | None) -> None:
    assert golden.disagreement({"golden": [0.25, 20000.0]}, np.array([output], np.float32)) == problem


def test_a_model_without_one_is_not_compared() -> None:
    assert golden.disagreement({}, np.zeros((1, 2), np.float32)) is None


def test_what_is_recorded_agrees_with_itself() -> None:
    output = np.array([[1 / 3, 2 / 3, 1e-7]], np.float32)
    assert golden.disagreement({"golden": golden.recorded(output)}, output) is None
