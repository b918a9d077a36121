"""What every evaluation shares: the model card, Markdown, the pictures of all tasks."""

from pathlib import Path
from typing import Any
import numpy as np
import pandas as pd
import pytest
from my_experiment.harness.core import text as core_text
from my_experiment.harness.core import text
from my_experiment.harness.evaluation import card
from my_experiment.harness.evaluation import measures
from my_experiment.harness.evaluation import plots



def history(**columns: list[float]) -> pd.DataFrame:
    """What `train` leaves behind."""
    return pd.DataFrame({"epoch": range(len(next(iter(columns.values()))))} | columns)



@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.95, "0.95"),
        (1.0, "1"),
        (0.0, "0"),
        (41.234, "41.23"),
        (-1234.4, "-1234"),
        (123456.7, "123,457"),
        (0.00012345, "0.0001234"),
        (1.5e-7, "1.5e-07"),
        (2.5e15, "2.5e+15"),
        (None, "-"),
        (float("nan"), "-"),
    ],
)
def test_numbers_are_written_as_a_person_reads_them(value: Any, text: str) -> None:
    assert core_text.number(value) == text



@pytest.mark.parametrize(
    ("error", "baseline", "said"),
    [
        (1.0, 1.0, "no better"),
        (0.0, 0.0, "no better"),
        (1.1, 1.0, "the model is worse than that"),
        (0.1, 0.0, "the model is worse than that"),
        (0.75, 1.0, "25% lower"),
        (0.0, 1.0, "100% lower"),
    ],
)
def test_the_first_lines_say_what_the_model_is_worth(error: float, baseline: float, said: str) -> None:
    assert text.compared(error, baseline, "lower") == said



def test_a_table_holds_whatever_it_is_given() -> None:
    assert text.table(("a", "b|c"), [("x|y", 1), ("two\nlines", None)]) == [
        r"| a | b\|c |",
        "|---|---:|",
        r"| x\|y | 1 |",
        "| two lines | None |",
    ]



def test_an_undefined_metric_is_left_out() -> None:
    report = measures.bootstrap(lambda weights: {"sum": weights.sum(), "nan": float("nan")}, 10, 100, 0.9, seed=0)
    assert report == {"sum": {"value": 10, "low": 10, "high": 10}}

EPOCHS = history(loss=[1, 0.5, 0.2], m=[5, 3, 2], val_loss=[1, 0.4, 0.6], val_m=[4, 5, 6])


@pytest.mark.parametrize(
    ("higher", "monitor", "said"),
    [
        (True, "val_loss", "3 epochs; the weights are those of epoch 1: validation loss 0.4000, validation m 5."),
        (True, "val_m", "3 epochs; the weights are those of epoch 2: validation loss 0.6000, validation m 6."),
        (False, "val_m", "3 epochs; the weights are those of epoch 0: validation loss 1.0000, validation m 4."),
        (False, None, "Fitted exactly, not epoch by epoch: validation loss 0.6000, validation m 6."),
    ],
)
def test_the_card_names_the_epoch_that_was_kept(higher: bool, monitor: str | None, said: str) -> None:
    assert card.training(EPOCHS, "m", higher, monitor) == said



def coefficient(name: str, estimate: float, error: float | None) -> dict[str, Any]:
    """A row of models/model.json."""
    return {"name": name, "estimate": estimate, "standard_error": error, "low": estimate - 1, "high": estimate + 1}



def test_coefficients() -> None:
    lines = card.coefficients([coefficient("a|b", 2, 0.5), coefficient("c", -1, None)], "How to read.")
    assert lines[:6] == [
        "## Coefficients",
        "",
        "How to read.",
        "",
        "| column | estimate | standard error | from | to |",
        "|---|---:|---:|---:|---:|",
    ]
    assert lines[6:8] == [r"| a\|b | 2 | 0.5 | 1 | 3 |", "| c | -1 | - | -2 | 0 |"]
    assert card.coefficients([], "How to read.") == []



def test_of_hundreds_of_coefficients_the_strongest_are_shown() -> None:
    rows = [{"class": "yes"} | coefficient(f"x{n}", (-1) ** n * n, 1) for n in range(300)]
    lines = card.coefficients(rows, "How to read.")
    shown = [line for line in lines if line.startswith("| yes")]
    assert len(shown) == card.COEFFICIENTS
    assert shown[0].startswith("| yes | x299 | -299 |")
    assert any("60 of 300" in line for line in lines)



def test_what_was_left_out_or_filled_in_is_counted_by_column() -> None:
    data = {
        "skipped": 3,
        "duplicates": 0,
        "imputed": 7,
        "violations_by_column": {"age": {"out_of_range": 4, "type": 2}, "a|b": {"null": 1}},
        "warnings": ["age tells\nthe target"],
    }
    assert card.validation(data) == [
        "3 unusable examples were left out; 7 cells were imputed; 0 exact duplicates lie in the same split as their "
        "originals.",
        "",
        "| column | violation | cells |",
        "|---|---|---:|",
        "| age | out of range | 4 |",
        "| age | type | 2 |",
        r"| a\|b | null | 1 |",
        "",
        "Warnings:",
        "",
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



@pytest.mark.parametrize(("examples", "rows"), [(3, [0, 1, 2]), (5, [0, 1, 2, 3, 4]), (9, [0, 2, 4, 6, 8])])
def test_rows_are_spread_evenly(examples: int, rows: list[int]) -> None:
    assert plots.spread(examples, 5).tolist() == rows



@pytest.mark.parametrize("count", [0, 1, 8])
@pytest.mark.filterwarnings("error")
def test_gallery(tmp_path: Path, count: int) -> None:
    images = [np.zeros((4, 5, 1), np.uint8)] * count
    plots.gallery(images, ["$a$ taken for something with a long name (97.3%)"] * count, 20, tmp_path / "mistakes.png")
    assert (tmp_path / "mistakes.png").read_bytes().startswith(b"\x89PNG")



