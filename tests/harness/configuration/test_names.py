"""Names of columns and classes in section `evaluate`: wrong ones are refused before anything is trained."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from my_experiment.harness.core import config
from my_experiment.harness.core.errors import UserError
from my_experiment.stages import config as stage
from support import HARNESS, ROOT

TABLES = (HARNESS / "inputs/tables.py").exists()
CLASSES = (HARNESS / "targets/classification.py").exists()
COLUMN = ("mean radius" if CLASSES else "bmi") if TABLES else "brightness"
CLASS = "malignant" if TABLES else "7"


def configured(**changes: Any) -> None:
    """Runs the stage with these settings of section `evaluate`."""
    if (ROOT / "schema").exists() and not Path("schema").exists():
        shutil.copytree(ROOT / "schema", "schema")
    path = Path("conf/config.yaml")
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    content["evaluate"] |= changes
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    stage.main()


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize("key", ["fixed", "slices", "monitored"])
def test_an_unknown_column_is_refused_at_once(key: str) -> None:
    with pytest.raises(
        UserError, match=rf"^evaluate\.{key}: .*{COLUMN}s'.*; |^evaluate\.fixed: .* pictures have no"
    ) as told:
        configured(**{key: [f"{COLUMN}s"]})
    assert "\n" not in str(told.value) and not config.PARAMS.exists()


@pytest.mark.usefixtures("workspace")
def test_a_decision_between_unknown_classes_is_refused_at_once() -> None:
    with pytest.raises(
        UserError, match=r"^evaluate\.decision.*: (there is no class 'x'; |a decision is between classes)"
    ):
        configured(decision={"costs": {"x": 2.0}})


@pytest.mark.usefixtures("workspace")
def test_known_names_are_taken() -> None:
    decision = {"costs": {CLASS: 2.0}} if CLASSES else None
    configured(slices=[COLUMN], monitored=[COLUMN], fixed=[COLUMN] if TABLES else [], decision=decision)
    assert config.PARAMS.exists()


@pytest.mark.usefixtures("workspace")
@pytest.mark.skipif(not TABLES, reason="pictures have no schema")
def test_without_data_nothing_is_known_of_names() -> None:
    """`prepare` says what is wrong with the data."""
    Path("schema").mkdir()
    configured(fixed=["x"])
    assert config.PARAMS.exists()
