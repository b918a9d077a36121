"""Gradient boosting: every row reaches its leaf in the export; the same bytes; stopped on our own validation rows."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pyarrow as pa
import pytest
from my_experiment import features
from my_experiment.harness import contracts
from my_experiment.harness.core import config, errors
from my_experiment.harness.exported import graphs
from my_experiment.harness.training import encoding as encodings
from my_experiment.harness.training import fit
from my_experiment.models import gradient_boosting
from support import ROOT

HOW = contracts.Boosting(seed=0, iterations=40, learning_rate=0.2, monitor="val_loss", patience=40, threads=1)
MODEL: dict[str, Any] = {"leaves": 8, "min_rows": 5, "l2": 0.0, "columns": 1.0}
OUTPUTS = {"regression": "prediction", "classification": "probabilities"}
TARGET: str = config.read(ROOT / "conf/data/csv.yaml")["problem"]
CLASSES: list[Any] = [["no", "yes"], ["a", "b", "c"]] if TARGET == "classification" else [None]


def table(count: int, seed: int = 0) -> dict[str, Any]:
    """Numbers of all sizes and categories, one of many levels, with gaps in all."""
    random = np.random.default_rng(seed)
    town = np.array([f"town {i}" for i in range(250)])[random.integers(0, 250, count)]
    columns: dict[str, Any] = {
        "size": random.normal(size=count),
        "time": random.normal(size=count) * 1e9 + 1.7e18,  # neighbors are one in float32
        "count": random.integers(0, 5, count).astype(float),
        "town": town,
        "color": np.array(["red", "green", "blue"])[random.integers(0, 3, count)],
    }
    for name, values in columns.items():
        missing = random.random(count) < 0.1
        columns[name] = np.where(missing, np.nan if values.dtype.kind == "f" else "", values)
    return columns


def signal(columns: dict[str, Any]) -> Any:
    """A number that depends on every column, and on what is missing."""
    size, time = np.nan_to_num(columns["size"]), np.nan_to_num((columns["time"] - 1.7e18) / 1e9)
    levels = np.array([int(f"0{town[5:]}") % 7 for town in columns["town"]])
    return size + np.sin(time) + (columns["color"] == "red") - 2 * (columns["color"] == "") + levels / 2


def codes(columns: dict[str, Any], **settings: Any) -> Any:
    """The encoding of a table by codes."""
    described = [{"name": k, "type": "number" if v.dtype.kind == "f" else "category"} for k, v in columns.items()]
    arrays = {k: pa.array(v, from_pandas=True) for k, v in columns.items()}
    return features.codes(pa.table(arrays), described, **{"min_count": 1, "max_categories": 254} | settings)


def run(graph: Any, columns: dict[str, Any]) -> Any:
    """The output of a graph."""
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {k: v.astype(object) if v.dtype.kind == "U" else v for k, v in columns.items()})[0]


def trained(
    raw: dict[str, Any], targets: Any, classes: list[str] | None, how: contracts.Boosting = HOW, **settings: Any
) -> Any:
    """Fits on the first three quarters of the rows, validated on the others."""
    cut = len(targets) * 3 // 4
    encoding = codes({name: values[:cut] for name, values in raw.items()})
    rows = run(encoding.graph, raw)
    parts = {"train": slice(cut), "validation": slice(cut, None)}
    for split, part in parts.items():
        Path(f"data/prepared/{split}").mkdir(parents=True, exist_ok=True)
        np.save(f"data/prepared/{split}/targets.npy", np.asarray(targets)[part])
    inputs = contracts.Inputs("encoded", lambda split: rows[parts[split]], encoding.layers, encoding.graph)
    manifest = {"target": TARGET, "target_name": "y", **({"classes": classes} if classes else {})}
    fitted = gradient_boosting.gradient_boosting(inputs, manifest, how, **MODEL | settings)
    return SimpleNamespace(fitted=fitted, encoding=encoding, rows=rows, cut=cut)


def target(columns: dict[str, Any], classes: list[str] | None) -> Any:
    """The target of each row: a number, or the index of a class."""
    values = signal(columns)
    return (
        values
        if classes is None
        else np.digitize(values, np.quantile(values, [0.5] if len(classes) == 2 else [0.3, 0.7]))
    )


@pytest.mark.parametrize("classes", CLASSES)
def test_every_row_reaches_its_leaf(workspace: Path, classes: list[str] | None) -> None:
    """Thresholds and the next number above each, missing values and unknown levels in every column."""
    columns = table(2000)
    result = trained(columns, target(columns, classes), classes)
    graph = result.fitted.graph()
    weights = result.fitted.weights
    assert len(weights["sets"]) and weights["missing_left"].any() and not weights["missing_left"].all()
    probes = [result.rows]
    levels = [column.levels for column in encodings.columns(result.encoding.graph)]
    for column, threshold in {*zip(weights["feature"].tolist(), weights["threshold"].tolist(), strict=True)}:
        values = range(levels[column]) if levels[column] else (threshold, np.nextafter(threshold, np.inf))
        probe = result.rows[:1].repeat(len(values) + 1, axis=0)
        probe[:, column] = [*values, np.nan]
        probes.append(probe)
    rows = np.concatenate(probes)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = result.fitted.predict(rows)
    np.testing.assert_array_equal(session.run(None, {"encoded": rows})[0], expected.astype(np.float32))
    whole = graphs.canonical(graphs.prepend(result.encoding.graph, graph), list(columns), [OUTPUTS[TARGET]])
    np.testing.assert_array_equal(run(whole, columns), result.fitted.predict(result.rows).astype(np.float32))
    unknown = {k: np.full(3, np.nan if v.dtype.kind == "f" else "never seen") for k, v in columns.items()}
    missing = {k: np.full(3, np.nan if v.dtype.kind == "f" else "") for k, v in columns.items()}
    np.testing.assert_array_equal(run(whole, unknown), run(whole, missing))  # there are no rare levels


def test_codes_are_the_levels_and_nan_is_missing() -> None:
    columns = {"x": np.array([1.0, np.nan, 3.0, 4.0]), "town": np.array(["b", "a", "", "b"])}
    np.testing.assert_array_equal(
        run(codes(columns).graph, {"x": np.array([1e300, np.nan, 5.0]), "town": np.array(["b", "", "new"])}),
        [[1e300, 1], [np.nan, np.nan], [5, np.nan]],
    )
    rare = codes(columns, min_count=2)  # b, (other)
    np.testing.assert_array_equal(
        run(rare.graph, {"x": np.zeros(4), "town": np.array(["b", "a", "new", ""])})[:, 1], [0, 1, 1, np.nan]
    )
    assert codes({**columns, "y": np.ones(4)}).names == ("x", "town")


def test_the_iteration_is_chosen_on_our_validation_rows(workspace: Path) -> None:
    columns = table(1200)
    values = target(columns, CLASSES[0])
    noisy = np.where(np.random.default_rng(1).random(1200) < 0.3, np.roll(values, 1), values)
    result = trained(columns, noisy, CLASSES[0], HOW._replace(iterations=500, patience=20))
    history = result.fitted.history
    best = int(history["val_loss"].argmin())
    assert len(history) < 500 and 0 < best < len(history) - 1
    outputs, actual = result.fitted.predict(result.rows[result.cut :]), noisy[result.cut :]
    if TARGET == "regression":
        loss = ((outputs[:, 0] - actual) ** 2).mean() / noisy[: result.cut].var()
    else:
        loss = -np.log(outputs[np.arange(len(actual)), actual]).mean()
    assert history["val_loss"][best] == pytest.approx(loss, rel=1e-12)
    metric = "val_mae" if TARGET == "regression" else "val_accuracy"
    other = trained(columns, noisy, CLASSES[0], HOW._replace(monitor=metric, patience=5)).fitted.history
    assert len(other) <= 40 and set(history) == {"loss", metric[4:], "val_loss", metric}


def test_the_same_bytes_with_any_number_of_threads(workspace: Path) -> None:
    columns = table(1000)
    values = target(columns, CLASSES[-1])

    def made(threads: int, seed: int = 0) -> Any:
        how = HOW._replace(threads=threads, seed=seed, iterations=3)
        fitted = trained(columns, values, CLASSES[-1], how, columns=0.5).fitted
        return fitted.graph().SerializeToString(deterministic=True), fitted.history.to_csv()

    first = made(1)
    assert made(2) == first and made(1) == first
    assert made(1, seed=1) != first


def test_columns_are_named_by_their_importance(workspace: Path) -> None:
    columns = table(1000)
    columns["noise"] = np.random.default_rng(3).normal(size=1000)
    notes = trained(columns, target(columns, CLASSES[0]), CLASSES[0]).fitted.notes
    rows = notes["importances"]
    assert sorted(row["name"] for row in rows) == sorted(columns)
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    assert [row["share"] for row in rows] == sorted((row["share"] for row in rows), reverse=True)
    assert {row["name"] for row in rows[:2]} <= {"size", "town", "time", "color"}
    assert "decrease of the loss" in notes["importances_note"]


def test_a_tree_without_a_split_is_one_line(workspace: Path) -> None:
    columns = table(20)
    with pytest.raises(errors.UserError, match=r"no tree has a split.*min_rows") as error:
        trained(columns, target(columns, CLASSES[0]), CLASSES[0], min_rows=20)
    assert "\n" not in str(error.value)


def test_every_iteration_is_reported(workspace: Path) -> None:
    columns = table(400)
    made = trained(columns, target(columns, CLASSES[0]), CLASSES[0])
    manifest = {"target": TARGET, "target_name": "y", **({"classes": CLASSES[0]} if CLASSES[0] else {})}
    inputs = contracts.Inputs(
        "encoded", lambda split: made.rows[: made.cut] if split == "train" else made.rows[made.cut :],
        made.encoding.layers, made.encoding.graph,
    )  # fmt: skip
    seen: list[int] = []
    section = {"_target_": "my_experiment.models.gradient_boosting.gradient_boosting", **MODEL}
    settings = HOW._asdict() | {"iterations": 5}
    history = fit.boosting(section, inputs, manifest, lambda number, row: seen.append(number), **settings).history
    assert seen == list(range(5)) == history.index.tolist()
    with pytest.raises(errors.UserError, match="val_f1 is not a metric of this target"):
        fit.boosting(section, inputs, manifest, **settings | {"monitor": "val_f1"})
