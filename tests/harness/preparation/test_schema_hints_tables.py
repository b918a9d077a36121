"""What `schema` notices in a new table, and that each hint names the key to set."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from my_experiment.harness.inputs.table_notation import NULLS, Notation
from my_experiment.harness.preparation import schema_hints, table_guesses
from tables_made import RAW, frame, prepare, unchecked

pytestmark = pytest.mark.usefixtures("workspace")
ROWS = 400
RANDOM = np.random.default_rng(0)
CLASSES = RANDOM.permutation(np.repeat(["no", "yes"], ROWS // 2))
DAYS = pd.date_range("2024-01-01", periods=ROWS)


def written(numbers: Any, form: str, marks: str = ",.") -> list[str]:
    """Numbers in a notation: `marks` are those between thousands and before decimals."""
    table = str.maketrans({",": marks[0], ".": marks[1]})
    return [form.replace("N", f"{number:,.2f}".translate(table)) for number in numbers]


LARGE = RANDOM.uniform(1, 50_000, ROWS)
SMALL = RANDOM.uniform(0, 9, ROWS)
# Cells of the column `x` -> the hint.
COLUMNS: dict[str, tuple[Any, str]] = {
    "decimal comma": (written(SMALL, "N", " ,"), 'numbers with a decimal comma, such as .*: set data.decimal: ","$'),
    "German": (
        written(LARGE, "N", ".,"),
        'a decimal comma and a point between .*: set data.decimal: "," and data.thousands: "."$',
    ),
    "French": (
        written(LARGE, "N", "\u202f,"),
        'a decimal comma and a blank .*: set data.decimal: "," and data.thousands: " "$',
    ),
    "English": (written(LARGE, "N"), 'numbers with a comma between thousands, such as .*: set data.thousands: ","$'),
    "Swiss": (written(LARGE, "N", "'."), 'an apostrophe between thousands, such as .*: set data.thousands: "\'"$'),
    "currency": (written(SMALL, "$N"), r"numbers with '\$', such as '\$.*: write the cells without it"),
    "per cent": (written(SMALL, "N %"), "numbers with '%', such as .*: write the cells without it"),
    "unit": (written(LARGE, "N km/h", ".,"), "numbers with 'km/h', such as .*: write the cells without it"),
    "other dates": (
        DAYS.strftime("%d.%m.%Y"),
        r"dates in another notation, such as '01\.01\.2024': write them as 2026",
    ),
    "dates as numbers": (DAYS.strftime("%Y%m%d"), "dates in another notation, such as '20240101': write them as 2026"),
    "identifier": (
        [f"n{row}" for row in RANDOM.permutation(ROWS)],
        r"a different text in each row: .*data\.id: x;.*data\.drop: \[x\]",
    ),
    "row number": (range(1, ROWS + 1), r"a different whole number in each row: .*data\.id: x;.*data\.drop: \[x\]"),
    "codes": (RANDOM.integers(1, 5, ROWS), r"few whole numbers, such as 1, 2, 3, 4: .*data\.categories: \[x\]"),
    "codes with a gap": (
        [None, *RANDOM.integers(1, 5, ROWS - 1)],
        r"few whole numbers, such as 1, 2, 3, 4: .*data\.cat",
    ),
    "free text": (
        [f"a long note about nothing, the {row}th" for row in range(ROWS)],
        r"free text, such as .*: data\.drop: \[x\]",
    ),
    "constant": (["v1"] * ROWS, r"the single value 'v1': data\.drop: \[x\]"),
    "leak": (np.where(CLASSES == "yes", "ja", "nein"), r"determines the target: .*data\.drop: \[x\]"),
    "a leak of gaps": (
        [cell if name == "yes" else None for cell, name in zip(SMALL.round(3), CLASSES, strict=True)],
        r"is filled for some classes and empty for all others: .*data\.drop: \[x\]",
    ),
    "nearly a leak": (
        np.where((CLASSES == "yes") ^ (np.arange(ROWS) == 7), "a", "b"),
        r"gives the class in 99\.8% of the rows: ",
    ),
    "a gap": ([None, *SMALL[1:].round(3)], ""),
    "a question mark": (
        ["?", *SMALL[1:].round(3)],
        r"'\?' in 1 cell: if it means a missing value, add '\?' to data\.nulls",
    ),
    "a code for missing": (
        [-999, *LARGE[1:].round(3)],
        r"'-999' in 1 cell: if it means a missing value, add '-999' to data\.nulls",
    ),
    "numbers": (SMALL.round(3), ""),
    "categories": (RANDOM.choice(["red", "green"], ROWS), ""),
    "flags": (RANDOM.integers(0, 2, ROWS), ""),
}


def hinted(rows: pd.DataFrame, **changes: Any) -> list[str]:
    """The hints for these rows."""
    RAW.mkdir(parents=True, exist_ok=True)
    rows.to_csv(RAW / "table.csv", index=False)
    return schema_hints.hints(unchecked(**{"id": None, "time": None, "group": None} | changes))


@pytest.mark.parametrize("case", COLUMNS)
def test_a_column_is_looked_at(case: str) -> None:
    cells, expected = COLUMNS[case]
    found = hinted(pd.DataFrame({"x": cells, "y": CLASSES}))
    assert len(found) == (expected != "")
    if expected:
        (hint,) = found
        assert hint.startswith("column 'x': ")
        assert pd.Series(found).str.contains(expected, regex=True).all(), hint


def test_columns_alike_are_named_together_and_quoted() -> None:
    rows = pd.DataFrame({"a": 1, "b: c": 1, "y": CLASSES})
    assert hinted(rows) == ["columns 'a', 'b: c': the single value '1': data.drop: [a, \"b: c\"]"]
    many = pd.DataFrame({f"n{index}": 1 for index in range(12)} | {"y": CLASSES})
    assert hinted(many)[0].endswith("'n9' and 2 more: the single value '1': data.drop: "
                                    "[n0, n1, n2, n3, n4, n5, n6, n7, n8, n9, ...]")  # fmt: skip


def test_what_is_configured_is_not_hinted_at() -> None:
    rows = pd.DataFrame({"price": written(LARGE, "N", ".,"), "code": COLUMNS["codes"][0], "y": CLASSES})
    assert len(hinted(rows)) == 2
    assert hinted(rows, decimal=",", thousands=".", categories=["code"]) == []
    assert "a point between thousands" in hinted(rows, decimal=",", categories=["code"])[0]


def test_a_point_in_a_file_of_commas_is_noticed() -> None:
    rows = pd.DataFrame({"a": SMALL.round(4), "y": CLASSES})
    (hint,) = hinted(rows, decimal=",")
    assert hint.startswith("column 'a': numbers with a decimal point, such as ")


def test_the_target_is_looked_at_as_well() -> None:
    rare = pd.DataFrame({"a": SMALL, "y": np.where(np.arange(ROWS) % 100 == 5, "yes", "no")})
    assert hinted(rare) == ["column 'y': class 'yes' has 4 rows: data.split: stratified, so that no split lacks it"]
    assert hinted(rare, split="stratified") == []
    rows = pd.DataFrame({"a": SMALL, "y": written(LARGE, "N", ".,")})
    (hint,) = hinted(rows, problem="regression")
    assert hint.startswith("column 'y': numbers with a decimal comma and a point between thousands")


def test_a_number_that_is_the_target_is_noticed() -> None:
    rows = pd.DataFrame({"a": SMALL, "b": 2 * LARGE + 1, "y": LARGE})
    (hint,) = hinted(rows, problem="regression")
    assert hint.startswith("column 'b': is as good as the target")


def test_prepare_hints_at_numbers_that_have_become_categories() -> None:
    rows = frame().assign(price=written(LARGE, "N", ".,"))
    (warning,) = [warning for warning in prepare(rows)["warnings"] if "'price'" in warning]
    assert "categories that are numbers with a decimal comma and a point between thousands, such as '" in warning
    assert warning.endswith(
        'if all are written so, set data.decimal: "," and data.thousands: "." and infer the schema again'
    )


@pytest.mark.parametrize("text", ["192.168.1.1", "555-1234", "A12", "12:30", "1,2,3", "2.0.1", "X-1", "00-11"])
def test_other_texts_are_no_numbers(text: str) -> None:
    assert table_guesses.notation({text: 9, f"{text[::-1]}": 9}, Notation(NULLS)) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("?", True),
        ("-", True),
        ("N.A.", True),
        ("Unknown", True),
        ("#REF!", True),
        ("\\N", True),
        ("no", False),
        ("a-b", False),
    ],
)
def test_words_for_a_missing_value(text: str, expected: bool) -> None:
    assert table_guesses.missing(text) == expected
