"""Stage `evaluate` on pictures: metrics, plots and card of the exported model, the same bytes each time."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from my_experiment.harness import prepared
from my_experiment.harness.core.errors import UserError
from my_experiment.harness.evaluation import card, report, workspace
from my_experiment.harness.evaluation.images import _png, examples
from my_experiment.harness.inputs.images import decode
from my_experiment.harness.preparation import splits
from my_experiment.harness.prepared.images import load
from my_experiment.stages import evaluate
from onnx import helper, numpy_helper
from support import PACKAGE

CLASSES, SHAPE = ["dark", "light"], (2, 2, 1)
WRONG = {3, 7}  # labelled against their brightness


def save_model(bias: float = 2.56) -> None:
    """Writes a model that tells light from dark pictures."""
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
            numpy_helper.from_array(np.array([bias, -bias], np.float32), "bias"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    Path("models").mkdir(exist_ok=True)
    Path("models/model.onnx").write_bytes(model)
    description = {
        "model": {"_target_": f"{PACKAGE}.models.x"},
        "calibration": {},
        "sha256": hashlib.sha256(model).hexdigest(),
    }
    Path("models/model.json").write_text(json.dumps(description), encoding="utf-8")


@pytest.fixture
def trained(workspace: Path) -> Path:
    """The results of the earlier stages."""
    levels = np.random.default_rng(0).permutation(np.r_[10:110:5, 150:250:5]).astype(np.uint8)
    labels = np.array([int(level > 128) ^ (row in WRONG) for row, level in enumerate(levels)])
    with splits.replaced() as folder:
        for split in prepared.SPLITS:
            np.save(folder / split / "images.npy", np.broadcast_to(levels[:, None, None, None], (40, *SHAPE)))
            np.save(folder / split / "targets.npy", labels)
        manifest = {
            "input": "images",
            "target": "classification",
            "target_name": "class",
            "classes": CLASSES,
            "shape": SHAPE,
            "digests": dict.fromkeys(prepared.SPLITS, "0" * 64),
        }
        splits.write_manifest(manifest, folder)
    save_model()
    Path("reports").mkdir()
    Path("reports/history.csv").write_text("epoch,loss,accuracy,val_loss,val_accuracy\n0,1,0,1,0\n1,0.5,1,0.4,1\n")
    data = {"examples": dict.fromkeys(prepared.SPLITS, 40), "skipped": 0, "duplicates": 0}
    Path("reports/data.json").write_text(json.dumps(data), encoding="utf-8")
    params = {
        "data": {"path": "a|b"},
        "train": {"monitor": "val_loss"},
        "evaluate": {"seed": 0, "resamples": 100, "confidence": 0.9, "examples": 6, "shipped": 3},
    }
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    return workspace


def reports() -> dict[Path, bytes]:
    """Every file that the stage writes."""
    return {file: file.read_bytes() for file in (Path("models/page.json"), *Path("reports").rglob("*.*"))}


def test_reports(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate.main()
    metrics: dict[str, Any] = json.loads(Path("reports/metrics.json").read_text(encoding="utf-8"))
    low, high = json.loads(Path("reports/intervals.json").read_text(encoding="utf-8"))["accuracy"]
    assert low < metrics["accuracy"] == 38 / 40 <= high
    assert metrics["baseline_accuracy"] == np.bincount(prepared.targets("test")).max() / 40
    rows = Path("reports/plots/confusion.csv").read_text(encoding="utf-8").splitlines()
    assert sum(row.split(",")[0] != row.split(",")[1] for row in rows[1:]) == len(WRONG)
    text = Path("reports/model_card.md").read_text(encoding="utf-8")
    assert "classifies gray pictures of 2 x 2 pixels as one of 2 classes (dark, light)." in text
    assert "**95.0% of 40 test examples are correctly classified, compared with " in text
    assert "the weights are those of epoch 1: validation loss 0.4000" in text
    assert r"| `data.path` | `a\|b` |" in text
    for plot in ("confusion_matrix", "learning_curves", "reliability", "mistakes"):
        assert f"(plots/{plot}.png)" in text
        assert Path(f"reports/plots/{plot}.png").read_bytes().startswith(b"\x89PNG")
    # There is no dvc.lock here, so that nothing can be logged: that costs a warning and no result.
    assert "All results are on disk" in capsys.readouterr().err
    first = reports()
    evaluate.main()
    assert reports() == first


def test_examples_for_the_page(trained: Path) -> None:
    """Evenly spaced over the targets, decoded to the exact pixels of the split, and none if none are configured."""
    evaluate.main()
    examples = json.loads(Path("models/page.json").read_bytes())["examples"]
    assert [example["actual"] for example in examples] == ["dark", "dark", "light"]
    targets = prepared.targets("test")
    split = {(row.tobytes(), CLASSES[target]) for row, target in zip(load("test"), targets, strict=True)}
    for example in examples:
        assert set(example) == {"actual", "file"}
        pixels = decode(base64.b64decode(example["file"]), SHAPE, 100)
        assert (pixels.tobytes(), example["actual"]) in split
    text = Path("reports/model_card.md").read_text("utf-8")
    assert "3 examples of the test split are released with the model" in text
    assert report.page_examples(workspace.predict(workspace.read()), 0) == []
    assert card.examples_on_the_page(0) == []


def test_color_pictures_are_examples_too(trained: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 3), np.uint8)
    np.save("data/prepared/test/images.npy", pixels)
    decoded = [decode(base64.b64decode(example["file"]), (3, 4, 3), 100) for example in examples([1, 0])]
    np.testing.assert_array_equal(decoded, pixels[::-1])


def test_a_model_without_mistakes_has_a_report_as_well(trained: Path) -> None:
    np.save("data/prepared/test/targets.npy", (load("test")[:, 0, 0, 0] > 128).astype(np.int64))
    evaluate.main()
    assert Path("reports/plots/mistakes.png").exists()
    assert "correctly classified, compared with 50.0%" in Path("reports/model_card.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda: np.save("data/prepared/test/targets.npy", np.zeros(0, np.int64)), "test split is empty.*prepare.test"),
        (lambda: save_model(bias=np.nan), "not a finite number for 40 of 40 test examples"),
    ],
)
def test_a_split_or_a_model_that_cannot_be_evaluated_is_an_error_in_one_line(
    trained: Path, spoil: Any, message: str
) -> None:
    spoil()
    with pytest.raises(UserError, match=message):
        evaluate.main()
    assert not Path("reports/metrics.json").exists()


def test_a_metric_is_added_in_one_place(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function and its line in `METRICS`: then it is in the metrics, the intervals and the card."""
    from my_experiment.harness.evaluation import classification
    from my_experiment.harness.evaluation.metrics import Metric, mean

    def brier(labels: Any, probabilities: Any) -> Any:
        return mean(((probabilities - np.eye(2)[labels]) ** 2).sum(1))

    monkeypatch.setitem(classification.METRICS, "brier", Metric("Brier score", "lower", brier))
    evaluate.main()
    metrics, intervals = (
        json.loads(Path(f"reports/{name}.json").read_text(encoding="utf-8")) for name in ("metrics", "intervals")
    )
    test = workspace.predict(workspace.read())
    expected = ((test.outputs - np.eye(2)[test.targets]) ** 2).sum(1).mean()
    assert metrics["brier"] == pytest.approx(expected, rel=1e-6)
    low, high = intervals["brier"]
    assert low < metrics["brier"] < high
    (line,) = [line for line in Path("reports/model_card.md").read_text("utf-8").splitlines() if "Brier score" in line]
    assert line.endswith("| - | lower |")


@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_gray_is_shown_with_all_its_levels(channels: int) -> None:
    gray = (np.arange(64, dtype=np.float32) * 1000 / 257).reshape(8, 8, 1)
    pixels = np.repeat(gray, channels, axis=2).astype(np.float32)
    shown = decode(_png(pixels), (8, 8, channels), 1000)
    np.testing.assert_allclose(shown, pixels, rtol=1e-6)
