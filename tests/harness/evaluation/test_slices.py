"""Slices: each is evaluated like the whole, compared with others, and drawn."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from my_experiment.harness import evaluation
from my_experiment.harness.evaluation import metrics, report, slice_card, slices
from my_experiment.harness.evaluation.metrics import Estimate, Metric
from my_experiment.harness.evaluation.slices import Slice, Slices


def test_groups_of_words_and_of_numbers() -> None:
    words = np.array(["a", "", "b", "a"], object)
    assert {name: group.tolist() for name, group in metrics.grouped("x", words).items()} == {
        "x missing": [False, True, False, False],
        "x a": [True, False, False, True],
        "x b": [False, False, True, False],
    }
    numbers = np.append(np.arange(100.0), np.nan)
    groups = metrics.grouped("y", numbers)
    assert [int(group.sum()) for group in groups.values()] == [1, 25, 25, 25, 25]
    assert np.stack(list(groups.values())).sum(0).tolist() == [1] * 101
    assert list(metrics.grouped("z", np.array([0.0, 1.5] * 20))) == ["z 0", "z 1.5"]


def test_a_level_called_missing_is_not_the_rows_without_a_value() -> None:
    groups = metrics.grouped("x", np.array(["missing", "", "a"], object))
    assert {name: group.tolist() for name, group in groups.items()} == {
        "x without a value": [False, True, False],
        "x a": [False, False, True],
        "x missing": [True, False, False],
    }


def test_quartiles_of_dates_end_at_dates() -> None:
    """A quartile between two dates was called a time of a day."""
    groups = metrics.grouped("when", np.arange(38.0), lambda value: f"day {value:g}")
    assert list(groups) == [f"when day {low} to day {high}" for low, high in ((0, 9), (9, 18), (18, 28), (28, 37))]
    assert np.stack(list(groups.values())).sum(0).tolist() == [1] * 38


def test_slices_of_a_long_column_can_be_told_apart() -> None:
    column = "weight of the parcel in kilograms, as sent (kg)"
    names = [slice_card._name(column, Slice(f"{column} {value}", 9, {})) for value in ("1 to 2", "2 to 3")]
    assert names == ["weight of the parcel in kilog... 1 to 2 *  (9)", "weight of the parcel in kilog... 2 to 3 *  (9)"]
    assert slice_card._name("age", Slice("age 1 to 2", 12, {})) == "age 1 to 2  (12)"


@pytest.mark.parametrize(
    ("numbers", "sizes"),
    [
        pytest.param(np.append(np.zeros(60), np.arange(1.0, 41)), [75, 25], id="most are equal"),
        pytest.param(100_000 + np.arange(100.0) / 100, [25] * 4, id="equal in the first four digits"),
    ],
)
def test_no_example_is_lost_between_quartiles(numbers: Any, sizes: list[int]) -> None:
    """Equal ends made one group of two, of which the first was lost."""
    groups = metrics.grouped("x", numbers)
    assert [int(group.sum()) for group in groups.values()] == sizes
    assert np.stack(list(groups.values())).sum(0).tolist() == [1] * len(numbers)


def sliced(*sizes: int, value: float = 0.5) -> Slices:
    """Slices of these sizes by one column; each is worse than the one before."""
    measured = [
        Slice(f"$x$ {number}", size, {"score": Estimate(value - number / 10, 0.1, 0.9)})
        for number, size in enumerate(sizes)
    ]
    metric = Metric("score", "higher", lambda targets, outputs: lambda weights: 0.0)
    return Slices(
        {"x|y": measured}, {"x|y": 3}, {"score": metric}, Slice("all", 99, {"score": Estimate(0.45)}), ["score"]
    )


def test_small_slices_are_marked_and_not_compared(tmp_path: Path) -> None:
    found = sliced(50, 10, 9)
    assert slices.differences(found.columns["x|y"]) == {"score": slices.Difference("$x$ 0", "$x$ 1", 0.5 - 0.4)}
    text = "\n".join(slice_card.section(found, tmp_path))
    assert r"| \$x\$ 2 * | 9 | 0.3 (0.1 to 0.9) |" in text
    assert "| all | 99 | 0.45 |" in text
    assert r"| x\|y | score | \$x\$ 0 | \$x\$ 1 | 0.1 |" in text
    assert "* marks what is measured on fewer than 10 examples" in text
    assert "the 20 largest slices are shown, 3 smaller ones are not" in text
    assert (tmp_path / "slices.png").read_bytes().startswith(b"\x89PNG")


def test_a_rate_of_few_examples_is_marked_and_not_compared(tmp_path: Path) -> None:
    """Such as the true positive rate of 50 examples with two positives."""
    found = sliced(50, 50, 50)
    rare = found.columns["x|y"][2]._replace(rare=["score"])
    found = found._replace(columns={"x|y": [*found.columns["x|y"][:2], rare]})
    assert slices.differences(found.columns["x|y"])["score"].lowest == "$x$ 1"
    text = "\n".join(slice_card.section(found, tmp_path))
    assert r"| \$x\$ 2 | 50 | 0.3 (0.1 to 0.9) * |" in text and "* marks" in text


def test_without_slices_the_report_is_empty(workspace: Path) -> None:
    none = Slices({}, {}, {}, Slice("all", 9, {}), [])
    assert slice_card.section(none, Path()) == []
    report.write_slices(none)
    assert json.loads(Path("reports/slices.json").read_text(encoding="utf-8")) == {}


def test_the_report_has_every_slice(workspace: Path) -> None:
    report.write_slices(sliced(50, 10, 9))
    content = json.loads(Path("reports/slices.json").read_text(encoding="utf-8"))["x|y"]
    assert content["slices"][2] == {
        "name": "$x$ 2", "examples": 9, "few": True, "metrics": {"score": [0.3, 0.1, 0.9]}, "rare": [],
    }  # fmt: skip
    assert content["left_out"] == 3
    assert content["differences"] == {"score": {"highest": "$x$ 0", "lowest": "$x$ 1", "value": 0.1}}


@pytest.mark.filterwarnings("error")
def test_the_plot_is_the_same_each_time_and_bounded(tmp_path: Path) -> None:
    many = sliced(*[20] * 200)
    for name in ("first.png", "second.png"):
        slice_card.draw(many, tmp_path / name)
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()
    undefined = sliced(5)
    slice_card.draw(undefined._replace(columns={"x": [Slice("x", 1, {})]}), tmp_path / "third.png")


def test_the_metrics_shown_exist() -> None:
    for target in ("classification", "regression"):
        try:
            evaluator = evaluation.evaluator({"target": target})
        except ModuleNotFoundError:
            continue
        sets = {"coverage": 0.9, "set_threshold": 0.1, "abstain": False}
        description = {"calibration": {"half_widths": {"0.9": 1.0}}, "decision": sets}
        table = evaluator.slice_metrics(description, {"classes": ["a", "b"]})
        assert set(evaluator.SLICED) <= set(table)
