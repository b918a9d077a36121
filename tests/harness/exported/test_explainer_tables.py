"""Explanations of rows: parts, reasons in words, and what would change the answer, for a model in NumPy."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from my_experiment.harness.exported.explainer import Explainer, reasons
from numpy.typing import NDArray
from support import HARNESS

Feeds = Mapping[str, NDArray[Any]]
REFERENCE: dict[str, Any] = {
    "baseline": {"x": 1, "c": "b", "day": "2026-01-31", "z": None},
    "values": {"x": [0, 1, 2, 8], "c": ["b", "a"], "day": ["2026-01-31", "2026-02-02"], "z": []},
    "fixed": [],
}
COLUMNS = [
    {"name": "x", "type": "number"},
    {"name": "c", "type": "category"},
    {"name": "day", "type": "date"},
    {"name": "z", "type": "number"},
]
ROW: Feeds = {
    "x": np.array([2.0]),
    "c": np.array(["a"], np.object_),
    "day": np.array([20486.0]),  # 2026-02-02
    "z": np.array([np.nan]),
}


def score(feeds: Feeds) -> NDArray[np.float64]:
    values: NDArray[np.float64] = 2 * feeds["x"] + 3 * (feeds["c"] == "a") + (feeds["day"] - 20484)
    return values - 6.5


def explainer(reference: dict[str, Any] = REFERENCE) -> tuple[Explainer, str]:
    """An explainer of the kind of target that this bake has, and the name of what is explained."""
    if not (HARNESS / "targets/classification.py").exists():
        described: dict[str, Any] = {"target": "regression", "target_name": "y", "input": "tables"}
        described["calibration"] = {"half_widths": {"0.5": 4.0, "0.9": 5.0}}
        return Explainer(lambda feeds: score(feeds)[:, None], described | {"columns": COLUMNS}, reference), "y"

    def run(feeds: Feeds) -> NDArray[np.float64]:
        odds = np.exp(score(feeds))
        return np.stack([1 / (1 + odds), odds / (1 + odds)], axis=1)

    described = {"target": "classification", "classes": ["no", "yes"], "input": "tables", "columns": COLUMNS}
    return Explainer(run, described, reference), "log-odds of yes"


def test_a_row_is_explained() -> None:
    ours, explained = explainer()
    outputs, [found] = ours.explain(ROW)
    assert outputs.shape[0] == 1
    assert found["explained"] == explained
    assert (found["baseline"], found["answer"]) == (pytest.approx(-4.5), pytest.approx(2.5))
    assert found["attributions"] == pytest.approx({"x": 2, "c": 3, "day": 2, "z": 0})
    raises = "raises y" if explained == "y" else "speaks for yes"
    assert found["reasons"][0] == f"c = a (typically b) {raises} (+3)"
    assert f"day = 2026-02-02 (typically 2026-01-31) {raises} (+2)" in found["reasons"]
    assert len(found["reasons"]) == 3  # z is missing, as is typical
    assert "counterfactuals" not in found


def test_numbers_in_reasons_are_written_in_one_way() -> None:
    """Marks between thousands came with five digits, and an exponent with an effect of four."""
    ours, _ = explainer()
    assert ours.parts.text({**ROW, "x": np.array([5500.0])}, 0) == "x = 5500 (typically 1)"
    told = list(reasons(lambda part: f"part {part}", np.array([11700.0, -1234.0, 0.5]), "raises y", "lowers y"))
    assert told == ["part 0 raises y (+11,700)", "part 1 lowers y (-1,234)", "part 2 raises y (+0.5)"]


def test_what_would_change_the_answer() -> None:
    ours, explained = explainer()
    _, [found] = ours.explain(ROW, with_counterfactuals=True)
    changes = [counterfactual["changes"] for counterfactual in found["counterfactuals"]]
    if explained == "y":  # lower and higher by more than the typical error
        assert changes[0] == {"x": {"from": 2, "to": 1}, "c": {"from": "a", "to": "b"}}  # the nearest x that does
        assert {"x": {"from": 2, "to": 8}} in changes
        values = [counterfactual["prediction"]["value"] for counterfactual in found["counterfactuals"]]
        assert all(abs(value - 2.5) > 4 for value in values)
    else:
        assert changes == [{"c": {"from": "a", "to": "b"}}, {"x": {"from": 2, "to": 0}}]
        assert {counterfactual["prediction"]["label"] for counterfactual in found["counterfactuals"]} == {"no"}


def test_fixed_columns_stay() -> None:
    ours, _ = explainer(REFERENCE | {"fixed": ["x", "c"]})
    _, [found] = ours.explain(ROW, with_counterfactuals=True)
    assert {name for counterfactual in found["counterfactuals"] for name in counterfactual["changes"]} <= {"day", "z"}
