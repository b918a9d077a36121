"""The exported model on disk: what answers depend on is read together, and belongs together."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from my_experiment.harness.core.errors import UserError
from my_experiment.harness.exported import model

DECISION: dict[str, Any] = {"class": "yes", "threshold": 0.3}


@pytest.fixture
def description(tmp_path: Path) -> dict[str, Any]:
    """A model in a folder."""
    (tmp_path / "model.onnx").write_bytes(b"model")
    content = {"classes": ["no", "yes"], "sha256": hashlib.sha256(b"model").hexdigest()}
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


@pytest.mark.parametrize("content", [json.dumps({**DECISION, "model": "0" * 64}), json.dumps(DECISION), "{", "[1]"])
def test_the_decision_of_another_model_is_refused(tmp_path: Path, description: dict[str, Any], content: str) -> None:
    """After `dvc repro train`, the decision is still that of the model before."""
    (tmp_path / "decision.json").write_text(content)
    with pytest.raises(UserError, match=r"decision\.json is not that of .*model\.onnx: run `dvc repro`"):
        model.served(tmp_path)
