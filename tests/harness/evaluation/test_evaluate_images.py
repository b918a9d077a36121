"""Stage `evaluate` on pictures: metrics, plots and card of the exported model, the same bytes each time."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from graphs_made import save_linear_classifier
from my_experiment.harness import prepared
from my_experiment.harness.core.errors import UserError
from my_experiment.harness.evaluation import card, html, metadata, report, workspace
from my_experiment.harness.evaluation.images import _png, examples
from my_experiment.harness.evaluation.settings import check_fixed
from my_experiment.harness.exported import model
from my_experiment.harness.inputs.images import decode
from my_experiment.harness.preparation import splits
from my_experiment.harness.prepared.images import load
from my_experiment.harness.targets import classification as target
from my_experiment.stages import evaluate
from support import PACKAGE

CLASSES, SHAPE = ["dark", "light"], (2, 2, 1)
WRONG = {3, 7}  # labelled against their brightness


def save_model(bias: float = 2.56) -> None:
    """Writes a model that tells light from dark pictures."""
    weights = np.tile(np.array([-0.005, 0.005], np.float32), (4, 1))
    digest = save_linear_classifier(weights, [bias, -bias], SHAPE)
    description = {
        "model": {"_target_": f"{PACKAGE}.models.x"},
        "classes": CLASSES,
        "calibration": {},
        "sha256": digest,
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
    shipped = [Path(f"models/{name}.json") for name in ("page", "decision", "explain")]
    return {file: file.read_bytes() for file in (*shipped, *Path("reports").rglob("*.*"))}


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
    assert json.loads(Path("models/decision.json").read_bytes()) == {}
    assert json.loads(Path("reports/slices.json").read_bytes()) == {}
    assert set(json.loads(Path("reports/membership.json").read_bytes())) == {
        "auc", "tpr_at_1_percent_fpr", "members", "others",
    }  # fmt: skip
    first = reports()
    evaluate.main()
    assert reports() == first


def configure(**settings: Any) -> None:
    """Changes the section `evaluate`."""
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    params["evaluate"] |= settings
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")


def test_a_decision_and_slices_are_reported_and_served(trained: Path) -> None:
    evaluate.main()
    before = json.loads(Path("reports/metrics.json").read_bytes())
    configure(
        decision={"sensitivity": {"light": 0.9}, "coverage": 0.8, "abstain": True},
        slices=["brightness", "contrast", "size"],
    )
    evaluate.main()
    first = reports()
    evaluate.main()
    assert reports() == first
    metrics, intervals = (json.loads(Path(f"reports/{name}.json").read_bytes()) for name in ("metrics", "intervals"))
    added = ["sensitivity", "specificity", "precision", "selection_rate"]
    added += ["coverage", "set_size", "answered", "answered_accuracy"]
    assert metrics == {**before, **{name: metrics[name] for name in added}}
    assert set(added) <= set(intervals)
    decision = json.loads(Path("models/decision.json").read_bytes())
    description = model.served(Path("models"))
    assert description["decision"] == decision and decision["class"] == "light"
    # The splits are the same here: the goal of the validation split is reached on the test split.
    assert metrics["sensitivity"] >= 0.9 and metrics["coverage"] >= 0.8
    test = workspace.predict(workspace.read())
    said = np.array([item["label"] for item in target.answers(test.outputs, description)])
    assert metrics["answered"] == pytest.approx(np.mean(said != None), abs=1e-8)  # noqa: E711
    text = Path("reports/model_card.md").read_text(encoding="utf-8")
    assert "## Decision\n\nThe answer is light if its probability is at least 0." in text
    assert "| sensitivity (light) |" in text and "(plots/slices.png)" in text
    slices = json.loads(Path("reports/slices.json").read_bytes())
    assert [len(slices[name]["slices"]) for name in ("brightness", "contrast", "size")] == [4, 1, 1]
    assert Path("reports/plots/slices.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"slices": ["colour"]},
            "evaluate.slices: there is no column 'colour'; choose from brightness, contrast, size",
        ),
        ({"decision": {"sensitivity": {"bright": 0.9}}}, "evaluate.decision.sensitivity: there is no class 'bright'"),
    ],
)
def test_settings_that_do_not_fit_the_data_are_an_error_in_one_line(
    trained: Path, settings: dict[str, Any], message: str
) -> None:
    configure(**settings)
    with pytest.raises(UserError, match=message):
        evaluate.main()


def test_the_loss_of_training_examples_betrays_an_overfitted_model(trained: Path) -> None:
    """With random test labels, the model knows the labels of training examples only."""
    np.save("data/prepared/test/targets.npy", np.random.default_rng(1).integers(0, 2, 40))
    evaluate.main()
    found = json.loads(Path("reports/membership.json").read_bytes())
    assert found["auc"][0] > 0.65 and found["members"] == found["others"] == 40


def test_explanations_compare_with_the_mean_picture(trained: Path) -> None:
    evaluate.main()
    content = json.loads(Path("models/explain.json").read_bytes())
    mean = decode(base64.b64decode(content["baseline"]), SHAPE, 100)
    assert (mean == np.rint(load("train").mean(axis=0, dtype=np.float64))).all()
    with pytest.raises(UserError, match="pictures have no columns: remove it"):
        check_fixed(["x"], prepared.manifest())


def test_the_card_is_one_html_file(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All pictures and files are in it; nothing is asked of a network, and what looks like HTML is text."""
    evaluate.main()
    path = Path("reports/model_card.md")
    text = path.read_text(encoding="utf-8")
    path.write_text(text + "\n<script>x</script> [worst](plots/confusion.csv) ![x](https://example.org/x.png)\n")
    html.command.callback()  # type: ignore[misc]
    assert capsys.readouterr().out == "Wrote build/model_card.html\n"
    made = Path("build/model_card.html").read_text(encoding="utf-8")
    assert made.count('src="data:image/png;base64,') == text.count("](plots/") >= 4
    assert 'download="confusion.csv"' in made
    assert "<script" not in made
    assert "default-src 'none'; img-src data:" in made
    assert "model-index" not in made
    titles = [line[3:] for line in text.splitlines() if line.startswith("## ")]
    assert re.findall(r'<a href="#section-\d+">([^<]*)</a>', made) == titles
    Path("reports/plots/mistakes.png").unlink()
    with pytest.raises(UserError, match=r"shows reports/plots/mistakes.png, which is missing: run `dvc repro`"):
        html.command.callback()  # type: ignore[misc]


def test_tools_read_the_card(trained: Path) -> None:
    evaluate.main()
    text = Path("reports/model_card.md").read_text(encoding="utf-8")
    _, block, rest = text.split("---\n", 2)
    content = yaml.safe_load(block)
    assert (content["pipeline_tag"], content["library_name"]) == ("image-classification", "onnx")
    ((results,),) = [model["results"] for model in content["model-index"]]
    assert results["dataset"]["split"] == "test"
    measured = json.loads(Path("reports/metrics.json").read_text(encoding="utf-8"))
    values = {metric["type"]: metric["value"] for metric in results["metrics"]}
    assert values == {name: value for name, value in measured.items() if not name.startswith("baseline_")}
    assert metadata.without(text) == rest.lstrip("\n")
    assert metadata.without(rest) == rest
    assert rest.startswith("\n# Model card\n")


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
    text = Path("reports/model_card.md").read_text("utf-8")
    (line,) = [line for line in text.splitlines() if "| Brier score" in line]
    assert line.endswith("| - | lower |")


@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_gray_is_shown_with_all_its_levels(channels: int) -> None:
    gray = (np.arange(64, dtype=np.float32) * 1000 / 257).reshape(8, 8, 1)
    pixels = np.repeat(gray, channels, axis=2).astype(np.float32)
    shown = decode(_png(pixels), (8, 8, channels), 1000)
    np.testing.assert_allclose(shown, pixels, rtol=1e-6)
