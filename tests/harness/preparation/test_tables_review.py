"""Tables as a whole: columns that give away the target, and splits of unexpected sizes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from my_experiment.harness.core import errors
from tables_made import frame, prepare

pytestmark = pytest.mark.usefixtures("workspace")


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (lambda rows: rows["y"], "determines the target"),
        (lambda rows: rows["y"].map({"no": "bad", "yes": "good"}), "determines the target"),
        (lambda rows: rows["y"].map({"no": 3.5, "yes": -1.0}), "separates the classes without error"),
        (lambda rows: rows["size"], None),
    ],
)
def test_a_column_that_gives_away_the_class_is_reported(
    column: Callable[[pd.DataFrame], Any], message: str | None
) -> None:
    rows = frame()
    rows.insert(1, "extra", column(rows))
    warnings = [warning for warning in prepare(rows)["warnings"] if "'extra'" in warning]
    assert len(warnings) == (message is not None)
    assert all(message in warning and "data.drop" in warning for warning in warnings)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (lambda size: 2 * size + 1, "is as good as the target"),
        (lambda size: np.exp(3 * size), "is as good as the rank of the target"),
        (lambda size: np.where(size > 0, "big", "small"), None),
    ],
)
def test_a_column_that_gives_away_the_number_is_reported(column: Callable[[Any], Any], message: str | None) -> None:
    rows = frame()
    rows.insert(1, "extra", column(rows["size"]))
    warnings = prepare(rows, target="size", problem="regression", drop=["y"])["warnings"]
    assert [message in warning for warning in warnings] == ([] if message is None else [True])


def test_identifiers_and_unequal_splits_are_reported() -> None:
    rows = frame(3000)
    warnings = prepare(rows, id=None)["warnings"]
    assert [warning for warning in warnings if warning.startswith("column 'id' has 1,") and "data.drop" in warning]
    few = pd.DataFrame({"a": [0, 1] * 300, "b": ["x", "y", "z"] * 200, "y": ["no", "no", "yes"] * 200})
    with pytest.raises(errors.UserError, match=r"class '\w+' has no example in split"):
        prepare(few, id=None, time=None, group=None, schema="schema/few.yaml")


def test_constant_in_training_only_is_reported() -> None:
    rows = frame()
    rows["when"] = np.arange(400)
    rows["new"] = np.where(rows["when"] < 300, "off", "on")
    assert [w for w in prepare(rows, split="time")["warnings"] if "'new' is constant in the training split" in w]
