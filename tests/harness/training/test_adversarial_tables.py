"""Adversarial training on a table: which of the encoded columns change."""

import json
from typing import Any

import numpy as np
import onnx
import pytest
from my_experiment.harness.core import errors
from my_experiment.harness.training.adversarial import Adversarial, ball
from onnx import helper


def test_of_a_table_encoded_numbers_change() -> None:
    graph = onnx.ModelProto()
    columns = [["a", 1.0, 2.0, 0, False], ["a is missing", 0, 1, 0, False], ["b=x", 0, 1, 0, False]]
    helper.set_model_props(graph, {"columns": json.dumps(columns)})
    inputs: Any = type("Inputs", (), {"preprocessing": graph})
    manifest = {"columns": [{"name": "a", "type": "number"}, {"name": "b", "type": "category"}]}
    found = ball(Adversarial(epsilon=0.5), inputs, manifest, 0)
    assert found is not None
    np.testing.assert_array_equal(found.epsilon, [0.5, 0, 0])
    with pytest.raises(errors.UserError, match="no encoded numbers"):
        ball(Adversarial(epsilon=0.5), inputs, {"columns": manifest["columns"][1:]}, 0)
