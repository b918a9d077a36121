"""Gates: what passes, what does not, and what people read about it."""

import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from my_experiment.harness.core import config
from my_experiment.harness.core.errors import UserError
from my_experiment.harness.release import gates, judge, settings
from numpy.typing import NDArray

ACCURACY, MAE = gates.Criterion("score", True), gates.Criterion("score", False)
COMPARISON = settings.Comparison(margin=0.05, confidence=0.95, resamples=300, seed=0)
SLICES = settings.Slices(margin=0.1, examples=10, columns=[])


def measure(values: NDArray[Any]) -> Callable[[NDArray[np.float64]], dict[str, float]]:
    """The weighted mean of a number for each example: accuracy of 0 and 1, or a mean error."""
    return lambda weights: {"score": float(weights @ values / weights.sum())}


def right(examples: int, wrong: int, offset: int = 0) -> NDArray[np.float64]:
    """Which of the examples are answered rightly, all but `wrong` of them."""
    values = np.ones(examples)
    values[offset : offset + wrong] = 0
    return values


@pytest.mark.parametrize(
    ("value", "limits", "passed"),
    [
        (0.9, {"min": 0.9}, True),
        (0.89, {"min": 0.9}, False),
        (0.9, {"max": 0.9}, True),
        (0.91, {"max": 0.9}, False),
        (0.5, {"min": 0.4, "max": 0.6}, True),
        (float("nan"), {"min": 0.0}, False),
        (float("nan"), {}, False),
    ],
)
def test_absolute_limits(value: float, limits: dict[str, float], passed: bool) -> None:
    (gate,) = gates.absolute({"score": value}, {"score": settings.Limits(**limits)})
    assert gate.passed is passed


def test_the_same_answers_are_not_worse() -> None:
    values = measure(right(50, 5))
    gate = gates.champion(ACCURACY, values, values, 50, COMPARISON)
    assert gate.passed
    assert gate.measured == "equal (interval 0 to 0)"


@pytest.mark.parametrize("criterion", [ACCURACY, MAE])
def test_a_clear_difference_is_seen_in_both_directions(criterion: gates.Criterion) -> None:
    good, bad = measure(right(400, 10)), measure(right(400, 100))
    better, worse = (good, bad) if criterion.higher else (bad, good)
    won = gates.champion(criterion, better, worse, 400, COMPARISON)
    lost = gates.champion(criterion, worse, better, 400, COMPARISON)
    assert won.passed and won.measured.startswith("better by 0.225 (interval 0.")
    assert not lost.passed and lost.measured.startswith("worse by 0.225 (interval -0.")


def test_a_small_test_split_proves_little() -> None:
    """One mistake more in twenty may be chance, but so may no mistake more: the interval decides, not the value."""
    ours, theirs = right(20, 2), right(20, 2, offset=2)
    few = gates.champion(ACCURACY, measure(ours), measure(theirs), 20, COMPARISON)
    many = gates.champion(ACCURACY, measure(np.tile(ours, 200)), measure(np.tile(theirs, 200)), 4000, COMPARISON)
    assert few.measured.startswith("equal (") and many.measured.startswith("equal (")
    assert not few.passed and many.passed


def test_the_comparison_is_paired() -> None:
    """Errors of 100 that both make alike hide nothing: unpaired, their spread would drown the difference."""
    shared = np.random.default_rng(0).normal(100, 50, 200)
    noise = np.random.default_rng(1).normal(0, 0.1, 200)
    gate = gates.champion(MAE, measure(shared + noise), measure(shared), 200, COMPARISON)
    low, high = (float(end) for end in gate.measured.split("(interval ")[1].rstrip(")").split(" to "))
    assert high - low < 0.1
    assert gate.passed


def test_one_bad_class_is_named_whatever_the_others_gain() -> None:
    groups = {
        name: np.repeat([name == "cat", name == "dog", name == "emu"], [100, 100, 5]) for name in ("cat", "dog", "emu")
    }
    theirs = right(205, 20)
    ours = np.concatenate([np.ones(100), right(100, 30), np.zeros(5)])
    gate = gates.slices(ACCURACY, measure(ours), measure(theirs), groups, SLICES)
    assert gate.passed is False
    assert gate.name == "slices (2)"  # five emus are too few to judge
    assert gate.measured == "worse by 0.3 (dog)"
    assert gate.wanted == "worse by up to 0.09024"
    assert gates.slices(ACCURACY, measure(theirs), measure(ours), {"cat": groups["cat"]}, SLICES).passed is False
    assert gates.slices(ACCURACY, measure(ours), measure(theirs), {"emu": groups["emu"]}, SLICES).passed is None


def test_limits_of_latency_and_size() -> None:
    assert gates.at_most("latency", 5.0, 5.0, " ms") == ("latency", "5 ms", "at most 5 ms", True)
    assert gates.at_most("latency", 5.1, 5.0, " ms").passed is False
    assert gates.at_most("calibration", None, 0.1).passed is None


def test_the_table_says_what_failed() -> None:
    shown = gates.table([gates.at_most("size", 9, 5, " MB"), gates.at_most("calibration", None, 0.1)]).splitlines()
    assert shown[0].split() == ["gate", "measured", "wanted"]
    assert shown[1].split() == ["FAILED", "size", "9", "MB", "at", "most", "5", "MB"]
    assert shown[2].startswith("-  ")


def test_the_shipped_gates_are_valid_and_can_be_switched_off(workspace: Path) -> None:
    shipped = judge.read_gates([])
    assert shipped.champion and shipped.slices and shipped.absolute
    off = judge.read_gates(["gates.champion=null", "gates.slices=null", "gates.latency_ms=null", "gates.size_mb=1"])
    assert (off.champion, off.slices, off.latency_ms, off.size_mb) == (None, None, None, 1)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("+gates.latency=5", "gates.latency: unknown key; did you mean 'latency_ms'?"),
        ("gates.champion.margin=-1", "gates.champion.margin"),
        ("gates.slices.margin=no", "gates.slices.margin"),
        ("+gates.absolute.mae={least: 3}", "gates.absolute.mae.least"),
        ("gates=strict", "strict"),
    ],
)
def test_a_wrong_gate_is_named(workspace: Path, override: str, said: str) -> None:
    with pytest.raises(UserError) as refused:
        judge.read_gates([override])
    assert said in str(refused.value)


def test_gates_are_no_parameters(workspace: Path) -> None:
    """A gate that changes must not train anything anew."""
    assert "latency_ms" not in config.compose()
    assert json.dumps(config.choices()).count("gates") == 0


def evidence(outputs: NDArray[np.float32]) -> gates.Evidence:
    """What gates judge by, of a model with these answers and no champion."""
    scored = gates.Scored(Path("models/model.onnx"), {}, outputs, measure(right(4, 1)))
    return gates.Evidence(scored, None, ACCURACY, {"score": 0.75}, {}, np.zeros(4), {})


OFF = ["~gates.absolute", "+gates.absolute={}", "gates.latency_ms=null", "gates.size_mb=null", "gates.calibration=null"]


@pytest.fixture
def own_gates(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of the project's own with a gate, as in the docstring of `gates`."""

    def largest(evidence: gates.Evidence, *, most: float) -> gates.Gate:
        return gates.at_most("largest answer", float(evidence.candidate.outputs.max()), most)

    module = types.ModuleType("my_experiment.gates")
    vars(module)["largest"] = largest
    monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.mark.usefixtures("workspace", "own_gates")
def test_a_gate_of_ones_own_is_a_function_and_an_entry() -> None:
    entry = "gates.custom.largest={_target_: my_experiment.gates.largest, most: 2}"
    shipped = judge.read_gates([*OFF, f"+{entry}"])
    small, large = (gates.judge(evidence(np.array([[value]], np.float32)), shipped) for value in (1, 3))
    assert small == [("largest answer", "1", "at most 2", True)]
    assert large == [("largest answer", "3", "at most 2", False)]
    assert gates.failed(small) == [] and gates.failed(large) == ["largest answer"]


@pytest.mark.usefixtures("workspace", "own_gates")
@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{_target_: my_experiment.gates.largest, mots: 2}", "gates.custom.x.mots: unknown key; did you mean 'most'?"),
        ("{_target_: my_experiment.gates.largest}", "gates.custom.x.most: missing, add it"),
        ("{_target_: my_experiment.gates.smallest, most: 2}", "'my_experiment.gates.smallest' cannot be imported"),
        ("{_target_: os.system}", "'os.system' is not in this package"),
    ],
)
def test_a_wrong_gate_of_ones_own_is_named(entry: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        judge.read_gates([f"+gates.custom.x={entry}"])
    assert message in str(error.value)


def test_a_metric_that_is_not_measured_is_named() -> None:
    with pytest.raises(UserError, match=r"^gates\.absolute: auc is not a test metric: choose from score$"):
        gates.absolute({"score": 1.0}, {"auc": settings.Limits(min=0.5)})


def test_outcomes_are_a_table_of_markdown() -> None:
    outcomes = [
        gates.Gate("slices (2)", "worse by 0.2 (a|b)", "worse by up to 0.1", False),
        gates.at_most("size", 1, 2),
    ]
    assert gates.markdown(outcomes).splitlines() == [
        "|  | gate | measured | wanted |",
        "|---|---|---|---|",
        r"| FAILED | slices (2) | worse by 0.2 (a\|b) | worse by up to 0.1 |",
        "| passed | size | 1 | at most 2 |",
    ]


def measured(path: Path, **changes: Any) -> None:
    """Writes reports/robustness/values.json."""
    attack = {"name": "square", "strength": 8.0, "value": 0.75, "low": 0.7, "high": 0.8, "examples": 200}
    content = {"sha256": "a", "metric": "accuracy", "attacks": [attack], "changes": [], **changes}
    path.mkdir(parents=True)
    (path / "values.json").write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize(("least", "passed"), [(0.75, True), (0.76, False)])
def test_the_accuracy_under_an_attack(workspace: Path, least: float, passed: bool) -> None:
    measured(workspace / "reports/robustness")
    gate = gates.robustness({"sha256": "a"}, settings.Robustness(attack="square", epsilon=8.0, min=least))
    assert gate == gates.Gate("accuracy, square 8", "0.75", f"at least {least}", passed)


@pytest.mark.parametrize(
    ("changes", "attack", "named"),
    [
        (None, "square", "nothing was measured: set robustness: default"),
        ({"sha256": "b"}, "square", "is about another model"),
        ({}, "pgd", "pgd 8 was not measured: choose from square 8"),
    ],
)
def test_an_attack_that_was_not_measured_is_one_line(
    workspace: Path, changes: dict[str, Any] | None, attack: str, named: str
) -> None:
    if changes is not None:
        measured(workspace / "reports/robustness", **changes)
    with pytest.raises(UserError, match=f"^gates.robustness: .*{named}"):
        gates.robustness({"sha256": "a"}, settings.Robustness(attack=attack, epsilon=8.0, min=0.5))
