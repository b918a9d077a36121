"""Projects of tables, run for real: every model bit for bit, and a table of one's own from a file to an HTTP answer."""

import csv
import io
import json
import re
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from browser import browser as browser
from browser import opened, shares
from conftest import (
    ROOT,
    VENV,
    BakedProject,
    Copy,
    digests,
    edit,
    execute,
    free_port,
    need_curl,
    package_python,
    packed_files,
    quiet,
    said,
    stages_run,
    wait_until_ready,
)
from playwright.sync_api import Browser, expect
from sklearn.datasets import load_wine
from test_page import served
from test_readme import blocks, serve, stop

pytestmark = pytest.mark.pipeline

TASKS = ("tabular-classification", "tabular-regression")
EVERYTHING = ["config", "prepare", "train", "explain", "robustness", "evaluate"]
TABLE = "data/raw/table.csv"
ENV = {"PYTHONPATH": "src"}
JSON = {"content-type": "application/json"}
TOLERANCE = 1e-6

Reproduce = Callable[[str], BakedProject]


@pytest.fixture(scope="session")
def reproduced(bake: Callable[..., BakedProject]) -> Reproduce:
    """Gives a project of a task as it is generated, after `dvc repro` and a commit. Do not change it: `copy` it."""

    @cache
    def reproduce(task: str) -> BakedProject:
        project = bake(task=task)
        quiet(project.run("dvc", "repro"))
        project.commit("Reproduce")
        return project

    return reproduce


def test_every_model_reproduces_bit_for_bit(reproduced: Reproduce, copy: Copy) -> None:
    """For regression: but for the target the code is the same, and generated tests train each model of both twice."""
    project = copy(reproduced("tabular-regression"))
    assert stages_run(project.run("dvc", "repro").stdout) == []
    before = digests(project)
    forced = project.run("dvc", "repro", "--force", env={"PYTHONHASHSEED": "4711"})
    quiet(forced)
    assert stages_run(forced.stdout) == EVERYTHING
    assert project.git_status() == ""
    assert digests(project) == before

    others = ("-S", "explain=none", "-S", "robustness=default")
    done = project.run("dvc", "exp", "run", "-S", "model=linear_regression", *others)
    assert stages_run(done.stdout) == ["config", "train", "explain", "robustness", "evaluate"]
    params = project.read("params.yaml")
    assert (
        "train:\n  _target_: my_experiment.harness.training.fit.solver\nmodel:" in params
    )  # and no key that nobody reads
    assert "precision: float64" in params
    project.commit("Linear")
    before = digests(project)
    quiet(project.run("dvc", "repro", "--force", "--downstream", "train", env={"PYTHONHASHSEED": "1"}))
    assert project.git_status() == ""
    assert digests(project) == before


def test_the_generated_tests_pass(reproduced: Reproduce, copy: Copy) -> None:
    for task in TASKS:
        project = copy(reproduced(task))
        done = project.run(sys.executable, "-m", "pytest", "-q")
        assert "skipped" not in done.stdout.splitlines()[-1]
        assert project.git_status() == ""


def test_ways_of_fitting_that_do_not_fit_are_refused(reproduced: Reproduce, copy: Copy) -> None:
    project = copy(reproduced("tabular-regression"))
    for overrides, message in (
        (["model=linear_regression", "train.epochs=5"], "train.epochs"),  # Hydra's own message
        (["model=linear_regression", "+train.epochs=5"], "train.epochs: these settings apply to gradient descent only"),
        (
            ["model=linear_regression", "train=default"],
            "is not fitted by gradient_descent: choose train: solver in conf/config.yaml",
        ),
        (["model=mlp", "train=solver"], "is not fitted by solver: choose train: default in conf/config.yaml"),
    ):
        refused = project.run("dvc", "exp", "run", *(f"-S{override}" for override in overrides), check=False)
        assert refused.returncode != 0
        assert message in refused.stderr
        assert "Traceback" not in refused.stdout + refused.stderr


def test_the_benchmark_of_models_runs(reproduced: Reproduce, copy: Copy) -> None:
    compare = runpy.run_path(str(ROOT / "benchmarks/boosting.py"))["compare"]
    rows = list(compare(copy(reproduced("tabular-classification")).path, "wine", 1))
    assert [row["model"] for row in rows] == ["mlp", "gradient_boosting", "logistic_regression"]
    assert all(0 < row["score"] < 0.7 for row in rows)  # the classes' own entropy is 1.1


@dataclass(frozen=True)
class Tutorial:
    """What the tutorial has led to.

    Attributes:
        project: Committed. Do not change it: `copy` it.
        client: Of the service that `make serve` runs.
        answer: What the last command printed.
    """

    project: BakedProject
    client: httpx.Client
    answer: Any


def write_wine(path: Path) -> None:
    """Exports scikit-learn's wine with categories (one of numbers, one that must be quoted) and gaps in both kinds."""
    random = np.random.default_rng(0)
    wine = load_wine(as_frame=True)
    table = wine.frame.rename(columns={"target": "cultivar"})
    table["cultivar"] = wine.target_names[wine.target]
    table["colour, seen"] = np.digitize(table["color_intensity"], [3, 6]).astype(object)
    table["colour, seen"] = table["colour, seen"].map({0: "pale", 1: 'ruby "red"', 2: "nearly\nblack"})
    table["vineyard"] = random.integers(1, 5, len(table))
    table.loc[random.random(len(table)) < 0.1, "malic_acid"] = np.nan
    table.loc[random.random(len(table)) < 0.1, "colour, seen"] = None
    table.sample(frac=1, random_state=0).to_csv(path, index=False)


@pytest.mark.parametrize("task", ["tabular-classification", "tabular-regression"])
def test_the_notebook_runs_and_changes_nothing(reproduced: Reproduce, task: str) -> None:
    """In its own folder, as editors run it; that of pictures is run by test_docs.py."""
    project = reproduced(task)
    before = digests(project)
    env = {"PYTHONPATH": str(project.path / "src"), "MPLBACKEND": "Agg", "PWD": str(project.path / "notebooks")}
    done = execute(sys.executable, "tables.py", cwd=project.path / "notebooks", env=env)
    assert re.search(r"^MLflow run: [0-9a-f]{32}$", done.stdout, re.M) and "'val_loss': " in done.stdout
    assert (digests(project), project.git_status()) == (before, "")


@pytest.fixture(scope="session")
def tutorial(bake: Callable[..., BakedProject], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tutorial]:
    """Follows "Your own table" of the generated pages, as it stands there, from the generation to the prediction."""
    project = bake(task="tabular-classification")
    home, port = tmp_path_factory.mktemp("user"), free_port()
    write_wine(home / "table.csv")
    (section,) = re.findall(r"^## Your own table\n(.*?)^## ", project.read("docs/tables.md"), re.M | re.S)
    first, second = blocks(section)
    (upload,) = (block for block in blocks(project.read("docs/requests-tables.md")) if "--form" in block[0])
    # `cookiecutter`, `make setup` (test_demo runs it) and `source` come before; the environment is linked here.
    assert 3 + len(first) + len(second) + 1 + len(upload) < 10

    need_curl()

    def run(command: str) -> str:
        # HOME for `~` alone: what else is there, caches for instance, is slow to make.
        env = ENV | ({"HOME": str(home)} if "~" in command else {})
        done = project.run("bash", "-c", command.replace(":3000", f":{port}"), env=env)
        if not command.startswith("curl"):
            quiet(done)
        return done.stdout

    for command in first:
        run(command)
    # The text between the two blocks.
    edit(project, "conf/data/csv.yaml", "target: ???", "target: cultivar")
    edit(project, "conf/data/csv.yaml", "categories: []", "categories: [vineyard]")
    edit(project, "conf/config.yaml", "- data: breast_cancer", "- data: csv")
    for command in second:
        run(command)
    with serve(project, "make serve", port) as server:
        wait_until_ready(f"http://127.0.0.1:{port}/readyz", server)
        (answer,) = map(run, upload)
        project.commit("Wine")
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            yield Tutorial(project, client, json.loads(answer))
        assert "Traceback" not in stop(server)


def raw_rows(project: BakedProject) -> list[dict[str, Any]]:
    """Reads the table as somebody who sends JSON would: numbers, texts, and null for an empty cell."""
    types = {column["name"]: column["type"] for column in json.loads(project.read("models/model.json"))["columns"]}
    with (project.path / TABLE).open(newline="", encoding="utf-8") as file:
        return [
            {
                name: None if not cell else float(cell) if types[name] == "number" else cell
                for name, cell in row.items()
                if name in types
            }
            for row in csv.DictReader(file)
        ]


def pipeline(project: BakedProject) -> dict[int, list[float]]:
    """Row of the table, from 0 -> what the pipeline predicts for it, of all splits."""
    code = """
import json
from pathlib import Path
from my_experiment.harness import prepared
from my_experiment.harness.exported import inference
from my_experiment.harness.prepared import tables
found = {}
for split in prepared.SPLITS:
    answers = inference.predict(Path("models/model.onnx"), tables.feeds(split)).tolist()
    found.update(zip((int(name.rpartition(":")[2]) - 1 for name in tables.names(split)), answers))
print(json.dumps(found))
"""
    return {int(row): answer for row, answer in json.loads(package_python(project, code)).items()}


def probabilities(answer: dict[str, Any]) -> np.ndarray:
    return np.array([list(prediction["probabilities"].values()) for prediction in answer["predictions"]])


def test_raw_rows_are_answered_as_the_pipeline_predicts(tutorial: Tutorial) -> None:
    project, client = tutorial.project, tutorial.client
    expected = pipeline(project)
    assert sorted(expected) == list(range(178))
    model = json.loads(project.read("models/model.json"))
    assert model["classes"] == ["class_0", "class_1", "class_2"]
    assert {"name": "vineyard", "type": "category"} in model["columns"]
    assert tutorial.answer["model_version"] == model["sha256"][:12]
    wanted = np.array([expected[row] for row in range(178)])
    # The last command of the tutorial has sent the very file that the model was trained with.
    np.testing.assert_allclose(probabilities(tutorial.answer), wanted, rtol=0, atol=TOLERANCE)
    sent = client.post("/predict", json={"instances": raw_rows(project)})
    assert sent.status_code == 200, sent.text
    np.testing.assert_allclose(probabilities(sent.json()), wanted, rtol=0, atol=TOLERANCE)
    for prediction in sent.json()["predictions"]:
        assert prediction["label"] == max(prediction["probabilities"], key=prediction["probabilities"].get)
    assert json.loads(project.read("reports/metrics.json"))["accuracy"] > 0.9


def test_the_logged_model_predicts_what_the_pipeline_predicts(tutorial: Tutorial, reproduced: Reproduce) -> None:
    code = """
import mlflow, numpy as np
from pathlib import Path
from my_experiment.harness.exported import inference
from my_experiment.harness.prepared import tables
from my_experiment.harness.tracking import lockfile, runs
run = runs.find(training_key=lockfile.training(lockfile.read_lock()).key)
loaded = mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/model")
assert loaded.metadata.saved_input_example_info
feeds = list(tables.feeds("test"))
rows = {name: np.concatenate([feed[name] for feed in feeds]) for name in feeds[0]}
assert loaded.metadata.signature.inputs.input_names() == list(rows)
rows = {name: values.astype(str) if values.dtype == object else values for name, values in rows.items()}
(served,) = loaded.predict(rows).values()
print(float(np.abs(served - inference.predict(Path("models/model.onnx"), feeds)).max()))
"""
    for project in (tutorial.project, reproduced("tabular-regression")):
        assert float(package_python(project, code).splitlines()[-1]) < TOLERANCE


def replace_cell(project: BakedProject, row: int, column: str, value: str) -> None:
    """Changes one cell of the table as a user would; rows count from 1 below the header."""
    path = project.path / TABLE
    with path.open(newline="", encoding="utf-8") as file:
        cells = list(csv.reader(file))
    cells[row][cells[0].index(column)] = value
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(cells)
    path.write_text(text.getvalue(), encoding="utf-8")


def test_what_a_bad_and_a_changed_cell_do(tutorial: Tutorial, copy: Copy) -> None:
    project = copy(tutorial.project)
    replace_cell(project, 17, "alcohol", "-999")
    replace_cell(project, 18, "magnesium", "ninety")
    replace_cell(project, 18, "colour, seen", "purple")
    replace_cell(project, 19, "vineyard", "")
    stopped = project.run("dvc", "repro", check=False)
    assert stopped.returncode != 0
    for message in (
        f"{TABLE}: row 17: column 'alcohol': -999 is outside 9.1..16.8: fix the cell, or widen `min:` and `max:`",
        f"{TABLE}: row 18: column 'magnesium': 'ninety' is not a number: fix the cell",
        f"{TABLE}: row 18: column 'colour, seen': 'purple' is not among the 3 known categories",
        f"{TABLE}: row 19: column 'vineyard': is empty: fill in a value",
        "4 violation(s) in 3 of 178 rows",
    ):
        assert message in stopped.stderr, stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert stages_run(stopped.stdout) == ["prepare"]

    logged = """
from my_experiment.harness.tracking import lockfile, runs
metrics = runs.find(training_key=lockfile.training(lockfile.read_lock()).key).data.metrics
print(metrics["data_imputed"], metrics["data_skipped"])
"""
    edit(project, "conf/config.yaml", "- model: mlp", "- model: logistic_regression")  # is faster
    edit(project, "conf/config.yaml", "- explain: default", "- explain: none")
    for policy, before, imputed, skipped in (("impute", "stop", 4, 0), ("drop", "impute", 0, 3)):
        edit(project, "conf/data/csv.yaml", f"on_invalid: {before}", f"on_invalid: {policy}")
        assert stages_run(project.run("dvc", "repro").stdout) == EVERYTHING
        report = json.loads(project.read("reports/data.json"))
        assert (report["violations"], report["imputed"], report["skipped"]) == (4, imputed, skipped)
        assert sum(report["examples"].values()) == 178 - skipped
        assert package_python(project, logged).split()[-2:] == [f"{float(imputed)}", f"{float(skipped)}"]
    replace_cell(project, 17, "alcohol", "13.1")
    assert stages_run(project.run("dvc", "repro").stdout) == ["prepare", "train", "explain", "robustness", "evaluate"]
    assert sum(json.loads(project.read("reports/data.json"))["examples"].values()) == 176
    assert f"{TABLE}.dvc" in project.git_status()


ROW: dict[str, Any] = {
    "alcohol": 13.2, "malic_acid": None, "ash": 2.1, "alcalinity_of_ash": 11, "magnesium": 100, "total_phenols": 2.6,
    "flavanoids": 2.8, "nonflavanoid_phenols": 0.3, "proanthocyanins": 1.3, "color_intensity": 4.4, "hue": 1.05,
    "od280/od315_of_diluted_wines": 3.4, "proline": 1050, "colour, seen": "pale", "vineyard": "2",
}  # fmt: skip


def as_csv(*rows: dict[str, Any], delimiter: str = ",") -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in ROW.items() if name not in names}


def body(content: str) -> dict[str, Any]:
    """A body whose row has `content` where the alcohol was: JSON that Python's own writer would not write."""
    text = json.dumps({"instances": [ROW]}).replace('"alcohol": 13.2', f'"alcohol": {content}')
    return {"content": text, "headers": JSON}


def file(content: bytes) -> dict[str, Any]:
    return {"files": {"file": ("rows.csv", content)}}


BAD: dict[str, tuple[int, str, dict[str, Any], str]] = {
    "empty batch": (400, "/predict", {"json": {"instances": []}}, "instances"),
    "no instances": (400, "/predict", {"json": {}}, "instances"),
    "another field": (400, "/predict", {"json": {"instances": [ROW], "more": 1}}, "more"),
    "a row for the batch": (400, "/predict", {"json": {"instances": ROW}}, "instances"),
    "a list for a row": (400, "/predict", {"json": {"instances": [list(ROW.values())]}}, "instances[0]"),
    "unknown column": (400, "/predict", {"json": {"instances": [ROW, ROW | {"age": 3}]}}, "instances[1].age"),
    "the target": (400, "/predict", {"json": {"instances": [ROW | {"cultivar": "class_0"}]}}, "cultivar"),
    "missing column": (400, "/predict", {"json": {"instances": [without("hue")]}}, "instances[0].hue"),
    "text for a number": (400, "/predict", {"json": {"instances": [ROW | {"hue": "pale"}]}}, "[0].hue: 'pale' is not"),
    "list for a category": (400, "/predict", {"json": {"instances": [ROW | {"vineyard": ["2"]}]}}, "vineyard"),
    "too large a number": (400, "/predict", body("1e39"), "instances[0].alcohol: 1e+39 is too large for the 32-bit"),
    "infinity": (400, "/predict", body("-Infinity"), "instances[0].alcohol"),
    "huge number": (400, "/predict", body("1e999"), "instances[0].alcohol"),
    "half a surrogate": (400, "/predict", body('1, "vineyard": "\\ud800"'), "JSON"),
    "too large a batch": (400, "/predict", {"json": {"instances": [ROW] * 257}}, "instances"),
    "malformed": (400, "/predict", {"content": b'{"instances": [', "headers": JSON}, "JSON"),
    "empty body": (400, "/predict", {"content": b"", "headers": JSON}, "JSON"),
    "not UTF-8": (400, "/predict", {"content": b'{"instances": "\xff"}', "headers": JSON}, "JSON"),
    "UTF-16": (415, "/predict", {"content": b"\xff\xfe{\0}\0", "headers": JSON}, "UTF-16"),
    "CSV as JSON": (415, "/predict", {"content": as_csv(ROW), "headers": {"content-type": "text/csv"}}, "content type"),
    "empty file": (400, "/predict_file", file(b""), "empty"),
    "header only": (400, "/predict_file", file(as_csv(ROW).splitlines()[0]), "header only"),
    "no header": (400, "/predict_file", file(as_csv(ROW).splitlines()[1]), "the header lacks"),
    "CSV without a column": (400, "/predict_file", file(as_csv(without("hue"))), "the header lacks the model's hue"),
    "CSV with a column twice": (400, "/predict_file", file(as_csv(ROW).replace(b"cid,", b"cid,hue,", 1)), "once"),
    "CSV with text for a number": (400, "/predict_file", file(as_csv(ROW, ROW | {"hue": "x"})), "row 2, column 'hue'"),
    "CSV with infinity": (400, "/predict_file", file(as_csv(ROW | {"hue": "inf"})), "row 1, column 'hue'"),
    "CSV with too few cells": (400, "/predict_file", file(as_csv(ROW) + b"1,2\n"), "row 2 has 2 cells"),
    "CSV with an open quote": (400, "/predict_file", file(as_csv(ROW) + b'"1,2\n'), "not valid CSV"),
    "CSV in UTF-16": (400, "/predict_file", file(as_csv(ROW).decode().encode("utf-16")), "UTF-8"),
    "CSV in Latin-1": (400, "/predict_file", file("alcohol\né\n".encode("latin-1")), "line 2"),
    "a picture": (400, "/predict_file", file(b"\x89PNG\r\n\x1a\n" + bytes(50)), "UTF-8"),
    "two files": (400, "/predict_file", {"files": [("file", b"1"), ("file", b"2")]}, "form"),
    "another name": (400, "/predict_file", {"files": {"table": as_csv(ROW)}}, "`file`"),
}  # fmt: skip


def test_bad_requests_are_told_why(tutorial: Tutorial) -> None:
    fine = [{"json": {"instances": [ROW]}}, file(as_csv(ROW)), file(b"\xef\xbb\xbf" + as_csv(ROW, delimiter=";"))]
    good = [tutorial.client.post("/predict_file" if "files" in request else "/predict", **request) for request in fine]
    assert [answer.status_code for answer in good] == [200, 200, 200], [answer.text for answer in good]
    assert said(good[0]) == said(good[1]) == said(good[2])
    wrong = {}
    for name, (status, path, request, part) in BAD.items():
        answer = tutorial.client.post(path, **request)
        told = answer.json().get("error", "") if answer.headers["content-type"] == "application/json" else ""
        if answer.status_code != status or part not in told or "\n" in told or not 10 < len(told) < 800:
            wrong[name] = (answer.status_code, answer.text)
    assert wrong == {}


def test_a_row_may_be_written_as_other_programs_write_it(tutorial: Tutorial) -> None:
    """The whole table of notations is in tests/harness/batch/test_values_tables.py."""
    expected = said(tutorial.client.post("/predict", json={"instances": [ROW]}))
    texts = {name: "" if value is None else str(value) for name, value in ROW.items()}
    for row in (ROW | {"vineyard": 2}, ROW | {"vineyard": 2.0}, ROW | {"malic_acid": "NA"}, texts):
        answer = tutorial.client.post("/predict", json={"instances": [row]})
        assert said(answer) == expected, answer.text
    gap = json.dumps({"instances": [ROW | {"malic_acid": float("nan")}]})
    assert said(tutorial.client.post("/predict", content=gap, headers=JSON)) == expected
    assert said(tutorial.client.post("/predict_file", **file(as_csv(texts)))) == expected


def test_schemathesis_finds_nothing(tutorial: Tutorial, tmp_path: Path) -> None:
    document = tmp_path / "openapi.json"
    document.write_text(tutorial.client.get("/docs.json").text)
    for path, more in (
        ("/predict", []),
        # No schema can say which bytes are a table with the model's columns: random ones are rightly refused.
        ("/predict_file", ["--exclude-checks", "positive_data_acceptance"]),
    ):
        command = [str(VENV / "bin/schemathesis"), "run", str(document), "--url", str(tutorial.client.base_url)]
        done = subprocess.run(
            [*command, "--include-path", path, "--max-examples", "25", "--seed", "1", *more],
            cwd=tmp_path,
            capture_output=True,
            encoding="utf-8",
        )
        assert done.returncode == 0, done.stdout[-6000:]


def test_the_form_of_the_page(tutorial: Tutorial, browser: Browser) -> None:
    """Fields as the schema says; what is entered is answered as the API answers it, with a cell left empty."""
    row = next(row for row in raw_rows(tutorial.project) if row["malic_acid"] is None and row["colour, seen"])

    def expected(row: dict[str, Any]) -> list[tuple[str, float]]:
        (found,) = tutorial.client.post("/predict", json={"instances": [row]}).json()["predictions"]
        return sorted(found["probabilities"].items(), key=lambda item: -item[1])

    with opened(browser, str(tutorial.client.base_url).rstrip("/")) as page:
        names = page.locator("#fields label").evaluate_all("found => found.map(each => each.innerText.split('\\n')[0])")
        assert names == [name + " may be empty" * (name in ("malic_acid", "colour, seen")) for name in row]
        fields = dict(zip(row, page.locator("#fields input, #fields select").all(), strict=True))
        choices = fields["colour, seen"].locator("option").evaluate_all("found => found.map(each => each.value)")
        assert choices == ["", "nearly\nblack", "pale", 'ruby "red"']
        assert fields["alcohol"].get_attribute("placeholder") == "9.1 to 16.8"
        page.get_by_role("button", name="Predict").click()  # nothing is entered
        assert page.evaluate("document.activeElement.closest('label').innerText.trim()") == "alcohol"
        expect(page.locator("#answer")).to_be_empty()
        for name, value in row.items():
            if name in ("colour, seen", "vineyard"):
                fields[name].select_option(value)
            elif value is not None:
                fields[name].fill(str(value))
        for seen in (row["colour, seen"], None):
            row["colour, seen"] = seen
            fields["colour, seen"].select_option(seen or "")
            with page.expect_response("**/predict"):
                page.get_by_role("button", name="Predict").click()
            wanted = expected(row)
            expect(page.locator(".bars data").first).to_have_attribute("value", str(wanted[0][1]))
            assert [(name, value) for name, (value, _) in shares(page).items()] == wanted
        example = json.loads(tutorial.project.read("models/page.json"))["examples"][3]
        page.get_by_role("button", name="Example 4").click()
        expect(page.locator(".truth")).to_have_text(f"actual: {example['actual']}")
        assert [(name, value) for name, (value, _) in shares(page).items()] == expected(example["instance"])
        assert fields["alcohol"].input_value() == f"{example['instance']['alcohol']:g}"


def test_the_interval_on_the_page(reproduced: Reproduce, browser: Browser) -> None:
    project = reproduced("tabular-regression")
    example = json.loads(project.read("models/page.json"))["examples"][2]
    with served(project) as address, opened(browser, address) as page:
        asked = httpx.post(f"{address}/predict", json={"instances": [example["instance"]]}).json()
        page.get_by_role("button", name="Example 3").click()
        expect(page.locator(".truth")).to_have_text(f"actual: {example['actual']:g}")
        shown = page.locator("#answer data").evaluate_all("found => found.map(each => Number(each.value))")
        assert shown == [asked["predictions"][0][end] for end in ("value", "low", "high")]
        expect(page.locator("#ends")).to_contain_text("90% prediction interval: ")
        # Drawn to scale: the axis is that of the target in the schema.
        assert page.locator(".axis").inner_text().split() == ["0", "510"]
        drawn = [page.locator(part).bounding_box() for part in (".interval", ".span", ".point", ".actual")]
        axis, span, point, actual = (box for box in drawn if box)
        place = [(at - axis["x"]) / axis["width"] * 510 for at in (
            point["x"] + point["width"] / 2, span["x"], span["x"] + span["width"], actual["x"] + actual["width"] / 2,
        )]  # fmt: skip
        assert place == pytest.approx([*shown, example["actual"]], abs=2)


def test_the_page_explains_a_row(reproduced: Reproduce, browser: Browser) -> None:
    """What each column adds, drawn to scale and in words, and what would change the answer, as the API says."""
    project = reproduced("tabular-regression")
    row = json.loads(project.read("models/page.json"))["examples"][2]["instance"]
    with served(project, "SERVICE_EXPLAIN=on") as address, opened(browser, address) as page:
        ask = partial(httpx.post, f"{address}/explain", json={"instances": [row]})
        found = ask(params={"counterfactuals": "true"}).json()["explanations"][0]
        assert "counterfactuals" not in ask().json()["explanations"][0]
        assert ask(params={"counterfactuals": "maybe"}).status_code == 400
        assert found["baseline"] + sum(found["attributions"].values()) == pytest.approx(found["answer"], abs=1e-9)
        page.get_by_role("button", name="Example 3").click()
        page.get_by_role("button", name="Why this answer?").press("Enter")
        expect(page.get_by_role("heading", name="Why", exact=True)).to_be_focused()
        drawn = page.locator(".adds li").evaluate_all(
            """rows => rows.map(row => {
              const [name, room, value] = row.children;
              const [bar, whole] = [room.firstChild, room].map(each => each.getBoundingClientRect());
              const middle = whole.x + whole.width / 2;
              return [name.firstChild.textContent, Number(value.value), (bar.x + bar.width / 2 - middle) / whole.width];
            })"""
        )
        strongest = sorted(found["attributions"].items(), key=lambda item: -abs(item[1]))
        assert [(name, value) for name, value, _ in drawn] == strongest
        largest = abs(strongest[0][1])
        assert [place for *_, place in drawn] == pytest.approx(
            [value / largest / 4 for _, value in strongest], abs=0.01
        )
        assert found["counterfactuals"]
        assert page.locator(".words li").count() == len(found["counterfactuals"])
        for counterfactual in found["counterfactuals"]:  # asked again, it is the answer
            changed = row | {name: change["to"] for name, change in counterfactual["changes"].items()}
            answer = httpx.post(f"{address}/predict", json={"instances": [changed]}).json()["predictions"][0]
            assert answer["value"] == pytest.approx(counterfactual["prediction"]["value"], rel=1e-6)


def test_the_bento_holds_only_what_a_table_needs(tutorial: Tutorial, tmp_path: Path) -> None:
    env = ENV | {"BENTOML_HOME": str(tmp_path), "BENTOML_DO_NOT_TRACK": "true"}
    built = tutorial.project.run("bentoml", "build", env=env)
    assert "warning" not in (built.stdout + built.stderr).lower()
    (bento,) = (found.parent / "src" for found in tmp_path.glob("bentos/my_experiment/*/bento.yaml"))
    packed = {path.relative_to(bento).as_posix() for path in bento.rglob("*") if path.is_file()}
    assert packed == packed_files(tutorial.project)
    code = """
import sys
from my_experiment.service import Service
Service()  # loads the model, as a worker does
unwanted = "tensorflow keras mlflow dvc hydra sklearn matplotlib pandas pandera pyarrow onnx".split()
print(*(name for name in unwanted if name in sys.modules))
"""
    done = BakedProject(bento).run(sys.executable, "-c", code, env={"PYTHONPATH": str(bento)})
    assert done.stdout.split() == []
