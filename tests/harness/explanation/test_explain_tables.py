"""Stage `explain` on tables: a linear model of numbers, texts and dates, whose effects are known."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from graphs_made import save
from my_experiment.harness import prepared
from my_experiment.harness.core.errors import UserError
from my_experiment.harness.evaluation.metrics import evenly_spaced
from my_experiment.harness.explanation import report, subject, table_plots, table_words, tables
from my_experiment.harness.prepared import tables as prepared_tables
from my_experiment.stages import explain
from onnx import helper, numpy_helper
from support import HARNESS, HOSTILE, ROOT, read_as_text
from tables_made import frame, prepare

TARGETS = [target for target in ("classification", "regression") if (HARNESS / f"targets/{target}.py").exists()]
FIRST = 20_089  # days from 1970 to 2025, when the dates of the table begin
SIZE, RED, DAY = 2.0, 1.5, 0.004  # effects on the answer of a unit of `size`, of the color red, of a day


def save_model(manifest: dict[str, Any], size: str = "size") -> None:
    """Writes a linear model in which a missing number is 0 and `weight in kg` does not count."""
    columns, softmax, nodes, coefficients = manifest["columns"], manifest["target"] == "classification", [], []
    for place, column in enumerate(columns):
        value = f"value{place}"
        if column["type"] == "category":
            keys: dict[str, Any] = {"keys_strings": ["red"], "values_floats": [RED], "default_float": 0.0}
            nodes.append(helper.make_node("LabelEncoder", [column["name"]], [value], domain="ai.onnx.ml", **keys))
        else:
            nodes.append(helper.make_node("Cast", [column["name"]], [f"{value}f"], to=onnx.TensorProto.FLOAT))
            nodes.append(helper.make_node("IsNaN", [f"{value}f"], [f"{value}n"]))
            nodes.append(helper.make_node("Where", [f"{value}n", "zero", f"{value}f"], [value]))
        nodes.append(helper.make_node("Reshape", [value, "column"], [f"{value}r"]))
        coefficients.append({size: SIZE, "when": DAY, "colour ✨": 1.0}.get(column["name"], 0.0))
    nodes.append(helper.make_node("Concat", [f"value{place}r" for place in range(len(columns))], ["rows"], axis=1))
    weights, bias = np.array([coefficients], np.float32).T, np.array([-DAY * FIRST], np.float32)
    if softmax:  # the log-odds of the second class are the linear model
        weights, bias = np.concatenate([0 * weights, weights], axis=1), np.array([0, *bias], np.float32)
    nodes.append(helper.make_node("Gemm", ["rows", "weights", "bias"], ["scores" if softmax else "y"]))
    if softmax:
        nodes.append(helper.make_node("Softmax", ["scores"], ["y"]))
    types = {"category": onnx.TensorProto.STRING, "number": onnx.TensorProto.DOUBLE, "date": onnx.TensorProto.DOUBLE}
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info(c["name"], types[c["type"]], ["N"]) for c in columns],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", weights.shape[1]])],
        [
            numpy_helper.from_array(np.zeros(1, np.float32), "zero"),
            numpy_helper.from_array(np.array([-1, 1]), "column"),
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(bias, "bias"),
        ],
    )
    calibration = {"half_widths": {"0.5": 1.0, "0.9": 3.0}}
    Path("models/model.json").write_text(json.dumps({**manifest, "calibration": calibration, "sha256": save(graph)}))


def configure(fixed: Sequence[str] = (), **changes: int) -> None:
    """Writes the sections `data`, `explain` and `evaluate`."""
    section = {"seed": 0, "examples": 20, "shown": 3, "background": 30, "budget": 32, **changes}
    evaluate = {"seed": 0, "resamples": 100, "confidence": 0.9, "examples": 3, "shipped": 0, "fixed": [*fixed]}
    params = {"data": {"schema": "schema/table.yaml"}, "explain": section, "evaluate": evaluate}
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest, workspace: Path) -> Iterator[str]:
    """The results of the earlier stages, for each kind of target in this bake."""
    name: str = request.param
    rows, changes = frame(), dict[str, Any](group=None, time=None, drop=["patient"])
    if name == "regression":
        rows["y"] = rows["size"] * 2
        changes["problem"] = "regression"
    prepare(rows, **changes)
    save_model(prepared.manifest())
    configure()
    yield name


def content() -> dict[Path, bytes]:
    """Every file that the stage writes."""
    return {file: file.read_bytes() for file in Path("reports/explanations").rglob("*.*") if file.is_file()}


def test_effects_are_those_of_the_model(target: str) -> None:
    explain.main()
    values: dict[str, Any] = json.loads(Path("reports/explanations/values.json").read_text(encoding="utf-8"))
    assert (values["examples"], values["shown"], values["background"]) == (20, 3, 30)
    assert values["unit"] == ("log-odds of yes" if target == "classification" else "y")
    background = prepared_tables.rows("train", evenly_spaced(prepared.manifest()["examples"]["train"], 30).tolist())
    size = background["size"].mean()
    red = RED * (background["colour ✨"] == "red").mean()
    for shown in (*values["worst"], *values["typical"]):
        row = prepared_tables.rows("test", [shown["row"]])
        assert shown["shap"]["size"] == pytest.approx(SIZE * (row["size"][0] - size), abs=5e-5)
        assert shown["shap"]["colour ✨"] == pytest.approx(RED * (row["colour ✨"][0] == "red") - red, abs=5e-5)
        assert shown["shap"]["when"] == pytest.approx(DAY * (row["when"][0] - background["when"].mean()), abs=5e-5)
        assert shown["shap"]["weight in kg"] == pytest.approx(0, abs=1e-9)
        assert shown["mean"] + sum(shown["shap"].values()) == pytest.approx(shown["answer"], abs=5e-5)
        assert shown["lime_r2"] > 0.95
    assert all(check["passed"] for check in values["checks"].values()), values["checks"]
    section = Path("reports/explanations/section.md").read_text(encoding="utf-8")
    assert section.startswith("## Why the model answers as it does\n\nHow much each column adds")
    assert "| size | raise the answer |" in section and "Do not rely" not in section and "budget" not in section
    for link in [line.split("](")[1][:-1] for line in section.splitlines() if line.startswith("![")]:
        assert Path("reports", link).read_bytes().startswith(b"\x89PNG")


def answer(row: dict[str, Any]) -> float:
    """The model's answer for a row, in log-odds or as the number."""
    days = (date.fromisoformat(row["when"]) - date(1970, 1, 1)).days
    return float(SIZE * row["size"] + RED * (row["colour ✨"] == "red") + DAY * (days - FIRST))


def test_what_would_change_an_answer_does(target: str) -> None:
    """Each set of changes: applied to the row, it gives another answer, with the fewest columns."""
    explain.main()
    verbs = {"+": "speaks for yes", "-": "speaks against yes"}
    if target == "regression":
        verbs = {"+": "raises y", "-": "lowers y"}
    values = json.loads(Path("reports/explanations/values.json").read_text(encoding="utf-8"))
    section, found = Path("reports/explanations/section.md").read_text(encoding="utf-8"), 0
    for shown in (*values["worst"], *values["typical"]):
        [row] = prepared_tables.requests("test", [shown["row"]])
        before = answer(row)
        assert shown["reasons"]
        for words in shown["reasons"]:
            text, _, effect = words.rpartition(" (")
            assert text.endswith(verbs[effect[0]])
        assert prepared_tables.names("test")[shown["row"]] in section
        for each in shown["counterfactuals"]:
            changes = each["changes"]
            assert all(row[column] == change["from"] for column, change in changes.items())
            after = answer(row | {column: change["to"] for column, change in changes.items()})
            if target == "classification":
                assert (after > 0) != (before > 0) and each["answer"].startswith("yes" if after > 0 else "no")
            else:
                assert abs(after - before) > 1 and float(each["answer"]) == pytest.approx(after, rel=1e-3)
            assert f"instead of {table_words.cell(next(iter(changes.values()))['from'])}" in section
            found += 1
    assert found >= 6 and "No such change" not in section


def test_fixed_columns_stay_and_a_row_that_cannot_change_is_told(target: str) -> None:
    configure(fixed=["size", "colour ✨"], examples=4, shown=1, background=10)
    explain.main()
    values = json.loads(Path("reports/explanations/values.json").read_text(encoding="utf-8"))
    changed = [each["changes"] for shown in values["worst"] + values["typical"] for each in shown["counterfactuals"]]
    assert {column for changes in changed for column in changes} <= {"when", "weight in kg"}
    configure(fixed=["size", "colour ✨", "when", "weight in kg"], examples=4, shown=1, background=10)
    explain.main()
    section = Path("reports/explanations/section.md").read_text(encoding="utf-8")
    assert section.count("  - No such change gives another answer.") == 2
    assert "size, colour ✨, when, weight in kg stay as they are (`evaluate.fixed`)" in section
    configure(fixed=["size_"])
    with pytest.raises(UserError, match=r"^evaluate\.fixed: the model has no column 'size_'; did you mean 'size'\?"):
        explain.main()


@pytest.mark.usefixtures("workspace")
def test_names_that_are_html_or_markdown_are_text() -> None:
    size, color, other = HOSTILE
    rows = frame().rename(columns={"size": size, "colour ✨": color})
    changes: dict[str, Any] = {"group": None, "time": None, "drop": ["patient", "id"], "id": None}
    if "classification" in TARGETS:
        rows["y"] = np.where(rows["y"] == "yes", other, "NO")  # before "["
    else:
        rows["y"], changes["problem"] = rows[size] * 2, "regression"
    prepare(rows, **changes)
    save_model(prepared.manifest(), size)
    configure(fixed=[color], examples=8, shown=2, background=10)
    explain.main()
    shown = read_as_text(Path("reports/explanations/section.md").read_text(encoding="utf-8"))
    assert f"\n{size}\n" in shown and f"; {size} = " in f"; {shown.replace('Strongest effects: ', '; ')}"
    assert f"{color} stay as they are" in shown
    assert "classification" not in TARGETS or f"log-odds of {other}." in shown


def test_a_second_run_gives_the_same_bytes_and_leaves_nothing_of_the_first(target: str) -> None:
    configure(examples=4, shown=1, background=10)
    explain.main()
    first = content()
    Path("reports/explanations/plots/old.png").touch()
    explain.main()
    assert content() == first and len(first) == 9


def test_a_failed_check_is_said_in_the_card(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from my_experiment.harness.explanation import attribution

    configure(examples=4, shown=2, background=10)
    monkeypatch.setattr(attribution, "occlusion", lambda answer, parts: np.zeros(parts))  # not tested
    right = attribution.shap
    monkeypatch.setattr(attribution, "shap", lambda *arguments: -right(*arguments))
    explain.main()
    section = Path("reports/explanations/section.md").read_text(encoding="utf-8")
    assert section.splitlines()[2].startswith("**Do not rely on these explanations without a second look: they are wr")
    assert "| **failed** |" in section


def test_without_explanations_nothing_is_imported(target: str) -> None:
    configure(examples=0)
    code = "import sys; from my_experiment.stages import explain; explain.main(); print(*sys.modules)"
    environment = {"PYTHONPATH": str(ROOT / "src")}
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
    heavy = {"shap", "lime", "numba", "sklearn", "scipy", "matplotlib", "pandas", "onnx", "onnxruntime", "pyarrow"}
    assert not heavy & {*loaded.stdout.split()}
    assert content() == {
        Path("reports/explanations/plots/importance.csv"): b"part,effect\n",
        Path("reports/explanations/section.md"): b"",
        Path("reports/explanations/values.json"): b"{}\n",
    }


def test_typical_answers_are_no_extremes() -> None:
    assert subject.middles(60, 3).tolist() == [10, 30, 50]
    assert subject.middles(3, 3).tolist() == [0, 1, 2]


def test_direction_in_words() -> None:
    values = np.array([1.0, 2.0, np.nan, 4.0])
    assert tables.direction("number", values, np.array([0.1, 0.2, 9, 0.3])) == "raise the answer"
    assert tables.direction("number", values, np.array([0.3, 0.2, 9, 0.1])) == "lower the answer"
    assert tables.direction("number", values, np.array([0.2, 0.1, 9, 0.2])) == "both"
    assert tables.direction("number", values, np.zeros(4)) == tables.direction("category", values, values) == "-"


def test_of_several_classes_each_has_its_own_marks_and_lines(tmp_path: Path) -> None:
    """A mean over rows of which each is explained for another class would say nothing."""
    outputs = np.array([2, 2, 2, 0, 0, 5, 1, 1, 3, 2])
    groups = tables.grouped(outputs, {"classes": list("abcdef")})
    assert groups == {"c": 2, "a": 0, "b": 1, "d": 3}
    assert [name for name, *_ in table_plots.marks(outputs, groups)] == ["c", "a", "b", "d", "others"]
    assert np.sum([rows for *_, rows in table_plots.marks(outputs, groups)], axis=0).tolist() == [1] * 10
    for classes in ({"classes": ["no", "yes"]}, {}):  # two classes, numbers
        assert tables.grouped(np.zeros(10, np.int64), classes) == {}
    effects, values = np.linspace(-1, 1, 10), np.array([np.nan, *range(9)])
    levels = np.array(["x", "y"] * 5, object)
    columns: Any = [
        ("n", "number", values, effects),
        ("d", "date", values, effects),
        ("c", "category", levels, effects),
    ]
    table_plots.dependence(columns, outputs, groups, "u", tmp_path / "dependence.png")
    curves: Any = [
        ("n", "number", np.arange(3.0), np.zeros((3, 4, 10))),
        ("c", "category", levels[:2], np.zeros((2, 4, 10))),
    ]
    table_plots.partial_dependence(curves, groups, "u", tmp_path / "partial.png")
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in tmp_path.iterdir())


def test_equal_values_have_the_same_color() -> None:
    """Zeros of a column of few others were drawn from low to high."""
    assert table_plots.shades(np.array([0.0, 5, 0, 0])).tolist() == [1 / 3, 1, 1 / 3, 1 / 3]
    assert table_plots.shades(np.array([7.0, 7, 7])).tolist() == [0.5] * 3
    assert table_plots.shades(np.array([1.0, 3, 2])).tolist() == [0, 1, 0.5] and table_plots.shades(np.ones(1)) == 0


def test_numbers_in_values_json() -> None:
    assert [report.rounded(value) for value in (None, float("nan"), -1e-12, 1 / 3)] == [None, None, 0.0, 0.33333333]
