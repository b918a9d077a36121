"""Stage `evaluate`: reports what the exported model does on the test split, the same bytes each time."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from onnx import helper, numpy_helper

from tests import PACKAGE, module

prepared, stage = module("data.prepared"), module("stages.evaluate")

CLASSES, SHAPE = ["dark", "light"], (2, 2, 1)
WRONG = {3, 7}  # labelled against their brightness


@pytest.fixture
def trained(workspace: Path) -> Path:
    """What the stages before leave behind; the model tells light from dark pictures."""
    levels = np.random.default_rng(0).permutation(np.r_[10:110:5, 150:250:5])
    items = (
        prepared.Example(f"{row}.png", int(level > 128) ^ (row in WRONG), str(row), np.full(SHAPE, level, np.uint8))
        for row, level in enumerate(levels)
    )
    prepared.write(items, lambda digest: "test", CLASSES, SHAPE, 100)
    weights = np.tile(np.array([-0.005, 0.005], np.float32), (4, 1))
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["image"], ["flat"]),
            helper.make_node("Gemm", ["flat", "weights", "bias"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["probabilities"]),
        ],
        "model",
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["N", *SHAPE])],
        [helper.make_tensor_value_info("probabilities", onnx.TensorProto.FLOAT, ["N", 2])],
        [
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(np.array([2.56, -2.56], np.float32), "bias"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    Path("models").mkdir()
    Path("models/model.onnx").write_bytes(model)
    description = {"model": {"_target_": f"{PACKAGE}.models.x"}, "sha256": hashlib.sha256(model).hexdigest()}
    Path("models/model.json").write_text(json.dumps(description), encoding="utf-8")
    Path("reports").mkdir()
    Path("reports/history.csv").write_text("epoch,loss,accuracy,val_loss,val_accuracy\n0,1,0,1,0\n1,0.5,1,0.4,1\n")
    data = {"examples": {"train": 0, "validation": 0, "test": 40}, "skipped": 0, "duplicates": 0}
    Path("reports/data.json").write_text(json.dumps(data), encoding="utf-8")
    params = {
        "train": {"monitor": "val_loss"},
        "evaluate": {"seed": 0, "resamples": 100, "confidence": 0.9, "mistakes": 6},
    }
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    return workspace


def reports() -> dict[Path, bytes]:
    """Every file below reports/."""
    return {file: file.read_bytes() for file in Path("reports").rglob("*.*")}


def test_reports(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage.main()
    report: dict[str, Any] = json.loads(Path("reports/metrics.json").read_text(encoding="utf-8"))
    assert report["accuracy"]["value"] == 38 / 40
    assert report["accuracy"]["low"] < 38 / 40 <= report["accuracy"]["high"]
    assert report["baseline_accuracy"]["value"] == np.bincount(prepared.load("test")[1]).max() / 40
    rows = Path("reports/plots/confusion.csv").read_text(encoding="utf-8").splitlines()
    assert rows[0] == "actual,predicted"
    assert sum(row.split(",")[0] != row.split(",")[1] for row in rows[1:]) == len(WRONG)
    card = Path("reports/model_card.md").read_text(encoding="utf-8")
    assert "**95.0% of 40 test pictures are classified rightly" in card
    assert "the weights are those of epoch 1: validation loss 0.4000" in card
    for plot in ("confusion_matrix", "learning_curves", "reliability", "mistakes"):
        assert Path(f"reports/plots/{plot}.png").read_bytes().startswith(b"\x89PNG")
    # There is no dvc.lock here, so that nothing can be logged: that costs a warning and no result.
    assert "All results are on disk" in capsys.readouterr().err
    first = reports()
    stage.main()
    assert reports() == first


def test_prediction_in_batches_equals_prediction_at_once(trained: Path) -> None:
    images, _ = prepared.load("test")
    at_once = stage.predict(Path("models/model.onnx"), images, 100)
    for batch_size in (1, 7, 40):
        np.testing.assert_allclose(stage.predict(Path("models/model.onnx"), images, batch_size), at_once, atol=1e-6)


def test_mistakes_come_most_confident_first() -> None:
    probabilities = np.array([[0.6, 0.4], [0.1, 0.9], [0.2, 0.8], [0.9, 0.1], [0.1, 0.9]], np.float32)
    assert stage.confident_mistakes(np.array([1, 1, 0, 0, 0]), probabilities).tolist() == [4, 2, 0]
