"""The parts of an evaluation that all tasks share: bootstrap, model card, plots."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from my_experiment.harness import evaluation
from my_experiment.harness.evaluation import card, plots
from my_experiment.harness.evaluation.metrics import Estimate, bootstrap, evenly_spaced
from my_experiment.harness.evaluation.workspace import Workspace
from support import HARNESS


def history(**columns: list[float]) -> pd.DataFrame:
    """The content of reports/history.csv."""
    return pd.DataFrame({"epoch": range(len(next(iter(columns.values()))))} | columns)


def test_an_undefined_metric_is_left_out() -> None:
    estimates = bootstrap(lambda weights: {"sum": weights.sum(), "nan": float("nan")}, 10, 100, 0.9, seed=0)
    assert estimates == {"sum": Estimate(10, 10, 10)}


EPOCHS = history(loss=[1, 0.5, 0.2], m=[5, 3, 2], val_loss=[1, 0.4, 0.6], val_m=[4, 5, 6])


@pytest.mark.parametrize(
    ("higher", "section", "expected"),
    [
        (
            True, {"monitor": "val_loss"},
            "3 epochs; the weights are those of epoch 1: validation loss 0.4000, validation m 5.",
        ),
        (
            True, {"monitor": "val_m"},
            "3 epochs; the weights are those of epoch 2: validation loss 0.6000, validation m 6.",
        ),
        (
            False, {"monitor": "val_m"},
            "3 epochs; the weights are those of epoch 0: validation loss 1.0000, validation m 4.",
        ),
        (
            False, {"monitor": "val_loss", "iterations": 9},
            "3 iterations, of which the model keeps the first 2: validation loss 0.4000, validation m 5.",
        ),
        (False, {}, "Fitted in one go, without epochs: validation loss 0.6000, validation m 6."),
    ],
)  # fmt: skip
def test_the_card_names_the_epoch_that_was_kept(higher: bool, section: dict[str, Any], expected: str) -> None:
    target: Any = SimpleNamespace(METRIC="m", HIGHER_IS_BETTER=higher)
    assert card.training(EPOCHS, target, section) == expected


def test_importances() -> None:
    rows = [{"name": "a|b", "share": 0.75, "splits": 1200}, {"name": "c", "share": 0.25, "splits": 3}]
    workspace = described([])._replace(description={"importances": rows, "importances_note": "Made up."})
    title, explanation, table = card.importances(workspace)
    assert (title, explanation) == ("## Importance of the columns", "Made up.")
    assert table.splitlines() == [
        "| column | share | splits |",
        "|---|---:|---:|",
        r"| a\|b | 75.0% | 1,200 |",
        "| c | 25.0% | 3 |",
    ]
    assert card.importances(described([])) == []
    workspace = workspace._replace(description={"importances": rows * 50})
    _, explanation, table = card.importances(workspace)
    assert "the first 60 of 100 columns" in explanation and len(table.splitlines()) == 62


def coefficient(name: str, estimate: float, error: float | None) -> dict[str, Any]:
    """A row of models/model.json."""
    return {"name": name, "estimate": estimate, "standard_error": error, "low": estimate - 1, "high": estimate + 1}


def described(coefficients: list[dict[str, Any]], note: str | None = None) -> Workspace:
    """A workspace with a linear model of these coefficients."""
    target = "classification" if (HARNESS / "targets/classification.py").exists() else "regression"
    description = {"coefficients": coefficients, "coefficients_note": note}
    return Workspace({}, {"target": target}, {}, description, EPOCHS, lambda feeds: np.concatenate([*feeds]))


def test_coefficients() -> None:
    workspace = described([coefficient("a|b", 2, 0.5), coefficient("c", -1, None)], "Made up.")
    title, explanation, table = card.coefficients(workspace)
    assert title == "## Coefficients"
    assert explanation == f"{evaluation.evaluator(workspace.manifest).COEFFICIENTS} Made up."
    assert table.splitlines() == [
        "| column | estimate | standard error | from | to |",
        "|---|---:|---:|---:|---:|",
        r"| a\|b | 2 | 0.5 | 1 | 3 |",
        "| c | -1 | - | -2 | 0 |",
    ]
    assert card.coefficients(described([])) == []


def test_of_hundreds_of_coefficients_the_strongest_are_shown() -> None:
    rows = [{"class": "yes"} | coefficient(f"x{n}", (-1) ** n * n, 1) for n in range(300)]
    _, explanation, table = card.coefficients(described(rows))
    lines = [line for line in table.splitlines() if line.startswith("| yes")]
    assert len(lines) == card.COEFFICIENTS
    assert lines[0].startswith("| yes | x299 | -299 |")
    assert "60 of 300" in explanation


def test_what_was_left_out_or_filled_in_is_counted_by_column() -> None:
    data = {
        "skipped": 3,
        "duplicates": 0,
        "imputed": 7,
        "violations_by_column": {"age": {"out_of_range": 4, "type": 2}, "a|b": {"null": 1}},
        "warnings": ["age tells\nthe target"],
    }
    assert card.validation(data) == [
        "3 unusable examples were dropped; 7 cells were imputed; 0 exact duplicates are in the same split as their "
        "originals.",
        "| column | violation | cells |\n"
        "|---|---|---:|\n"
        "| age | out of range | 4 |\n"
        "| age | type | 2 |\n"
        r"| a\|b | null | 1 |",
        "Warnings:",
        "- age tells the target",
    ]
    assert len(card.validation({"skipped": 0, "duplicates": 1})) == 1


@pytest.mark.parametrize(
    "epochs",
    [
        pytest.param(history(loss=[1, 0.1], m=[0, 1], val_loss=[1, 0.2], val_m=[0, 1]), id="usual"),
        pytest.param(history(loss=[0.5], m=[1], val_loss=[0.5], val_m=[1]), id="one epoch"),
        pytest.param(history(loss=[1, 0], m=[0, 1], val_loss=[1, -0.2], val_m=[0, 1]), id="not above zero"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_learning_curves(tmp_path: Path, epochs: pd.DataFrame) -> None:
    first, second = tmp_path / "1.png", tmp_path / "2.png"
    plots.learning_curves(epochs, "m", first)
    plots.learning_curves(epochs, "m", second)
    assert first.read_bytes() == second.read_bytes()
    plots.learning_curves(epochs, "m", second, card.step({"iterations": 20}))
    assert first.read_bytes() != second.read_bytes()


def test_a_matplotlibrc_changes_no_plot(tmp_path: Path) -> None:
    drawn = []
    for size in (10, 20):
        (tmp_path / "matplotlibrc").write_text(f"axes.titlesize: {size}\naxes.facecolor: eeeeee\n")
        drawn.append(tmp_path / f"{size}.png")
        code = f"""if True:
            from pathlib import Path
            from my_experiment.harness.evaluation import plots
            figure, axes = plots.plt.subplots()
            axes.set_title("Title")
            plots.save(figure, Path({str(drawn[-1])!r}))"""
        environment = {**os.environ, "MATPLOTLIBRC": str(tmp_path)}
        subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert drawn[0].read_bytes() == drawn[1].read_bytes()


@pytest.mark.parametrize(("examples", "rows"), [(3, [0, 1, 2]), (5, [0, 1, 2, 3, 4]), (9, [0, 2, 4, 6, 8])])
def test_rows_are_evenly_spaced(examples: int, rows: list[int]) -> None:
    assert evenly_spaced(examples, 5).tolist() == rows


@pytest.mark.parametrize("count", [0, 1, 8])
@pytest.mark.filterwarnings("error")
def test_gallery(tmp_path: Path, count: int) -> None:
    images = [np.zeros((4, 5, 1), np.uint8)] * count
    plots.gallery(images, ["$a$ taken for something with a long name (97.3%)"] * count, 20, tmp_path / "mistakes.png")
    assert (tmp_path / "mistakes.png").read_bytes().startswith(b"\x89PNG")
