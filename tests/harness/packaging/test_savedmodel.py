"""What TensorFlow Serving is given: its version, its operators, its requests.

That each model that ships answers as its ONNX export does is tested with the models.
"""

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from my_experiment.harness.core import errors
from my_experiment.harness.packaging import savedmodel, tensorflow_model
from onnx import helper, numpy_helper

NUMBERS = np.array([[0.0, -0.0, 1.5], [-1e300, 1e300, np.nan], [np.inf, -np.inf, 3e-320], [1e9 + 1, 2.5, -7.0]])
WORDS = np.array(["", "é", "red", "blue sky"], object)
OTHER = np.array([2.0, -3.0, 0.5])
WEIGHTS = np.arange(6.0).reshape(3, 2)
BOTH = {"Add", "Div", "Equal", "Mul", "Sub"}
CASES: dict[str, tuple[Any, list[Any], dict[str, Any]]] = {
    **{name: (NUMBERS, [OTHER], {}) for name in BOTH},
    "Cast": (NUMBERS[[0, 3]], [], {"to": onnx.TensorProto.FLOAT}),
    "Clip": (NUMBERS, [np.float64(-1e6), np.float64(1e6)], {}),
    "Concat": (NUMBERS, [np.ones((4, 1))], {"axis": 1}),
    "Floor": (NUMBERS, [], {}),
    "IsNaN": (NUMBERS, [], {}),
    "LabelEncoder": (
        WORDS, [],
        {"domain": "ai.onnx.ml", "keys_strings": ["é", "red", ""], "values_int64s": [3, 1, 2], "default_int64": 7},
    ),
    "MatMul": (NUMBERS[[0, 3]], [WEIGHTS], {}),
    "Softmax": (np.array([[1e3, 0.0, -1e3], [1.0, 2.0, 3.0]]), [], {}),
    "Unsqueeze": (NUMBERS[:, 0], [np.array([1])], {}),
    "Where": (NUMBERS > 0, [OTHER, NUMBERS], {}),
}  # fmt: skip


def test_there_is_a_case_for_every_operator() -> None:
    assert set(CASES) == tensorflow_model.OPERATORS


@pytest.mark.keras
def test_every_operator_has_a_counterpart() -> None:
    assert {*tensorflow_model.operators(), "LabelEncoder"} == tensorflow_model.OPERATORS


def graph_of(operator: str) -> onnx.ModelProto:
    """A graph of one operator, its first input the graph's."""
    entry, others, attributes = CASES[operator]
    names = [f"constant_{i}" for i in range(len(others))]
    node = helper.make_node(operator, ["x", *names], ["y"], operator, **attributes)
    kind = helper.np_dtype_to_tensor_dtype(np.asarray(entry).dtype)
    made = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", kind, ["N", *np.shape(entry)[1:]])],
        [onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in zip(names, others, strict=True)],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 2)]
    return onnx.shape_inference.infer_shapes(helper.make_model(made, opset_imports=opsets, ir_version=10))


@pytest.mark.keras
@pytest.mark.parametrize("operator", sorted(tensorflow_model.OPERATORS))
def test_an_operator_computes_what_onnx_runtime_does(operator: str) -> None:
    graph = graph_of(operator)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    entry = CASES[operator][0]
    expected = session.run(None, {"x": entry})[0]
    model = tensorflow_model.ExportedModel(graph.graph, {}, list(graph.graph.node), "y")
    found = np.asarray(tensorflow_model.build(model, None).predict({"x": entry}))
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-15, atol=1e-300)  # TensorFlow has no denormal numbers


def write(folder: Path, content: bytes, **description: Any) -> None:
    """A model on disk."""
    folder.mkdir(exist_ok=True)
    (folder / "model.onnx").write_bytes(content)
    described = {"sha256": hashlib.sha256(content).hexdigest(), "input": "tables", **description}
    (folder / "model.json").write_text(json.dumps(described))


def test_what_tensorflow_cannot_compute_is_refused(workspace: Path) -> None:
    graph = graph_of("Softmax")
    graph.graph.node[0].op_type = "Hardmax"
    write(Path("models"), graph.SerializeToString())
    with pytest.raises(errors.UserError, match="the encoding has Hardmax, which has no exact counterpart"):
        tensorflow_model.read()
    write(Path("models"), graph.SerializeToString(), sha256="0")
    with pytest.raises(errors.UserError, match=r"differs from model\.json"):
        tensorflow_model.read()
    Path("models/model.onnx").unlink()
    with pytest.raises(errors.UserError, match=r"there is no models/model\.onnx"):
        tensorflow_model.read()


@pytest.mark.parametrize(("name", "told"), [("model.pb", "or, for HDF5, .h5"), ("no/model.keras", "no folder no")])
def test_a_keras_file_that_cannot_be_written_is_told_first(workspace: Path, name: str, told: str) -> None:
    with pytest.raises(errors.UserError, match=told):
        savedmodel.export_keras(Path(name))


def commit(message: str, when: int) -> None:
    """Commits everything at a time."""
    author = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    environment = {"GIT_COMMITTER_DATE": f"{when} +0000", "PATH": "/usr/bin:/bin:/usr/local/bin"}
    for command in (["add", "--all"], [*author, "commit", "--quiet", "--allow-empty", "--message", message]):
        subprocess.run(["git", *command], check=True, env=environment)


def lock(content: bytes) -> None:
    """Trains a model, as far as dvc.lock is concerned."""
    write(Path("models"), content)
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    train = {"deps": [], "params": {"params.yaml": {}}, "outs": [{"path": "models/model.onnx", "md5": md5}]}
    Path("dvc.lock").write_text(json.dumps({"stages": {"train": train}}))


def test_the_version_is_the_time_of_the_commit_that_brought_the_model(workspace: Path) -> None:
    write(Path("models"), b"one")
    with pytest.raises(errors.UserError, match=r"commit dvc\.lock"):  # no repository
        savedmodel.commit_time()
    subprocess.run(["git", "init", "--quiet"], check=True)
    Path(".gitignore").write_text("models\n")
    lock(b"one")
    with pytest.raises(errors.UserError, match=r"commit dvc\.lock"):
        savedmodel.commit_time()
    commit("One", 1_000_000_000)
    commit("Text", 1_000_000_100)
    assert savedmodel.commit_time() == 1_000_000_000
    lock(b"two")
    with pytest.raises(errors.UserError, match=r"commit dvc\.lock"):
        savedmodel.commit_time()
    commit("Two", 1_000_000_200)
    assert savedmodel.commit_time() == 1_000_000_200
    lock(b"one")  # back to the first: the server takes the highest version
    commit("Revert", 1_000_000_300)
    assert savedmodel.commit_time() == 1_000_000_300
