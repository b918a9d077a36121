"""Private columns: values that are planted in a table stand in nothing that is reported or delivered."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import test_explain_tables as made
import yaml
from my_experiment.harness import evaluation, prepared
from my_experiment.harness.core.errors import UserError
from my_experiment.harness.core.paths import DATA_REPORT
from my_experiment.harness.preparation.splits import write_report
from my_experiment.stages import evaluate, explain, robustness
from support import HARNESS, PACKAGE
from tables_made import frame, prepare

TARGET = "classification" if (HARNESS / "targets/classification.py").exists() else "regression"
PRIVATE = ("id", "size", "colour ✨")
UNIT = 31337  # of the planted numbers
WORDS = ("geheim", "Zyxland", "Quuxberg")
SCHEMA = Path("schema/table.yaml")


def call_private(*names: str) -> None:
    """Calls columns private in the schema, and allows gaps in them."""
    schema = yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))
    for name in names:
        schema["columns"][name]["private"] = "drop"
    SCHEMA.write_text(yaml.safe_dump(schema, allow_unicode=True), encoding="utf-8")


def configure(**changes: Any) -> None:
    """Writes params.yaml with all sections that the three stages read."""
    made.configure()
    params = yaml.safe_load(Path("params.yaml").read_text())
    target = f"{PACKAGE}.harness.robustness.tables.table"
    params["robustness"] = {"_target_": target, "seed": 0, "examples": 30, "queries": 20, "epsilons": [0.5]}
    params["train"] = {"_target_": f"{PACKAGE}.harness.training.fit.solver"}
    params["evaluate"] |= {"shipped": 10, "examples": 10, **changes}
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")


@pytest.fixture
def rows(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """A table with planted values, prepared, and its model."""
    monkeypatch.setattr(made, "SIZE", 2 / UNIT)
    rows = frame()
    rows["size"] = (rows["size"] * UNIT).round() + 0.5
    rows["id"] = "geheim-" + rows["id"]
    rows["colour ✨"] = rows["colour ✨"].replace({"grün": "Zyxland", "blue sky": "Quuxberg"})
    changes = dict[str, Any](group=None, time=None, drop=["patient"])
    if TARGET == "regression":
        rows["y"] = rows["size"] / UNIT
        changes["problem"] = "regression"
    prepare(rows, **changes)
    call_private(*PRIVATE)
    write_report(prepare(rows, **changes))
    made.save_model(prepared.manifest() | {"model": {"_target_": f"{PACKAGE}.models.x"}})
    metric = "accuracy" if TARGET == "classification" else "mae"
    Path("reports/history.csv").write_text(f"epoch,loss,{metric},val_loss,val_{metric}\n0,0.5,1,0.4,1\n")
    configure()
    return rows


def betrayed(rows: pd.DataFrame) -> Iterator[tuple[Path, str]]:
    """The planted values in all files but the model itself, which was fitted on them, and the data."""
    numbers = {form for value in rows["size"] if abs(value) > UNIT / 2 for form in forms(value)}
    for file in [*Path("models").rglob("*"), *Path("reports").rglob("*"), *Path("mlruns").rglob("*")]:
        if file.is_file() and file.name != "model.onnx":
            text = file.read_bytes().decode("utf-8", "replace")
            yield from ((file, word) for word in WORDS if word in text)
            yield from ((file, number) for number in numbers & {*re.findall(r"-?[\d.,]*\d(?:e[+-]\d+)?", text)})


def forms(value: float) -> set[str]:
    """How a number may be written."""
    return {repr(value), f"{value:,}", *(f"{value:.{digits}g}" for digits in (5, 6))}


def test_planted_values_are_found_if_nothing_is_private(rows: pd.DataFrame) -> None:
    """Otherwise the next test would prove nothing."""
    SCHEMA.write_text(re.sub("private: drop", "unique: false", SCHEMA.read_text(encoding="utf-8")), encoding="utf-8")
    for stage in (explain, robustness, evaluate):
        stage.main()
    files = {file.as_posix() for file, _ in betrayed(rows)}
    assert files >= {
        "models/explain.json",
        "models/page.json",
        "models/reference.json",
        "reports/explanations/section.md",
        "reports/model_card.md",
        "reports/plots/worst.csv",
        "reports/robustness/pairs.csv",
    }


def test_private_values_stand_nowhere(rows: pd.DataFrame, capfd: pytest.CaptureFixture[str]) -> None:
    for stage in (explain, robustness, evaluate):
        stage.main()
    assert not [*betrayed(rows)]
    told = "".join(capfd.readouterr())
    assert not [word for word in WORDS if word in told]
    page = json.loads(Path("models/page.json").read_text(encoding="utf-8"))
    assert page["properties"]["size"] == {"private": "drop", "nullable": page["properties"]["size"]["nullable"]}
    assert len(page["examples"]) == 10 and all(each["instance"]["size"] is None for each in page["examples"])
    assert all(each["instance"]["when"] for each in page["examples"])
    assert re.search(r"\*\*test row \d+\*\*: ", Path("reports/model_card.md").read_text(encoding="utf-8"))
    header = Path("reports/plots/worst.csv").read_text(encoding="utf-8").splitlines()[0]
    assert header == "row,outcome,weight in kg,when"


def test_a_violation_does_not_tell_a_private_cell(rows: pd.DataFrame, capfd: pytest.CaptureFixture[str]) -> None:
    rows["colour ✨"] = rows["colour ✨"].replace({"Zyxland": "Zyxlnd"})
    rows["size"] = rows["size"].astype(str).replace(str(rows["size"][0]), "Quuxberg")
    changes = dict[str, Any](group=None, time=None, drop=["patient"], on_invalid="impute")
    if TARGET == "regression":
        changes["problem"] = "regression"
    write_report(prepare(rows, **changes))
    assert json.loads(DATA_REPORT.read_text(encoding="utf-8"))["violations"] > 1
    told = "".join(capfd.readouterr()) + DATA_REPORT.read_text(encoding="utf-8")
    assert "'...'" in told and not [word for word in ("Zyxl", "Quuxberg") if word in told], told


def test_a_private_column_cannot_be_monitored(rows: pd.DataFrame) -> None:
    configure(monitored=["size"])
    with pytest.raises(UserError, match=r"evaluate.monitored: 'size' is private in the schema"):
        evaluate.main()


def test_all_columns_may_be_private(rows: pd.DataFrame) -> None:
    call_private("weight in kg", "when")
    explain.main()
    evaluate.main()
    assert evaluation.presenter(prepared.manifest()).private() >= {"size", "when"}
    assert not [*betrayed(rows)]
    assert not Path("reports/explanations/plots/dependence.png").exists()
