"""The report about production: planted drift and wrong labels are found, in the numbers that the service counts."""

import gzip
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
from click.testing import CliRunner
from graphs_made import save
from my_experiment.harness.capture.answered import Answered, new_id
from my_experiment.harness.core.errors import UserError
from my_experiment.harness.drift import evidence, reference
from my_experiment.harness.evaluation.html import page
from my_experiment.harness.feedback import production, production_counts, reading
from onnx import helper, numpy_helper
from production import Service

NUMBERS = ("size", "age", "height")
DESCRIPTION: dict[str, Any] = {
    "input": "tables",
    "target": "classification",
    "target_name": "y",
    "sha256": "0123456789abcdef",
    "classes": ["no", "yes"],
    "columns": [
        *({"name": name, "type": "number"} for name in NUMBERS),
        {"name": "town", "type": "category"},
        {"name": "since", "type": "date"},
    ],
    "notation": {"nulls": ["NA"]},
}
START, WEEK = 1796000000, 7 * 86_400  # a Monday


def feeds(random: np.random.Generator, rows: int, shift: float = 0.0) -> dict[str, Any]:
    found: dict[str, Any] = {name: random.normal(size=rows) for name in NUMBERS}
    found["size"] += shift
    found["town"] = random.choice(np.array(["Ulm", "Bad Ems", ""], object), rows)
    found["since"] = random.uniform(18_000, 20_000, rows).round()
    return found


def outputs(found: dict[str, Any]) -> np.ndarray[Any, Any]:
    yes = 1 / (1 + np.exp(-2 * (found["size"] + found["age"] / 2)))
    return np.stack([1 - yes, yes], 1).astype(np.float32)


@pytest.fixture(scope="module")
def bins() -> reference.Reference:
    random = np.random.default_rng(0)
    test = outputs(feeds(random, 1000))
    targets = (random.random(1000) < test[:, 1]).astype(np.int64)
    columns = {column["name"]: column["type"] for column in DESCRIPTION["columns"]}
    return reference.Reference(
        reference.build(DESCRIPTION, [feeds(random, 2000)], (test, targets), columns), DESCRIPTION
    )


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[dict[str, Any], Any]]]:
    """Segments of three weeks, of which the last one drifts; one of three contributors labels by chance."""
    folder, random = tmp_path_factory.mktemp("segments"), np.random.default_rng(1)
    service, kept = Service(folder, DESCRIPTION), []
    for week in range(3):
        for number in range(30):
            found = feeds(random, 20, shift=week == 2)
            told = outputs(found)
            kept.append((found, told))
            item = Answered(START + week * WEEK + number, new_id(), "text/csv", b"", found, told, b"")
            service.log.take([item], 0)
            for place in range(0, 20, 2):
                actual = random.random() < (0.5 if number % 3 == 2 else told[place, 1])
                service.label(item.id, DESCRIPTION["classes"][int(actual)], "abc"[number % 3], place)
    service.close()
    return folder, kept


def test_counts_are_those_of_the_service(bins: reference.Reference, asked: Any) -> None:
    folder, kept = asked
    found = production_counts.of_segments(reading.open_segments(folder, {}), bins, DESCRIPTION)
    assert found.rows == {"2026-11-30": 600, "2026-12-07": 600, "2026-12-14": 600}
    joined = {name: np.concatenate([each[name] for each, _ in kept]) for name in kept[0][0]}
    expected = bins.count(joined, np.concatenate([told for _, told in kept]))
    for name, counts in expected.items():
        np.testing.assert_array_equal(found.total(name, found.weeks), counts)
    assert sum(total for _, total in found.contributors.values()) == 900


def test_the_report_names_what_drifts_and_who_disagrees(
    bins: reference.Reference, asked: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = production_counts.of_segments(reading.open_segments(asked[0], {}), bins, DESCRIPTION)
    report = production.sections(found, bins, "0123456789ab", 0.1)
    rows = dict(re.findall(r"^\| ([\w ]+) \| -?[\d.]+ \| [\d.]+ \| (\d) of 3 \|$", report, re.M))
    assert rows["size"] == "1" and {rows[name] for name in ("age", "height", "town", "since")} == {"0"}
    agree = {name: float(share) for name, share in re.findall(r"^\| ([abc]) \| 300 \| ([\d.]+) ", report, re.M)}
    assert agree["c"] < 0.6 < min(agree["a"], agree["b"])
    html = page(report, tmp_path / "build", "Production")
    assert html.count("data:image/png;base64,") == 4 and "<title>Production</title>" in html


def test_private_columns_are_not_watched(
    bins: reference.Reference, asked: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    segments = reading.open_segments(asked[0], {})
    report = production.sections(production_counts.of_segments(segments, bins, DESCRIPTION, ["town"]), bins, "0", 0.1)
    assert "Private columns are not kept, and not watched here: town.\n" in report
    assert "| size | " in report and "| town | " not in report


def test_a_client_in_a_loop_counts_once(bins: reference.Reference, tmp_path: Path) -> None:
    service, same = Service(tmp_path, DESCRIPTION), feeds(np.random.default_rng(2), 1)
    for _ in range(50):
        service.log.take([Answered(START, new_id(), "text/csv", b"", same, outputs(same), b"")], 0)
    service.close()
    found = production_counts.of_segments(reading.open_segments(tmp_path, {}), bins, DESCRIPTION)
    assert found.rows.total() == 50 and found.total(("input", "size"), found.weeks).sum() == 1


def test_labels_are_judged_although_the_test_split_is_too_small_for_an_estimate(
    asked: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    random, few = np.random.default_rng(0), (np.empty((0, 2), np.float32), np.empty(0))
    content = reference.build(DESCRIPTION, [feeds(random, 500)], few, {"size": "number"})
    bins = reference.Reference(content, DESCRIPTION)
    found = production_counts.of_segments(reading.open_segments(asked[0], {}), bins, DESCRIPTION)
    assert re.search(r"^\| 2026-12-14 \| - \| 0\.\d{3} .* \| 300 \|$", production.sections(found, bins, "0", 0.1), re.M)


@pytest.mark.parametrize(
    "line",
    [
        b"[]",
        b"3",
        b'{"a": 1}',
        b'{"time": 1, "id": "x", "request": {}, "answer": {}}',
        b'{"time": 1, "id": "x", "request": {"instances": [{}]}, "answer": {"model_version": "1"}}',
        b'{"time": 1e300, "contributor": "x", "feedback": []}',
        b'{"time": 1, "contributor": "x", "feedback": [{"id": "a"}]}',
        b'{"time": 1, "contributor": "x", "feedback": [{"id": [], "index": 0, "actual": "a"}]}',
        b'{"time": 1, "contributor": [], "feedback": []}',
        b'{"time": 1, "id": {}, "request": {"instances": [{}]}, "answer": {"model_version": "1", "predictions": [{}]}}',
        b"",
    ],
)
def test_a_line_that_no_service_has_written_is_one_line(tmp_path: Path, line: bytes) -> None:
    file = tmp_path / "a.jsonl.gz"
    file.write_bytes(gzip.compress(line + b"\n") if line else b"")  # empty: a copy that was cut at its beginning
    expected = "no line of the service's log" if line else "is damaged: it is empty"
    with pytest.raises(UserError, match=expected) as told:
        reading.open_segments(tmp_path, {}).labels()
    assert str(told.value).startswith(str(file)) and "\n" not in str(told.value)


def test_intervals() -> None:
    share, low, high = production.wilson(90, 100)
    assert (share, round(low, 3), round(high, 3)) == (0.9, 0.826, 0.945)
    assert all(np.isnan(production.wilson(0, 0)))
    assert production.wilson(5, 5)[2] == pytest.approx(1.0)


def test_the_estimate_is_the_one_of_prometheus(bins: reference.Reference) -> None:
    (confidence,) = (each for each in bins.variables if each.kind == "confidence")
    assert confidence.right is not None
    rows = np.arange(len(confidence.rows)) + 5
    value, low, high = production.estimate(confidence, rows)
    assert value == evidence.estimated_quality(confidence.rows, confidence.right, rows)
    assert 0 < value - low == pytest.approx(high - value) and high - low < 0.1


def test_rows_of_another_model_are_told_apart(bins: reference.Reference, asked: Any) -> None:
    other = DESCRIPTION | {"sha256": "f" * 64}
    found = production_counts.of_segments(reading.open_segments(asked[0], {}), bins, other)
    assert not found.rows and found.others == {"0123456789ab": 1800}


def save_model() -> dict[str, Any]:
    """Writes a model that answers as `outputs` does; gives its description, without dates."""
    columns = [column for column in DESCRIPTION["columns"] if column["type"] != "date"]
    nodes = [
        helper.make_node("Mul", ["size", "two"], ["double"]),
        helper.make_node("Add", ["double", "age"], ["sum"]),
        helper.make_node("Cast", ["sum"], ["single"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["single", "axis"], ["column"]),
        helper.make_node("MatMul", ["column", "weights"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"]),
    ]
    types = {"number": onnx.TensorProto.DOUBLE, "category": onnx.TensorProto.STRING}
    inputs = [helper.make_tensor_value_info(column["name"], types[column["type"]], ["N"]) for column in columns]
    constants = {"two": np.float64(2), "axis": np.array([1]), "weights": np.array([[0, 1]], np.float32)}
    result = helper.make_tensor_value_info("probabilities", onnx.TensorProto.FLOAT, ["N", 2])
    fixed = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    description = DESCRIPTION | {"columns": columns}
    description["sha256"] = save(helper.make_graph(nodes, "model", inputs, [result], fixed))
    Path("models/model.json").write_text(json.dumps(description), encoding="utf-8")
    return description


@pytest.mark.usefixtures("workspace")
def test_a_batch_is_watched_without_a_service() -> None:
    description, random = save_model(), np.random.default_rng(0)
    columns = {column["name"]: column["type"] for column in description["columns"]}
    test = outputs(feeds(random, 1000))
    content = reference.build(description, [feeds(random, 2000)], (test, test[:, 1].round().astype(np.int64)), columns)
    Path("models/reference.json").write_text(json.dumps(content), encoding="utf-8")
    pd.DataFrame({name: feeds(random, 600, shift=1)[name] for name in columns}).to_csv("rows.csv", index=False)
    done = CliRunner().invoke(production.command, ["rows.csv"], catch_exceptions=False)
    assert done.output == "Wrote build/production.md and build/production.html\n"
    report = Path("build/production.md").read_text(encoding="utf-8")
    assert "| all rows | 600 |" in report and "Private" not in report
    assert re.findall(r"^\| (\w+) \| .* \| 1 of 1 \|$", report, re.M) == ["size"]
    Path("kept").mkdir()
    error = CliRunner().invoke(production.command, ["kept"]).exception
    assert isinstance(error, UserError) and str(error).startswith("kept has no segments: a service writes one when")
    conf = Path("conf/monitoring.yaml")
    conf.write_text(conf.read_text(encoding="utf-8").replace("psi: 0.1 ", "psi: 5 "), encoding="utf-8")
    CliRunner().invoke(production.command, ["rows.csv"], catch_exceptions=False)
    report = Path("build/production.md").read_text(encoding="utf-8")
    assert "a PSI above 5." in report and "1 of 1 |" not in report
