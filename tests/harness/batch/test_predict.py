"""Batch prediction, with small models made here: all items in input order, also after interruptions."""

import hashlib
import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from filelock import FileLock
from my_experiment.harness import batch, inputs, targets
from my_experiment.harness.batch import answers, predict
from my_experiment.harness.core.errors import UserError
from my_experiment.harness.exported import NOT_FINITE
from onnx import helper, numpy_helper
from PIL import Image
from support import HARNESS, elsewhere

INPUTS = [kind for kind in ("images", "tables") if (HARNESS / f"inputs/{kind}.py").exists()]
TARGETS = [kind for kind in ("classification", "regression") if (HARNESS / f"targets/{kind}.py").exists()]
ITEMS = 150


class Case(NamedTuple):
    """One kind of model.

    Attributes:
        input: Kind of input, `images` or `tables`.
        target: Kind of target.
    """

    input: str
    target: str

    @property
    def described(self) -> dict[str, Any]:
        """The keys of models/model.json that choose the code of the model."""
        return {"input": self.input, "target": self.target}


def write_model(case: Case, folder: Path, slope: float = 0.01) -> dict[str, Any]:
    """A linear model of a picture's 2 x 2 pixels, or of a table's number; the category has no effect."""
    target = targets.target(case.described)
    width = 1 if case.target == "regression" else 3
    if case.input == "images":
        values = [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["N", 2, 2, 1])]
        nodes = [helper.make_node("Flatten", ["image"], ["x"])]
        described: dict[str, Any] = {"shape": [2, 2, 1], "max_pixels": 1000}
    else:
        values = [
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
    weights = (slope * np.arange(1, width + 1, dtype=np.float32))[None].repeat(4 if case.input == "images" else 1, 0)
    nodes.append(helper.make_node("MatMul", ["x", "w"], ["y" if width > 1 else target.OUTPUT]))
    if width > 1:
        nodes.append(helper.make_node("Softmax", ["y"], [target.OUTPUT]))
        described["classes"] = ["low", "mid, dle", "high"]
    else:
        described["calibration"] = {"half_widths": {"0.9": 0.5}}
    constants = {"w": weights, "zero": np.float64(0), "axis": np.array([1])}
    used = [
        numpy_helper.from_array(np.asarray(v), k)
        for k, v in constants.items()
        if any(k in node.input for node in nodes)
    ]
    output = [helper.make_tensor_value_info(target.OUTPUT, onnx.TensorProto.FLOAT, ["N", width])]
    graph = helper.make_graph(nodes, "model", values, output, used)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10).SerializeToString()
    described |= {**case.described, "sha256": hashlib.sha256(made).hexdigest()}
    folder.mkdir(exist_ok=True)
    (folder / "model.onnx").write_bytes(made)
    (folder / "model.json").write_text(json.dumps(described))
    return described


def write_items(case: Case, bad: bool = False) -> Path:
    """A folder of pictures in two levels, or a table."""
    if case.input == "images":
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


@pytest.fixture(params=[Case(*case) for case in itertools.product(INPUTS, TARGETS)], ids="-".join)
def case(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    """A folder with a model, which predicts batches of four items, in parts of 64."""
    kind: Case = request.param
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(batch.reader(kind.described), "BATCH_ROWS", 4)
    write_model(kind, Path("models"))
    return kind


def run(*arguments: Path | str) -> Result:
    """Runs the command."""
    return CliRunner().invoke(predict.command, [str(argument) for argument in arguments])


def batches(monkeypatch: pytest.MonkeyPatch, stop_at: int | None = None) -> list[int]:
    """Records the size of each batch that is predicted; Ctrl-C comes at one of them."""
    sizes: list[int] = []

    def answer(items: Any, model: Any, schema: Any) -> Any:
        if len(sizes) == stop_at:
            raise KeyboardInterrupt
        sizes.append(len(items.errors))
        return answers.answer(items, model, schema)

    monkeypatch.setattr(predict, "answer", answer)
    return sizes


def test_items_are_predicted_in_input_order_as_the_service_answers(case: Case) -> None:
    source = write_items(case)
    record = predict.predict(source, Path("out.csv"))
    assert (record["items"], record["failed"]) == (ITEMS, 0)
    output = pd.read_csv("out.csv")
    model = answers.load(Path("models"))
    decoder, target = inputs.decoder(case.described), targets.target(case.described)
    if case.input == "images":
        paths = sorted(path.relative_to("in").as_posix() for path in source.rglob("*.png"))
        assert output["path"].to_list() == paths
        images = [decoder.from_file((source / path).read_bytes(), model.description)["image"] for path in paths]
        feeds = {"image": np.concatenate(images)}
    else:
        assert output["row"].to_list() == [*range(1, ITEMS + 1)]
        assert output["id"].to_list() == [f"k{number}" for number in range(ITEMS)]
        feeds = decoder.from_file(source.read_bytes(), model.description)
    expected = pd.json_normalize(target.answers(model.session.run([target.OUTPUT], feeds)[0], model.description))
    pd.testing.assert_frame_equal(output[expected.columns], expected, rtol=0, atol=1e-6)
    assert set(output["model_version"]) == {model.version} and output["error"].isna().all()
    assert sorted(os.listdir()) == sorted([source.name, "models", "out.csv", "out.csv.json"])


def test_csv_and_parquet_hold_the_same(case: Case) -> None:
    source = write_items(case, bad=True)
    predict.predict(source, Path("out.csv"))
    predict.predict(source, Path("out.parquet"))
    columns = pd.read_parquet("out.parquet")
    pd.testing.assert_frame_equal(pd.read_csv("out.csv"), columns, check_dtype=False)
    if case.input == "tables":
        pd.read_csv("in.csv", on_bad_lines="skip").astype({"a b": str}).to_parquet("in.parquet")
        predict.predict(Path("in.parquet"), Path("again.parquet"))
        again = pd.read_parquet("again.parquet").drop(columns=["row", "error"]).set_index("id").sort_index()
        left = columns.drop(columns=["row", "error"]).dropna(subset="id").set_index("id").sort_index()
        pd.testing.assert_frame_equal(again.loc[again.index != "k17"], left.loc[left.index != "k17"])


def test_a_bad_item_does_not_lose_the_others(case: Case) -> None:
    predict.predict(write_items(case), Path("good.parquet"))
    good = pd.read_parquet("good.parquet")
    record = predict.predict(write_items(case, bad=True), Path("out.parquet"))
    output = pd.read_parquet("out.parquet")
    failed = output[output["error"].notna()]
    assert (record["items"], record["failed"], len(failed)) == (ITEMS, 2, 2)
    if case.input == "images":
        assert failed.set_index("path")["error"].to_dict() == {
            "018.png": "not a readable PNG, JPEG, BMP, GIF or WebP image",
            "deeper/020.png": "No such file or directory",
        }
    else:
        assert failed.set_index("row")["error"].to_dict() == {
            17: "row 17, column 'a b': 'x' is not a finite number",
            18: "row 18 has 2 cells, the header 3",
        }
    untouched = output["error"].isna() & (output.get("row", 0) != 19)  # missing values, in row 19, are no error
    pd.testing.assert_frame_equal(output[untouched], good[untouched])
    assert failed["model_version"].notna().all()


def test_another_executor_gives_the_same_bytes(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the start, and after an interruption."""
    source = write_items(case, bad=True)
    if case.input == "tables":
        from my_experiment.harness.preparation import table_files

        monkeypatch.setattr(table_files, "BLOCK", 400)  # bytes: several parts of the file
    predict.predict(source, Path("out.csv"))
    monkeypatch.setattr(predict, "executor", lambda where: elsewhere)
    predict.predict(source, Path("there.csv"))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        batches(patch, 35)
        predict.predict(source, Path("again.csv"))
    assert Path("again.csv.parts/000000.parquet").exists()
    predict.predict(source, Path("again.csv"))
    assert Path("there.csv").read_bytes() == Path("out.csv").read_bytes() == Path("again.csv").read_bytes()


def test_another_model_elsewhere_is_refused(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node has the project's folder of yesterday."""
    source, node = write_items(case), Path("node").absolute()
    write_model(case, node, slope=0.02)
    answers._loaded_again.cache_clear()
    load = answers.load
    monkeypatch.setattr(answers, "load", lambda folder: load(node))
    monkeypatch.setattr(predict, "executor", lambda where: elsewhere)
    with pytest.raises(UserError, match=r"models holds another model than on the machine that predicts$"):
        predict.predict(source, Path("out.csv"))


@pytest.mark.parametrize("stop_at", [0, 15, 17, 35])
def test_an_interrupted_prediction_continues_after_its_last_part(
    case: Case, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    source = write_items(case, bad=True)
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


def change_input(case: Case, source: Path) -> None:
    """Adds an item at the end."""
    if case.input == "images":
        Image.fromarray(np.full((2, 2), 255, np.uint8)).save(source / "last.png")
    else:
        with source.open("a", encoding="utf-8") as file:
            file.write("9,k,c\n")


CHANGES: dict[str, Callable[[Case, Path], Any]] = {
    "input": change_input,
    "model": lambda case, source: write_model(case, Path("models"), 0.02),
}


@pytest.mark.parametrize("what", CHANGES)
def test_parts_of_another_input_or_model_are_not_used(
    case: Case, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    source = write_items(case)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        batches(patch, 20)
        predict.predict(source, Path("out.csv"))
    CHANGES[what](case, source)
    predict.predict(source, Path("out.csv"))
    assert "starting over" in capsys.readouterr().err
    predict.predict(source, Path("fresh.csv"))
    assert Path("out.csv").read_bytes() == Path("fresh.csv").read_bytes()


def test_a_finished_output_is_predicted_again_only_after_a_change(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    source, sizes, output = write_items(case), batches(monkeypatch), Path("out.csv")
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
        change(case, source)
        assert again() >= ITEMS and output.read_bytes() != first
    assert again() == 0


def test_an_input_that_changes_during_the_prediction_is_refused(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    source, real = write_items(case), predict.write_parts

    def meanwhile(*arguments: Any) -> Any:
        parts = real(*arguments)
        change_input(case, source)
        return parts

    monkeypatch.setattr(predict, "write_parts", meanwhile)
    with pytest.raises(UserError, match="has changed during the prediction"):
        predict.predict(source, Path("out.csv"))
    assert not Path("out.csv").exists()


def test_one_process_writes_an_output(case: Case) -> None:
    source = write_items(case)
    Path("out.csv.parts").mkdir()
    with FileLock("out.csv.parts/lock"), pytest.raises(UserError, match="another process"):
        predict.predict(source, Path("out.csv"))


def test_an_output_that_is_not_finite_is_an_error_of_its_item(case: Case) -> None:
    write_model(case, Path("models"), np.inf)
    record = predict.predict(write_items(case), Path("out.csv"))
    # 0 times infinity is not a number either.
    assert record["failed"] == ITEMS
    assert set(pd.read_csv("out.csv")["error"]) == {NOT_FINITE}


def test_the_command_reports_its_result(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_items(case, bad=True)
    for _ in range(2):  # the second time nothing is predicted, and the same items have failed
        result = run(source, "out.csv")
        assert result.exit_code == predict.FAILED == 3
        assert f"out.csv: {ITEMS - 2} predictions of {ITEMS} by model" in result.stdout
        assert "2 items could not be predicted: see the column `error`" in result.stderr
    batches(monkeypatch, 0)
    with (
        pytest.raises(KeyboardInterrupt, match=r"^run the same command to continue$"),
        predict.command.make_context("predict", [str(source), "other.csv"]) as context,
    ):
        predict.command.invoke(context)


@pytest.mark.skipif("images" not in INPUTS, reason="tables have no folders")
def test_pictures_behind_links_are_predicted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case("images", TARGETS[0])
    monkeypatch.chdir(tmp_path)
    write_model(case, Path("models"))
    source = write_items(case)
    source.rename("elsewhere")
    source.mkdir()
    (source / "deeper").symlink_to(Path("../elsewhere/deeper"))
    (source / "again").symlink_to(Path("../elsewhere/deeper"))
    (source / "one.png").symlink_to(Path("../elsewhere/000.png"))
    assert run(source, "out.csv").exit_code == 0
    paths = [line.split(",")[0].strip('"') for line in Path("out.csv").read_text(encoding="utf-8").splitlines()[1:]]
    below = sorted(path.name for path in Path("elsewhere/deeper").iterdir())
    assert paths == [*(f"again/{name}" for name in below), *(f"deeper/{name}" for name in below), "one.png"]
    (source / "deeper").unlink()
    (source / "again").unlink()
    (source / "up").symlink_to(Path("../in"))
    refused = run(source, "other.csv").exception
    assert isinstance(refused, UserError)
    assert str(refused) == "in/up: the link leads back to a folder that contains it: remove the link"


@pytest.mark.parametrize(
    ("source", "output", "model", "message"),
    [
        ("nowhere", "out.csv", "models", "nowhere: th"),
        (None, "out.txt", "models", "written as .csv or .parquet"),
        (None, "no/out.csv", "models", "no folder no: create it first"),
        (None, "folder.csv", "models", "is a folder"),
        (None, None, "models", "would be part of the input"),
        (None, "out.csv", "none", "there is no none/model.json"),
        (None, "out.csv", "other", "model.onnx differs from model.json"),
        (None, "out.csv", "broken", "does not describe a model"),
        (None, "out.csv", "foreign", "has a model of sounds, for which this project has no code"),
        ("empty", "out.csv", "models", "empty"),
    ],
)
def test_every_mistake_is_one_line(
    case: Case, source: str | None, output: str | None, model: str, message: str
) -> None:
    Path("folder.csv").mkdir()
    described = write_model(case, Path("other"), 0.5) | {"sha256": "0"}
    Path("other/model.json").write_text(json.dumps(described))
    write_model(case, Path("broken"))
    Path("broken/model.json").write_text("{}")
    foreign = write_model(case, Path("foreign")) | {"input": "sounds"}
    Path("foreign/model.json").write_text(json.dumps(foreign))
    good = write_items(case)
    if source == "empty":
        if case.input == "images":
            Path("empty").mkdir()
        else:
            source = "empty.csv"
            Path(source).touch()
    within = good / "out.csv" if case.input == "images" else good
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    result = run(source or good, output or within, "--model", model)
    assert isinstance(result.exception, UserError)
    assert message in str(result.exception) and "\n" not in str(result.exception)
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before


def test_a_decision_changes_labels_and_adds_sets(case: Case) -> None:
    """A set is a text in JSON, "not sure" an empty label, and the finished output is that of another decision."""
    if case.target == "regression":
        return
    source = write_items(case)
    assert run(source, "out.csv").exit_code == 0
    before = pd.read_csv("out.csv")
    described = json.loads(Path("models/model.json").read_text())
    second = np.unique(np.sort(before.filter(like="probabilities.").to_numpy(), axis=1)[:, -2])
    threshold = float(second[len(second) // 2 - 1 :][:2].mean())  # between two rows: some sets have two classes
    decision = {"model": described["sha256"], "coverage": 0.9, "set_threshold": threshold, "abstain": True}
    Path("models/decision.json").write_text(json.dumps(decision))
    for file in ("out.csv", "out.parquet"):
        assert run(source, file).exit_code == 0
        after = pd.read_csv(file) if file == "out.csv" else pd.read_parquet(file)
        probabilities = after[[name for name in after if name.startswith("probabilities.")]]
        assert (probabilities.to_numpy() == before[probabilities.columns].to_numpy()).all()
        sets = [json.loads(text) for text in after["set"]]
        assert [len(found) for found in sets] == np.maximum((probabilities >= threshold).sum(axis=1), 1).tolist()
        unsure = np.array([len(found) > 1 for found in sets])
        assert unsure.any() and not unsure.all()
        assert (after["label"].isna() == unsure).all()
        assert (after["label"] == before["label"])[~unsure].all()
