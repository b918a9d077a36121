"""Numbers and tables as text."""

from typing import Any

import pytest
from my_experiment.harness.core import errors, text
from support import HOSTILE, read_as_text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.95, "0.95"),
        (1.0, "1"),
        (0.0, "0"),
        (41.234, "41.23"),
        (-1234.4, "-1,234"),
        (5500, "5,500"),
        (123456.7, "123,457"),
        (0.00012345, "0.0001234"),
        (1.5e-7, "1.5e-07"),
        (2.5e15, "2.5e+15"),
        (None, "-"),
        (float("nan"), "-"),
    ],
)
def test_numbers_are_written_as_a_person_reads_them(value: Any, expected: str) -> None:
    assert text.number(value) == expected


def test_a_number_of_a_table_has_no_marks() -> None:
    """2024 may be a year, and is one also beside 11700."""
    assert [text.entry(value) for value in (2024.0, 11700.0, 0.5, None)] == ["2024", "11700", "0.5", "-"]


@pytest.mark.parametrize(
    ("share", "digits", "expected"),
    [
        (1.0, 1, "100.0%"),
        (0.9997, 1, "> 99.9%"),
        (0.9989, 1, "99.9%"),
        (0.5, 1, "50.0%"),
        (0.0004, 1, "< 0.1%"),
        (0.0, 1, "0.0%"),
        (0.997, 0, "> 99%"),
        (0.25, 0, "25%"),
    ],
)
def test_a_share_that_has_exceptions_does_not_become_all_or_none(share: float, digits: int, expected: str) -> None:
    assert text.percent(share, digits) == expected


@pytest.mark.parametrize(
    ("error", "baseline", "expected"),
    [
        (1.0, 1.0, "no better"),
        (0.0, 0.0, "no better"),
        (1.1, 1.0, "the model is worse than the baseline"),
        (0.1, 0.0, "the model is worse than the baseline"),
        (0.75, 1.0, "25% lower"),
        (0.001, 1.0, "> 99% lower"),
        (0.0, 1.0, "100% lower"),
    ],
)
def test_a_model_is_compared_with_its_baseline(error: float, baseline: float, expected: str) -> None:
    assert text.compared(error, baseline, "lower") == expected


def test_a_table_escapes_its_cells() -> None:
    assert text.table(("a", "b|c"), [("x|y", 1), ("two\nlines", None)]) == [
        r"| a | b\|c |",
        "|---|---:|",
        r"| x\|y | 1 |",
        "| two lines | None |",
    ]


@pytest.mark.parametrize("name", [*HOSTILE, "a_b", "f (x) - 1 < 2 & 3", "1.5"])
def test_a_name_is_text_in_markdown(name: str) -> None:
    cells = "\n".join(text.table(("x", "y"), [(name, 1)]))
    code = "\n".join(text.table(("x", "y"), [(text.code(name), 1)], markdown=True))
    for markdown in (f"It is {text.escaped(name)}.", f"- **{text.escaped(name)}**: x", f"It is {text.code(name)}."):
        assert name in read_as_text(markdown)
    assert f"\n{name}\n" in read_as_text(cells) and f"\n{name}\n" in read_as_text(code)
    assert text.escaped("a_b") == "a_b"


def test_many_texts_are_shortened() -> None:
    texts = [f"t{number}" for number in range(10)]
    assert errors.shortened(texts) == ", ".join(texts)
    assert errors.shortened([*texts, *"ab"], separator="; ") == "; ".join(texts) + " and 2 more"
    assert errors.shortened(texts, 3) == "t0, t1, t2 and 7 more"
