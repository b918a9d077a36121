"""The exported model on disk: what answers depend on is read together, and belongs together."""

import hashlib
import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from graphs_made import save
from my_experiment.harness.core.errors import UserError
from my_experiment.harness.exported import model
from onnx import helper

EMPTY = helper.make_model(helper.make_graph([], "empty", [], [])).SerializeToString()
DECISION: dict[str, Any] = {"class": "yes", "threshold": 0.3}
LONG = b"\x42" + b"\xff" * 8 + b"\x01"  # a field of more bytes than a file can have
DEEP = "[" * 100_000  # of which Python's parser makes an error of its own


@pytest.fixture
def description(tmp_path: Path) -> dict[str, Any]:
    """A model in a folder."""
    (tmp_path / "model.onnx").write_bytes(EMPTY)
    content = {"classes": ["no", "yes"], "sha256": hashlib.sha256(EMPTY).hexdigest()}
    (tmp_path / "model.json").write_text(json.dumps(content))
    return content


def test_a_decision_is_read_with_its_model(tmp_path: Path, description: dict[str, Any]) -> None:
    decision = {**DECISION, "model": description["sha256"]}
    (tmp_path / "decision.json").write_text(json.dumps(decision))
    assert model.served(tmp_path) == {**description, "decision": decision}
    assert model.read(tmp_path) == description  # what stages read before the decision is made


def test_a_model_without_a_decision_is_as_it_was(tmp_path: Path, description: dict[str, Any]) -> None:
    assert model.served(tmp_path) == description  # from before decisions
    (tmp_path / "decision.json").write_text("{}\n")
    assert model.served(tmp_path) == description


@pytest.mark.parametrize(
    "content", [json.dumps({**DECISION, "model": "0" * 64}), json.dumps(DECISION), "{", "[1]", DEEP]
)
def test_the_decision_of_another_model_is_refused(tmp_path: Path, description: dict[str, Any], content: str) -> None:
    """After `dvc repro train`, the decision is still that of the model before."""
    (tmp_path / "decision.json").write_text(content)
    with pytest.raises(UserError, match=r"decision\.json is not that of .*model\.onnx: run `dvc repro`"):
        model.served(tmp_path)


@pytest.mark.parametrize("content", ["", "[1]", "{}", DEEP])
def test_a_description_of_no_model_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "model.json").write_text(content)
    with pytest.raises(UserError, match=r"model\.json does not describe a model: run `dvc repro`"):
        model.read(tmp_path)


def written(folder: Path, content: bytes) -> Path:
    """A model of any content with its description."""
    (folder / "model.onnx").write_bytes(content)
    (folder / "model.json").write_text(json.dumps({"sha256": hashlib.sha256(content).hexdigest()}))
    return folder


def foreign(domain: str) -> Any:
    """A model with an operator of a domain."""
    node = helper.make_node("Run", ["x"], ["y"], domain=domain)
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N"]) for name in "xy"]
    sets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3), helper.make_opsetid(domain, 1)]
    return helper.make_model(helper.make_graph([node], "model", ends[:1], ends[1:]), opset_imports=sets)


def test_operators_of_another_domain_are_refused(tmp_path: Path) -> None:
    content = foreign("example.org").SerializeToString()
    with pytest.raises(UserError, match=r"model\.onnx has operators of the domain 'example\.org', which .* not run$"):
        model.read(written(tmp_path, content))
    assert model.domains(tmp_path / "model.onnx") == {"", "ai.onnx.ml", "example.org"}
    with pytest.raises(UserError, match=r"domain 'a\\nb',"):
        model.read(written(tmp_path, foreign("a\nb").SerializeToString()))
    assert model.read(written(tmp_path, foreign("com.microsoft").SerializeToString()))


def test_a_model_that_exists_has_the_domains_that_onnx_reads(workspace: Path) -> None:
    save(helper.make_graph([], "model", [], []))
    read = {each.domain for each in onnx.load("models/model.onnx").opset_import}
    assert model.domains(Path("models/model.onnx")) == read == {"", "ai.onnx.ml"}


@pytest.mark.parametrize(
    "content",
    [b"", b"model", b"\xff" * 20, EMPTY[:-1], b"\x42\x7f\x10", b"\x42\x02\x0a\x05\xff", LONG, b"\x3a" + LONG[1:]],
)
def test_what_is_no_model_is_one_line(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UserError, match=r"model\.onnx is no ONNX model: run `dvc repro`"):
        model.read(written(tmp_path, content))
