"""The model that the service answers with: it is the one described, and the one of the Bento."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from bentoml.exceptions import BentoMLException
from my_experiment.harness.serving import model

DIGEST = "ab" * 32
MODEL = b"\x42\x02\x10\x12"  # an ONNX model with nothing but the version of its operators, 18


@pytest.mark.parametrize(("recorded", "refused"), [(DIGEST, True), (None, False)])
def test_a_model_that_the_bento_does_not_record_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorded: str | None, refused: bool
) -> None:
    digest: Any = subprocess.run(["sha256sum"], input=MODEL, capture_output=True).stdout[:64].decode()
    (tmp_path / "model.onnx").write_bytes(MODEL)
    (tmp_path / "model.json").write_text(json.dumps({"input": "x", "target": "y", "sha256": digest}))
    (tmp_path / "bento.yaml").write_text(json.dumps({"labels": {"model_sha256": recorded or digest}}))
    monkeypatch.setattr(model, "FOLDER", tmp_path)
    monkeypatch.setattr(model, "ROOTS", (tmp_path, tmp_path))
    if refused:
        with pytest.raises(BentoMLException, match="not the model of this Bento"):
            model.read_model_info()
    else:
        assert model.read_model_info().sha256 == digest
