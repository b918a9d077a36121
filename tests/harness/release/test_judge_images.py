"""The gate of membership inference: it is measured on the training data of the workspace, or does not pass."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from my_experiment.harness import prepared
from my_experiment.harness.preparation import splits
from my_experiment.harness.release import gates, judge
from onnx import helper

CLASSES = ["dark", "light"]


@pytest.fixture
def stored(workspace: Path) -> judge.StoredModel:
    """A model that answers with its input, two pixels, and training examples that it knows by heart."""
    generator = np.random.default_rng(0)
    with splits.replaced() as folder:
        for split in prepared.SPLITS:
            labels = generator.integers(0, 2, 60)
            known = np.eye(2)[labels] if split == "train" else generator.random((60, 2))
            np.save(folder / split / "images.npy", known.reshape(60, 1, 2, 1).astype(np.float32))
            np.save(folder / split / "targets.npy", labels)
        manifest = {"input": "images", "target": "classification", "classes": CLASSES, "shape": [1, 2, 1]}
        splits.write_manifest(manifest, folder)
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["image"], ["probabilities"])],
        "model",
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["N", 1, 2, 1])],
        [helper.make_tensor_value_info("probabilities", onnx.TensorProto.FLOAT, ["N", 2])],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    Path("model.onnx").write_bytes(made.SerializeToString())
    return judge.StoredModel("x/1", Path("model.onnx"), {"target": "classification", "classes": CLASSES}, "data")


def judged(stored: judge.StoredModel, most: float, data: str = "data") -> Any:
    """The outcome at the gate."""
    batch = next(iter(prepared.modality(prepared.manifest()).feeds("test")))
    examples = judge.Examples(prepared.manifest(), np.array(prepared.targets("test")), batch, data)
    return judge._membership(stored, judge.score(stored, examples), examples, most)


def test_a_model_that_betrays_its_training_examples_does_not_pass(stored: judge.StoredModel) -> None:
    strict, lax = judged(stored, 0.8), judged(stored, 1.0)
    assert (strict.name, strict.passed, lax.passed) == ("membership", False, True)
    assert float(strict.measured) > 0.95


def test_a_model_of_other_data_cannot_be_measured(stored: judge.StoredModel) -> None:
    gate = judged(stored, 1.0, data="other")
    assert gate == gates.Gate("membership", "unknown: trained on other data", "at most 1", False)
