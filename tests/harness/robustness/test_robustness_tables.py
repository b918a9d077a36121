"""Robustness of a linear model of a table with numbers, whole numbers, gaps and texts."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pytest
import yaml
from graphs_made import save
from my_experiment.harness import prepared
from my_experiment.harness.core.errors import UserError
from my_experiment.harness.preparation import splits
from my_experiment.harness.prepared import tables as prepared_tables
from my_experiment.harness.robustness import contracts, report, search, subject, tables
from onnx import helper, numpy_helper
from support import HARNESS
from tables_made import save_rows

ROWS, EPSILONS = 60, [0.1, 0.5, 2.0]
SETTINGS: dict[str, Any] = {"seed": 0, "examples": 50, "queries": 60, "epsilons": EPSILONS}
RANDOM = np.random.default_rng(0)
NUMBERS = {
    "size": np.where(np.arange(ROWS) == 5, np.nan, RANDOM.normal(size=ROWS)),
    "children": RANDOM.integers(0, 5, ROWS).astype(np.float64),
    "age": RANDOM.uniform(20, 60, ROWS),
}
SLOPES = {"size": 1.5, "children": -0.8, "age": 0.02}
COLUMNS = [{"name": name, "type": "number"} for name in NUMBERS] + [{"name": "color", "type": "category"}]
TARGETS = [target for target in ("classification", "regression") if (HARNESS / f"targets/{target}.py").exists()]


def save_model(target: str) -> str:
    """Writes a linear model of the numbers, of which a missing one counts 0; returns its digest."""
    nodes, inputs, parts = [], [], []
    for name in NUMBERS:
        inputs.append(helper.make_tensor_value_info(name, onnx.TensorProto.DOUBLE, ["N"]))
        nodes += [
            helper.make_node("IsNaN", [name], [f"{name}-missing"]),
            helper.make_node("Where", [f"{name}-missing", "zero", name], [f"{name}-known"]),
            helper.make_node("Mul", [f"{name}-known", f"{name}-slope"], [f"{name}-part"]),
        ]
        parts.append(f"{name}-part")
    constants = [numpy_helper.from_array(np.array(value), f"{name}-slope") for name, value in SLOPES.items()]
    constants += [numpy_helper.from_array(np.zeros(1), "zero"), numpy_helper.from_array(np.array([1]), "axis")]
    inputs.append(helper.make_tensor_value_info("color", onnx.TensorProto.STRING, ["N"]))
    nodes += [
        helper.make_node("Sum", parts, ["sum"]),
        helper.make_node("Unsqueeze", ["sum", "axis"], ["column"]),
        helper.make_node("Cast", ["column"], ["single"], to=onnx.TensorProto.FLOAT),
    ]
    output, width = ("probabilities", 2) if target == "classification" else ("prediction", 1)
    if target == "classification":
        nodes += [
            helper.make_node("Sub", ["single", "single"], ["nothing"]),
            helper.make_node("Concat", ["nothing", "single"], ["scores"], axis=1),
            helper.make_node("Softmax", ["scores"], [output]),
        ]
    else:
        nodes.append(helper.make_node("Identity", ["single"], [output]))
    answer = helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, ["N", width])
    return save(helper.make_graph(nodes, "model", inputs, [answer], constants))


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest, workspace: Path) -> str:
    """The results of the earlier stages, for each kind of target in this bake."""
    name: str = request.param
    linear = sum(np.nan_to_num(values) * SLOPES[column] for column, values in NUMBERS.items())
    answers = (linear > 0).astype(np.int64) if name == "classification" else linear + 0.5
    table = pa.table(
        {column: pa.array(values, from_pandas=True) for column, values in NUMBERS.items()}
        | {
            "color": pa.array([("red", "blue", None)[row % 3] for row in range(ROWS)]),
            "__name__": [f"rows.csv:{row}" for row in range(ROWS)],
        }
    )
    with splits.replaced() as folder:
        for split in prepared.SPLITS:
            np.save(folder / split / "targets.npy", answers)
            save_rows(table, folder / split)
        manifest: dict[str, Any] = {"input": "tables", "target": name, "target_name": "y", "columns": COLUMNS}
        manifest["digests"] = dict.fromkeys(prepared.SPLITS, "0" * 64)
        if name == "classification":
            manifest["classes"] = ["low", "high"]
        splits.write_manifest(manifest, folder)
    rows_of_class = [{"class": "high"}] if name == "classification" else [{}]
    coefficients = [row | {"name": column, "estimate": SLOPES[column]} for row in rows_of_class for column in SLOPES]
    description = {"sha256": save_model(name), "classes": ["low", "high"], "coefficients": coefficients}
    Path("models/model.json").write_text(json.dumps(description), encoding="utf-8")
    evaluate = {"seed": 0, "resamples": 100, "confidence": 0.9, "examples": 3, "shipped": 4, "fixed": ["age"]}
    params = {"data": {"schema": "schema.yaml"}, "evaluate": evaluate}
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    schema = {column["name"]: {"type": column["type"]} for column in COLUMNS}
    Path("schema.yaml").write_text(yaml.safe_dump({"columns": schema}), encoding="utf-8")
    return name


def edit_description(**changes: Any) -> None:
    """Changes models/model.json; None removes a key."""
    file = Path("models/model.json")
    content = json.loads(file.read_text(encoding="utf-8")) | changes
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}), encoding="utf-8")


def attacks() -> dict[tuple[str, float], tuple[tables.Numbers, float]]:
    """Attack and epsilon -> changed numbers, and mean score."""
    found = subject.read(50)
    columns, feed = tables.free(["size", "children"]), prepared_tables.rows("test", found.rows.tolist())
    clean = np.column_stack([feed[name] for name in columns.names])
    result = {}
    for name, _, epsilon, changed in tables.attempts(found, feed, columns, clean, (60, EPSILONS, 0)):
        outputs = found.outputs(tables.changed_feed(feed, columns, changed))
        result[name, epsilon] = changed, float(found.kind.score(outputs, found.targets).mean())
        # Within the ball and the range of the training rows; whole numbers stay whole, missing ones missing.
        known = ~np.isnan(clean)
        np.testing.assert_array_equal(np.isnan(changed), ~known)
        limits = np.broadcast_to(epsilon * columns.deviation, clean.shape)
        assert (np.abs(changed - clean)[known] <= limits[known] * (1 + 1e-12)).all()
        assert (changed[known] >= np.broadcast_to([np.nanmin(NUMBERS["size"]), 0], clean.shape)[known]).all()
        assert (changed[known] <= np.broadcast_to([np.nanmax(NUMBERS["size"]), 4], clean.shape)[known]).all()
        assert (changed[:, 1] == np.rint(changed[:, 1])).all()
    return result


def test_an_exact_attack_is_as_bad_as_any(target: str) -> None:
    """For a linear model, no search finds worse, and a long one finds nearly as bad."""
    exact = attacks()
    edit_description(coefficients=None)
    searched = attacks()
    sign = -1 if target == "classification" else 1
    for epsilon in EPSILONS:
        worst, found = sign * exact["exact", epsilon][1], sign * searched["search", epsilon][1]
        noise = sign * searched["noise", epsilon][1]
        assert noise <= found + 1e-9
        assert found <= worst + 1e-6 * abs(worst)
        assert found >= worst - 0.03 * abs(worst)


def test_the_report(target: str) -> None:
    tables.table(**SETTINGS)
    folder = Path("reports/robustness")
    values = json.loads((folder / "values.json").read_text(encoding="utf-8"))
    assert values["metric"] == ("accuracy" if target == "classification" else "MAE")
    found = {(row["name"], row["strength"]): row["value"] for row in values["attacks"] + values["changes"]}
    assert {name for name, _ in found} == {"noise", "exact", "missing"}
    section = (folder / "section.md").read_text(encoding="utf-8")
    assert "Within an epsilon of 0.5 standard deviations, random noise leaves" in section
    assert "The attack is exact" in section and "So did age (`evaluate.fixed`)" in section
    with (folder / "pairs.csv").open(encoding="utf-8") as file:
        changed = {row["column"] for row in csv.DictReader(file)}
    assert changed and changed <= {"size", "children"}
    first = {file: file.read_bytes() for file in folder.iterdir()}
    tables.table(**SETTINGS)
    assert {file: file.read_bytes() for file in folder.iterdir()} == first


def test_only_what_is_worse_counts_as_harm(target: str) -> None:
    """Of three rows, the change improves the first, and makes the last worse than the second."""
    found = subject.read(3)
    if target == "classification":
        right = np.eye(2, dtype=np.float32)[found.targets]
        clean, changed = right.copy(), 1 - right
        clean[0], changed[0] = 1 - right[0], right[0]
    else:
        errors = np.array([[9, 1, 1], [2, 3, 5]], np.float32)
        clean, changed = ((found.targets + each)[:, None].astype(np.float32) for each in errors)
    trial = contracts.Trial("search", "search", 0.5, changed)
    study = contracts.Study(found, tables.UNIT, clean, [trial], [], [])
    assert report.harmed(study, trial).tolist() == ([1, 2] if target == "classification" else [2, 1])


@pytest.mark.usefixtures("target")
def test_missing_cells() -> None:
    found = subject.read(50)
    feed = prepared_tables.rows("test", found.rows.tolist())
    for share, cells in tables.missing(feed, ["age"], np.random.default_rng(0)):
        np.testing.assert_array_equal(cells["age"], feed["age"])
        assert np.isnan(cells["children"]).mean() == pytest.approx(share, abs=0.15)
        assert (cells["color"] == "").mean() == pytest.approx(share + (1 - share) / 3, abs=0.15)
        assert {name: values.dtype for name, values in cells.items()} == {n: v.dtype for n, v in feed.items()}
        assert np.isfinite(found.outputs(cells)).all()


def test_a_table_without_numbers_to_change_is_one_line(target: str) -> None:
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    params["evaluate"]["fixed"] = list(NUMBERS)
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    with pytest.raises(UserError, match=r"^robustness: no column with numbers may change"):
        tables.table(**SETTINGS)


@pytest.mark.usefixtures("target")
def test_an_epsilon_that_is_named_twice_is_tried_once() -> None:
    tables.table(**{**SETTINGS, "epsilons": [0.5, 0.1, 0.5]})
    content = json.loads(Path("reports/robustness/values.json").read_text(encoding="utf-8"))
    assert [each["strength"] for each in content["attacks"] if each["name"] == "noise"] == [0.1, 0.5]


@pytest.mark.usefixtures("target")
def test_an_answer_that_is_no_number_is_one_line() -> None:
    """It was a NaN in values.json."""
    found = subject.read(50)
    feed = prepared_tables.rows("test", found.rows.tolist())
    size = feed["size"].copy()
    size[3] = 1e300  # more than the 32-bit output holds
    with pytest.raises(UserError, match=r"^robustness: the model's answer is not a finite number for 1 of 50 changed"):
        found.outputs({**feed, "size": size})


def test_a_row_beyond_the_training_rows_may_stay_where_it_is() -> None:
    columns = tables.Columns(["a", "b"], np.ones(2), np.zeros(2), np.full(2, 3.0), np.array([False, True]))
    low, high = columns.box(np.array([[5.0, 2.5], [-1.0, np.nan]]), 0.25)
    np.testing.assert_array_equal(low, [[4.75, 2.5], [-1.0, np.nan]])
    np.testing.assert_array_equal(high, [[5.0, 2.5], [-0.75, np.nan]])


def test_a_search_asks_no_more_than_it_may() -> None:
    asked: list[int] = []

    def ask(changed: tables.Numbers, places: search.Places) -> Any:
        asked.append(len(places))
        return changed.sum(1), changed.sum(1) > 3

    from tqdm import tqdm

    low, high = np.zeros((4, 2)), np.array([[1.0, 1.0]] * 3 + [[4.0, 4.0]])
    with tqdm(total=40, disable=True) as bar:
        propose = tables.inside(low, high, np.zeros(2, bool), np.random.default_rng(0))
        best = search.search(ask, low, propose, 40, bar)
    assert asked[:2] == [4, 4] and len(asked) == 41
    assert asked[-1] == 3  # the fourth was found
    np.testing.assert_array_equal(best[:3], high[:3])
