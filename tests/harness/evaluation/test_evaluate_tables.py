"""Stage `evaluate` on tables: metrics, plots and card of the exported model, the same bytes each time."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pyarrow as pa
import pytest
import yaml
from graphs_made import save
from my_experiment.harness import prepared, targets
from my_experiment.harness.core.errors import UserError
from my_experiment.harness.drift import bins
from my_experiment.harness.evaluation import slices
from my_experiment.harness.evaluation import tables as evaluation_tables
from my_experiment.harness.preparation import splits
from my_experiment.harness.prepared import tables as prepared_tables
from my_experiment.stages import evaluate
from onnx import helper, numpy_helper
from support import HARNESS, HOSTILE, PACKAGE, read_as_text
from tables_made import frame, prepare, save_rows

ROWS = 40
X = np.arange(ROWS) - 19.5
MISSING = 5  # the model takes a missing x for 0
TARGETS = [target for target in ("classification", "regression") if (HARNESS / f"targets/{target}.py").exists()]


def save_model(output: str, weights: list[float], softmax: bool) -> str:
    """Writes a linear model of x and returns its digest."""
    nodes = [
        helper.make_node("Cast", ["x"], ["single"], to=onnx.TensorProto.FLOAT),
        helper.make_node("IsNaN", ["single"], ["missing"]),
        helper.make_node("Where", ["missing", "zero", "single"], ["known"]),
        helper.make_node("Reshape", ["known", "column"], ["rows"]),
        helper.make_node("MatMul", ["rows", "weights"], ["scores" if softmax else output]),
    ]
    if softmax:
        nodes.append(helper.make_node("Softmax", ["scores"], [output]))
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info("x", onnx.TensorProto.DOUBLE, ["N"])],
        [helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, ["N", len(weights)])],
        [
            numpy_helper.from_array(np.zeros(1, np.float32), "zero"),
            numpy_helper.from_array(np.array([-1, 1]), "column"),
            numpy_helper.from_array(np.array([weights], np.float32), "weights"),
        ],
    )
    return save(graph)


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest, workspace: Path) -> str:
    """The results of the earlier stages, for each kind of target in this bake."""
    name: str = request.param
    answers = (X > 0).astype(np.int64) if name == "classification" else 2 * X + 1
    target = targets.target({"target": name})
    metric = target.METRIC
    table = pa.table(
        {
            "x": pa.array(np.where(np.arange(ROWS) == MISSING, np.nan, X), from_pandas=True),
            "__name__": [f"rows.csv:{row}" for row in range(ROWS)],
        }
    )
    with splits.replaced() as folder:
        for split in prepared.SPLITS:
            np.save(folder / split / "targets.npy", answers)
            save_rows(table, folder / split)
        manifest = {
            "input": "tables",
            "target": name,
            "target_name": "y",
            "columns": [{"name": "x", "type": "number"}],
            "digests": dict.fromkeys(prepared.SPLITS, "0" * 64),
        }
        if name == "classification":
            manifest["classes"] = ["low", "high"]
        splits.write_manifest(manifest, folder)
    if name == "classification":
        digest = save_model("probabilities", [-0.5, 0.5], True)
    else:
        digest = save_model("prediction", [2], False)
    calibration = target.calibrate(np.zeros((40, 1), np.float32), np.arange(40) / 20)
    coefficient = {"name": "x", "estimate": 2.0, "standard_error": 0.1, "low": 1.8, "high": 2.2}
    description = {
        "model": {"_target_": f"{PACKAGE}.models.x"},
        "calibration": calibration,
        "coefficients": [coefficient],
        "coefficients_note": "Made up.",
        "sha256": digest,
    }
    Path("models/model.json").write_text(json.dumps(description), encoding="utf-8")
    Path("reports").mkdir()
    Path("reports/history.csv").write_text(f"epoch,loss,{metric},val_loss,val_{metric}\n0,0.5,1,0.4,1\n")
    data = {
        "examples": dict.fromkeys(prepared.SPLITS, ROWS),
        "skipped": 1,
        "duplicates": 0,
        "imputed": 2,
        "violations_by_column": {"x": {"out_of_range": 2}},
    }
    Path("reports/data.json").write_text(json.dumps(data), encoding="utf-8")
    y: dict[str, Any] = {"type": "number", "min": -40, "max": 45}
    if name == "classification":
        y = {"type": "category", "categories": ["low", "high"]}
    columns = {"x": {"type": "number", "max": 30, "nulls": 0.1}, "y": y}
    Path("schema.yaml").write_text(yaml.safe_dump({"columns": columns}), encoding="utf-8")
    params = {
        "data": {"schema": "schema.yaml"},
        "train": {"_target_": f"{PACKAGE}.harness.training.fit.solver"},
        "evaluate": {"seed": 0, "resamples": 100, "confidence": 0.9, "examples": 3, "shipped": 4},
    }
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    return name


def test_reports(target: str) -> None:
    evaluate.main()
    report: dict[str, Any] = json.loads(Path("reports/metrics.json").read_text(encoding="utf-8"))
    card = Path("reports/model_card.md").read_text(encoding="utf-8")
    if target == "classification":
        assert report["accuracy"] == 1  # a missing x is even, and the first class is "low"
        assert "**100.0% of 40 test examples are correctly classified, compared with 50.0%" in card
    else:
        # Off by 1, but where x is missing by 2 * 14.5 less 1; the intervals reach 36 / 20 to both sides.
        assert report["mae"] == pytest.approx((39 + 28) / 40)
        assert (report["coverage"], report["interval_width"]) == (39 / 40, 3.6)
        assert "| rows.csv:5 | actual -28, predicted 0 |" in card
        assert "lower.**" in card
    assert "picture" not in card
    for text in ("| x | 2 | 0.1 | 1.8 | 2.2 |", "Made up.", "| x | out of range | 2 |", "Fitted in one go"):
        assert text in card
    for plot in [line.split("](")[1][:-1] for line in card.splitlines() if line.startswith("![")]:
        assert Path("reports", plot).read_bytes().startswith(b"\x89PNG")
    first = {file: file.read_bytes() for file in Path("reports").rglob("*.*")}
    evaluate.main()
    assert {file: file.read_bytes() for file in Path("reports").rglob("*.*")} == first


def test_names_that_are_html_or_markdown_are_text(target: str) -> None:
    names = dict(zip(("low", "high", "y"), HOSTILE, strict=True))
    path = prepared.PREPARED / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    decision = None
    if target == "classification":
        manifest["classes"], decision = [names["low"], names["high"]], {"sensitivity": {names["low"]: 0.9}}
    else:
        manifest["target_name"] = names["y"]
    path.write_text(json.dumps(manifest), encoding="utf-8")
    model, report = Path("models/model.json"), Path("reports/data.json")
    description = json.loads(model.read_text(encoding="utf-8"))
    description["coefficients"][0]["name"] = HOSTILE[1]
    model.write_text(json.dumps(description | {"classes": manifest.get("classes", [])}), encoding="utf-8")
    violations = {HOSTILE[0]: {"out_of_range": 2}}
    data = json.loads(report.read_text(encoding="utf-8")) | {"violations_by_column": violations, "warnings": [*HOSTILE]}
    report.write_text(json.dumps(data), encoding="utf-8")
    schema = Path("schema.yaml").read_text(encoding="utf-8").replace("y:", f"{json.dumps(manifest['target_name'])}:")
    Path("schema.yaml").write_text(schema, encoding="utf-8")
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    params["evaluate"] |= {"slices": ["x"], "decision": decision}
    params["data"]["nulls"] = ["`", "<b>|"]
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    evaluate.main()
    shown = read_as_text(Path("reports/model_card.md").read_text(encoding="utf-8"))
    assert all(f"\n{name}\n" in shown for name in HOSTILE)
    assert "['`', '<b>|']" in shown
    told = f"The answer is {HOSTILE[0]} if its" if decision else f"the number {HOSTILE[2]} from"
    assert told in shown


@pytest.mark.usefixtures("target")
def test_the_card_has_the_sections_of_earlier_stages() -> None:
    """Before the training, explanations first; a stage that has nothing to say has no section."""
    texts = {"robustness": "## Robustness\n\nx\n", "explanations": "## Explanations\n\ny\n"}
    for name, text in texts.items():
        Path("reports", name).mkdir()
        Path("reports", name, "section.md").write_text(text, encoding="utf-8")
    evaluate.main()
    card = Path("reports/model_card.md").read_text(encoding="utf-8")
    assert "\n\n## Explanations\n\ny\n\n## Robustness\n\nx\n\n## Training\n\n" in card
    Path("reports/explanations/section.md").write_text("", encoding="utf-8")
    evaluate.main()
    assert "Explanations" not in Path("reports/model_card.md").read_text(encoding="utf-8")


def test_slices_of_a_column(target: str) -> None:
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    params["evaluate"]["slices"] = ["x"]
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    evaluate.main()
    found = json.loads(Path("reports/slices.json").read_text(encoding="utf-8"))["x"]
    assert [(each["examples"], each["few"]) for each in found["slices"]] == [
        (1, True), (10, False), (10, False), (9, True), (10, False),
    ]  # fmt: skip
    assert found["slices"][0]["name"] == "x missing"
    measured = found["slices"][2]["metrics"]
    assert measured["mae" if target == "regression" else "accuracy"] == [1, 1, 1]
    assert "accuracy" in measured or set(found["differences"]) == {"mae", "rmse", "r2", "mape", "coverage"}
    assert "| x missing * | 1 |" in Path("reports/model_card.md").read_text(encoding="utf-8")


@pytest.mark.usefixtures("workspace")
def test_rows_are_grouped_by_any_column_and_by_the_group() -> None:
    rows = frame()
    prepare(rows, time=None)
    manifest = prepared.manifest()
    names = prepared_tables.names("test")
    test = rows.set_index("id").loc[[name.removeprefix("table.csv:") for name in names]]
    found = slices.masks(["colour ✨", "patient", "when", "weight in kg", "patient"], manifest, "key")
    assert list(found) == ["colour ✨", "patient", "when", "weight in kg"]
    for masks in found.values():
        assert np.stack(list(masks.values())).sum(0).tolist() == [1] * len(names)
    assert (found["colour ✨"]["colour ✨ grün"] == (test["colour ✨"] == "grün")).all()
    assert (found["colour ✨"]["colour ✨ missing"] == test["colour ✨"].isna()).all()
    assert (
        found["patient"][f"patient {test['patient'].iloc[0]}"] == (test["patient"] == test["patient"].iloc[0])
    ).all()
    assert all(name.startswith("when 2025-") for name in found["when"])
    with pytest.raises(UserError, match=r"^gates\.slices\.columns: there is no column 'x'; choose from size, "):
        slices.masks(["x"], manifest, "gates.slices.columns")


def test_form_and_examples_for_the_page(target: str) -> None:
    """Bounds of the columns from the schema, and rows of the test split, evenly spaced over the targets."""
    evaluate.main()
    content = json.loads(Path("models/page.json").read_text(encoding="utf-8"))
    assert content["properties"] == {"x": {"maximum": 30, "nullable": True}}
    assert content["range"] == (None if target == "classification" else [-40, 45])
    rows = [0, 13, 26, 39]
    actual = ["low", "low", "high", "high"] if target == "classification" else [float(2 * X[row] + 1) for row in rows]
    assert content["examples"] == [
        {"instance": {"x": X[row]}, "actual": value} for row, value in zip(rows, actual, strict=True)
    ]
    (row,) = evaluation_tables.examples([MISSING])
    assert row == {"instance": {"x": None}}


@pytest.mark.usefixtures("target")
def test_private_columns_do_not_leave_with_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bins, "ENOUGH", ((400, 10), (40, 5)))
    schema = yaml.safe_load(Path("schema.yaml").read_text(encoding="utf-8"))
    schema["columns"]["x"]["private"] = "drop"
    Path("schema.yaml").write_text(yaml.safe_dump(schema), encoding="utf-8")
    evaluate.main()
    content = json.loads(Path("models/page.json").read_text(encoding="utf-8"))
    assert [example["instance"] for example in content["examples"]] == [{"x": None}] * 4
    content = json.loads(Path("models/reference.json").read_text(encoding="utf-8"))
    assert content["variables"] and all(each["kind"] != "input" for each in content["variables"])
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    params["evaluate"]["monitored"] = ["x"]
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    with pytest.raises(UserError, match=r"^evaluate\.monitored: 'x' is private in the schema"):
        evaluate.main()


def test_what_explanations_compare_with(target: str) -> None:
    """Values that several rows have, and no row: the median, not the smallest or largest."""
    evaluate.main()
    content = json.loads(Path("models/explain.json").read_text(encoding="utf-8"))
    assert content["fixed"] == []
    assert content["baseline"] == {"x": 0.5}
    (values,) = content["values"].values()
    assert values == sorted({*values} & {*X.tolist()})
    assert min(X) < values[0] < values[-1] < max(X)


def test_what_production_is_compared_with(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def written() -> tuple[list[tuple[str, int]], str]:
        evaluate.main()
        content = json.loads(Path("models/reference.json").read_text(encoding="utf-8"))
        (paragraph,) = re.findall("## In production\n\n(.*)", Path("reports/model_card.md").read_text(encoding="utf-8"))
        return [(each["kind"], sum(each["rows"])) for each in content["variables"]], paragraph

    few, told = written()
    assert few == [] and "takes 100 training rows" in told and "takes 100 test examples, and there are 40" in told
    monkeypatch.setattr(bins, "ENOUGH", ((400, 10), (40, 5)))
    enough, told = written()
    assert enough[0][0] == "input" and ("answer", 40) in enough
    assert "1 column of the inputs" in told and "answer" in told


@pytest.mark.usefixtures("workspace")
def test_a_column_with_few_values_has_all_of_them_as_candidates() -> None:
    """Quantiles skipped the 2, which 4% of the rows have."""
    rows = frame(500).assign(size=np.repeat([0, 1, 2, 3, 9], [220, 150, 20, 100, 10]))
    prepare(rows, group=None, time=None, drop=["patient", "when"])
    Path("params.yaml").write_text(yaml.safe_dump({"data": {"schema": "schema/table.yaml"}}))
    content = evaluation_tables.reference()
    assert (content["values"]["size"], content["baseline"]["size"]) == ([0, 1, 2, 3], 1)


@pytest.mark.usefixtures("workspace")
def test_what_explanations_compare_with_by_kind_of_column() -> None:
    prepare(frame())
    Path("params.yaml").write_text(yaml.safe_dump({"data": {"schema": "schema/table.yaml"}}))
    content = evaluation_tables.reference()
    for column in prepared.manifest()["columns"]:
        values, typical = content["values"][column["name"]], content["baseline"][column["name"]]
        kind = {"number": float, "category": str, "date": str}[column["type"]]
        assert values and all(isinstance(value, kind) for value in [*values, typical])
    rows = prepared_tables.load("train")
    for column in prepared.manifest()["columns"]:
        if column["type"] == "category":
            counts = pd.Series(rows[column["name"]].drop_null().to_pylist()).value_counts()
            assert counts[content["baseline"][column["name"]]] == counts.max()


@pytest.mark.parametrize(
    ("fixed", "message"), [("X", "the model has no column 'X'; choose from x"), ("xx", "did you mean 'x'?")]
)
def test_a_fixed_column_must_exist(target: str, fixed: str, message: str) -> None:
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    params["evaluate"]["fixed"] = ["x", fixed]
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    with pytest.raises(UserError, match=re.escape(f"evaluate.fixed: the model has no column {fixed!r}; ")) as told:
        evaluate.main()
    assert message in str(told.value)
    assert not Path("reports/metrics.json").exists()


@pytest.mark.usefixtures("workspace")
def test_the_worst_rows_are_shown() -> None:
    rows = frame()
    rows["colour ✨"] = rows["colour ✨"].replace("red", "a|b\n")
    prepare(rows)
    Path("params.yaml").write_text(yaml.safe_dump({"data": {"schema": "schema/table.yaml"}}))
    names = prepared_tables.names("test")
    lines = evaluation_tables.worst([3, 0], ["no | yes", "yes"], 17, Path())
    shown = pd.read_csv("worst.csv", keep_default_na=False)
    assert shown["row"].tolist() == [names[3], names[0]]
    assert shown["outcome"].tolist() == ["no | yes", "yes"]
    assert f"| {names[3]} | no \\| yes |" in lines
    assert "17" in lines[0]
