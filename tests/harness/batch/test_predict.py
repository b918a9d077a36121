"""Batch prediction: every item in its order, whatever happens on the way; on a small model made here."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
import numpy as np
import onnx
import pandas as pd
import pytest
from filelock import FileLock
from onnx import helper, numpy_helper
from PIL import Image
from support import PACKAGE, ROOT
from my_experiment.harness.batch import predict
from my_experiment.harness.core import errors

(INPUT,) = (file.stem for file in ROOT.glob(f"src/{PACKAGE}/inputs/[!_]*.py"))
(TARGET,) = {file.stem for file in ROOT.glob(f"src/{PACKAGE}/targets/*.py")} & {"classification", "regression"}
target = module(f"targets.{TARGET}")
ITEMS = 150


def write_model(folder: Path, slope: float = 0.01) -> dict[str, Any]:
    """A linear model of a picture's 2 x 2 pixels, or of a table's number; the category counts for nothing."""
    width = 1 if TARGET == "regression" else 3
    if INPUT == "images":
        inputs = [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["N", 2, 2, 1])]
        nodes = [helper.make_node("Flatten", ["image"], ["x"])]
        described: dict[str, Any] = {"shape": [2, 2, 1], "max_pixels": 1000}
    else:
        inputs = [
            helper.make_tensor_value_info("a b", onnx.TensorProto.DOUBLE, ["N"]),
            helper.make_tensor_value_info("c", onnx.TensorProto.STRING, ["N"]),
        ]
        nodes = [
            helper.make_node("IsNaN", ["a b"], ["missing"]),
            helper.make_node("Where", ["missing", "zero", "a b"], ["filled"]),
            helper.make_node("Cast", ["filled"], ["single"], to=onnx.TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["single", "axis"], ["x"]),
        ]
        described = {"columns": [{"name": "a b", "type": "number"}, {"name": "c", "type": "category"}], "id": "key"}
    weights = (slope * np.arange(1, width + 1, dtype=np.float32))[None].repeat(4 if INPUT == "images" else 1, 0)
    nodes.append(helper.make_node("MatMul", ["x", "w"], ["y" if width > 1 else target.OUTPUT]))
    if width > 1:
        nodes.append(helper.make_node("Softmax", ["y"], [target.OUTPUT]))
        described["classes"] = ["low", "mid, dle", "high"]
    else:
        described["calibration"] = {"half_widths": {str(target.LEVEL): 0.5}}
    constants = {"w": weights, "zero": np.float64(0), "axis": np.array([1])}
    used = [numpy_helper.from_array(v, k) for k, v in constants.items() if any(k in node.input for node in nodes)]
    output = [helper.make_tensor_value_info(target.OUTPUT, onnx.TensorProto.FLOAT, ["N", width])]
    graph = helper.make_graph(nodes, "model", inputs, output, used)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10).SerializeToString()
    described |= {"input": INPUT, "target": TARGET, "sha256": hashlib.sha256(made).hexdigest()}
    folder.mkdir(exist_ok=True)
    (folder / "model.onnx").write_bytes(made)
    (folder / "model.json").write_text(json.dumps(described))
    return described


def write_items(bad: bool = False) -> Path:
    """A folder of pictures in two levels, or a table."""
    if INPUT == "images":
        for number in range(ITEMS):
            path = Path("in", "deeper" if number % 3 else "", f"{number:03}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((2, 2), number, np.uint8)).save(path)
        Path("in/.hidden").touch()
        if bad:
            Path("in/018.png").write_bytes(b"no picture")
            Path("in/deeper/020.png").unlink()
            Path("in/deeper/020.png").symlink_to("nowhere")
        return Path("in")
    rows = [f"{number / 8},k{number},é" for number in range(ITEMS)]
    if bad:
        rows[16], rows[17], rows[18] = "x,k16,é", "1,k17", ",k18,"
    Path("in.csv").write_text("\n".join(["a b,key,c", *rows, ""]), encoding="utf-8")
    return Path("in.csv")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with a model and items, that are predicted four at a time, in parts of 64."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module(f"data.{INPUT}"), "ASKED", 4)
    write_model(Path("models"))


def batches(monkeypatch: pytest.MonkeyPatch, stop_at: int | None = None) -> list[int]:
    """Notes the size of each batch that is predicted; Ctrl-C comes at one of them."""
    sizes: list[int] = []
    real = predict.answer

    def answer(asked: Any, model: Any, schema: Any) -> Any:
        if len(sizes) == stop_at:
            raise KeyboardInterrupt
        sizes.append(len(asked.errors))
        return real(asked, model, schema)

    monkeypatch.setattr(predict, "answer", answer)
    return sizes


def test_every_item_is_answered_in_its_order_as_the_service_would() -> None:
    from my_experiment.harness.inputs import images as inputs_images
    from my_experiment.harness.inputs import tables as inputs_tables

    source = write_items()
    done = predict.predict(source, Path("out.csv"))
    assert (done["items"], done["failed"]) == (ITEMS, 0)
    found = pd.read_csv("out.csv")
    model = predict.load(Path("models"))
    if INPUT == "images":
        paths = sorted(path.relative_to("in").as_posix() for path in source.rglob("*.png"))
        assert found["path"].to_list() == paths
        feeds = [inputs_images.from_file((source / path).read_bytes(), model.description) for path in paths]
        asked = {"image": np.concatenate([feed["image"] for feed in feeds])}
    else:
        assert found["row"].to_list() == [*range(1, ITEMS + 1)]
        assert found["id"].to_list() == [f"k{number}" for number in range(ITEMS)]
        asked = inputs_tables.from_file(source.read_bytes(), model.description)
    said = target.answers(model.session.run([target.OUTPUT], asked)[0], model.description)
    expected = pd.json_normalize(said)
    pd.testing.assert_frame_equal(found[expected.columns], expected, rtol=0, atol=1e-6)
    assert set(found["model_version"]) == {model.version} and found["error"].isna().all()
    assert sorted(os.listdir()) == sorted([source.name, "models", "out.csv", "out.csv.json"])


def test_csv_and_parquet_hold_the_same() -> None:
    source = write_items(bad=True)
    predict.predict(source, Path("out.csv"))
    predict.predict(source, Path("out.parquet"))
    columns = pd.read_parquet("out.parquet")
    pd.testing.assert_frame_equal(pd.read_csv("out.csv"), columns, check_dtype=False)
    if INPUT == "tables":
        pd.read_csv("in.csv", on_bad_lines="skip").astype({"a b": str}).to_parquet("in.parquet")
        predict.predict(Path("in.parquet"), Path("again.parquet"))
        again = pd.read_parquet("again.parquet").drop(columns=["row", "error"]).set_index("id").sort_index()
        left = columns.drop(columns=["row", "error"]).dropna(subset="id").set_index("id").sort_index()
        pd.testing.assert_frame_equal(again.loc[again.index != "k17"], left.loc[left.index != "k17"])


def test_a_bad_item_does_not_lose_the_others() -> None:
    predict.predict(write_items(), Path("good.parquet"))
    good = pd.read_parquet("good.parquet")
    done = predict.predict(write_items(bad=True), Path("out.parquet"))
    found = pd.read_parquet("out.parquet")
    failed = found[found["error"].notna()]
    assert (done["items"], done["failed"], len(failed)) == (ITEMS, 2, 2)
    if INPUT == "images":
        assert failed.set_index("path")["error"].to_dict() == {
            "018.png": "not a readable PNG, JPEG, BMP, GIF or WebP image",
            "deeper/020.png": "No such file or directory",
        }
    else:
        assert failed.set_index("row")["error"].to_dict() == {
            17: "row 17, column 'a b': 'x' is not a finite number",
            18: "row 18 has 2 cells, the header 3",
        }
    untouched = found["error"].isna() & (found.get("row", 0) != 19)  # row 19 lacks its values, which is no error
    pd.testing.assert_frame_equal(found[untouched], good[untouched])
    assert failed["model_version"].notna().all()


@pytest.mark.parametrize("stop_at", [0, 15, 17, 35])
def test_what_was_stopped_goes_on_after_its_last_part(monkeypatch: pytest.MonkeyPatch, stop_at: int) -> None:
    source = write_items(bad=True)
    predict.predict(source, Path("whole.csv"))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        batches(patch, stop_at)
        predict.predict(source, Path("out.csv"))
    assert not Path("out.csv").exists()
    sizes = batches(monkeypatch)
    predict.predict(source, Path("out.csv"))
    assert sum(sizes) == ITEMS - 64 * (4 * stop_at // 64)
    assert Path("out.csv").read_bytes() == Path("whole.csv").read_bytes()
    assert not Path("out.csv.parts").exists()


def change_input(source: Path) -> None:
    """Another last item."""
    if INPUT == "images":
        Image.fromarray(np.full((2, 2), 255, np.uint8)).save(source / "last.png")
    else:
        with source.open("a", encoding="utf-8") as file:
            file.write("9,k,c\n")


CHANGES: dict[str, Callable[[Path], Any]] = {
    "input": change_input,
    "model": lambda source: write_model(Path("models"), 0.02),
}


@pytest.mark.parametrize("what", CHANGES)
def test_parts_of_something_else_are_not_taken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    source = write_items()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        batches(patch, 20)
        predict.predict(source, Path("out.csv"))
    CHANGES[what](source)
    predict.predict(source, Path("out.csv"))
    assert "from the start" in capsys.readouterr().err
    predict.predict(source, Path("fresh.csv"))
    assert Path("out.csv").read_bytes() == Path("fresh.csv").read_bytes()


def test_a_finished_output_is_predicted_again_only_where_something_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    source, sizes, output = write_items(), batches(monkeypatch), Path("out.csv")
    predict.predict(source, output)
    first = output.read_bytes()

    def again() -> int:
        sizes.clear()
        predict.predict(source, output)
        return sum(sizes)

    assert again() == 0 and output.read_bytes() == first
    output.write_bytes(first[:-1])  # somebody edited it
    assert again() == ITEMS and output.read_bytes() == first
    for change in CHANGES.values():
        change(source)
        assert again() >= ITEMS and output.read_bytes() != first
    assert again() == 0


def test_an_input_that_changes_while_it_is_read_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    source, real = write_items(), predict.write_parts

    def meanwhile(*arguments: Any) -> Any:
        found = real(*arguments)
        change_input(source)
        return found

    monkeypatch.setattr(predict, "write_parts", meanwhile)
    with pytest.raises(errors.UserError, match="has changed while it was read"):
        predict.predict(source, Path("out.csv"))
    assert not Path("out.csv").exists()


def test_one_process_writes_an_output() -> None:
    source = write_items()
    Path("out.csv.parts").mkdir()
    with FileLock("out.csv.parts/lock"), pytest.raises(errors.UserError, match="another process"):
        predict.predict(source, Path("out.csv"))


def test_an_answer_that_is_no_number_is_an_error_of_its_item() -> None:
    write_model(Path("models"), np.inf)
    done = predict.predict(write_items(), Path("out.csv"))
    # 0 times infinity is no number either.
    assert done["failed"] == ITEMS
    assert set(pd.read_csv("out.csv")["error"]) == {"the model's answer is no finite number: a value is too extreme"}


def test_the_command_says_what_it_did(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_items(bad=True)
    monkeypatch.setattr("sys.argv", ["predict", str(source), "out.csv"])
    for _ in range(2):  # nothing is predicted the second time, and its items are as bad
        with pytest.raises(SystemExit) as ended:
            predict.start()
        assert ended.value.code == 3
        told = capsys.readouterr()
        assert f"out.csv: {ITEMS - 2} predictions of {ITEMS} by model" in told.out
        assert "2 could not be made: the column `error` says why" in told.err
    batches(monkeypatch, 0)
    monkeypatch.setattr("sys.argv", ["predict", str(source), "other.csv"])
    with pytest.raises(SystemExit) as ended:
        predict.start()
    assert ended.value.code == 130 and "the same command goes on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("source", "output", "model", "told"),
    [
        ("nowhere", "out.csv", "models", "nowhere: th"),
        (None, "out.txt", "models", "written as .csv or .parquet"),
        (None, "no/out.csv", "models", "no folder no: make it first"),
        (None, "folder.csv", "models", "is a folder"),
        (None, None, "models", "would change the input"),
        (None, "out.csv", "none", "there is no none/model.json"),
        (None, "out.csv", "other", "model.onnx differs from model.json"),
        (None, "out.csv", "broken", "does not describe a model"),
        (None, "out.csv", "foreign", "is a model of sounds, for which this project has no code"),
        ("empty", "out.csv", "models", "empty"),
    ],
)
def test_every_mistake_is_one_line(
    source: str | None, output: str | None, model: str, told: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    Path("folder.csv").mkdir()
    described = write_model(Path("other"), 0.5) | {"sha256": "0"}
    Path("other/model.json").write_text(json.dumps(described))
    write_model(Path("broken"))
    Path("broken/model.json").write_text("{}")
    foreign = write_model(Path("foreign")) | {"input": "sounds"}
    Path("foreign/model.json").write_text(json.dumps(foreign))
    good = write_items()
    if source == "empty":
        if INPUT == "images":
            Path("empty").mkdir()
        else:
            source = "empty.csv"
            Path(source).touch()
    within = good / "out.csv" if INPUT == "images" else good
    monkeypatch.setattr("sys.argv", ["predict", source or str(good), output or str(within), "--model", model])
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    with pytest.raises(SystemExit) as ended:
        predict.start()
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and told in line
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before
