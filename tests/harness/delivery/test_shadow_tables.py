"""Kept rows that are asked again, and numbers compared with recorded intervals."""

import json
from collections.abc import Mapping

import pytest
from my_experiment.harness.core.errors import UserError
from my_experiment.harness.delivery.shadow import Change, Request, body, change

MODEL = {"input": "tables", "columns": [{"name": "age", "type": "number"}, {"name": "name", "type": "category"}]}
RECORDED = {"value": 2.0, "low": 1.0, "high": 3.0}


def request(row: Mapping[str, object], recorded: Mapping[str, float | None] = RECORDED) -> Request:
    """A request of one row."""
    return Request(1.0, "a", [row], [recorded])


def test_rows_are_asked_as_they_were_kept() -> None:
    kind, data = body(request({"age": 7, "name": None}), MODEL)
    assert kind == "application/json"
    assert json.loads(data) == {"instances": [{"age": 7, "name": None}]}


@pytest.mark.parametrize("row", [{"age": 7}, {"age": 7, "name": "0123456789abcdef" * 2}])
def test_a_private_column_cannot_be_asked_again(row: dict[str, object]) -> None:
    with pytest.raises(UserError, match="column 'name' is private, its values were not kept"):
        body(request(row), MODEL)


@pytest.mark.parametrize(
    ("recorded", "after", "disagrees"),
    [
        (RECORDED, 3.0, False),
        (RECORDED, 3.5, True),
        ({"value": 2.0, "low": None, "high": None}, 2.0, False),
        ({"value": 2.0, "low": None, "high": None}, 2.5, True),
    ],
)
def test_a_number_disagrees_outside_of_the_recorded_interval(
    recorded: Mapping[str, float | None], after: float, disagrees: bool
) -> None:
    asked = request({"age": 7, "name": "a"}, recorded)
    assert change(asked, 0, {"value": after}) == Change("a", 0, 2.0, after, disagrees, after - 2.0)
