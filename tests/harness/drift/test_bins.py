"""Bins: every value is in one bin, whose name a person can read."""

from collections import Counter

import numpy as np
import pytest
from my_experiment.harness.drift import bins
from my_experiment.harness.drift.recent import MOST, Recent

NAN = float("nan")


def names(found: bins.Bins, *values: object) -> list[str]:
    """The names of the bins of values."""
    dtype = object if found["type"] in ("category", "choice") else float
    return [found["bins"][index] for index in bins.place(found)(np.array(values, dtype))]


def test_a_number_has_deciles_ends_and_a_bin_for_missing_values() -> None:
    values = np.concatenate([np.arange(500.0), [NAN] * 3])
    found = bins.numbers(values)
    assert found is not None
    assert found["bins"][:3] == ["below 0", "0 to 50", "50 to 100"] and len(found["bins"]) == 13
    assert names(found, -0.1, 0, 50, 50.1, 499, 499.1, NAN) == [
        *("below 0", "0 to 50", "0 to 50", "50 to 100", "450 to 499", "above 499", "missing")
    ]
    rows = bins.reference_rows(found, values)
    # The smallest and the largest row are new to the others.
    assert (
        rows[[0, 11, 12]].tolist() == [1, 1, 3]
        and rows.sum() == len(values)
        and {*rows[1:11].tolist()} <= {48, 49, 50, 51}
    )


@pytest.mark.parametrize(("rows", "count"), [(10_000, 10), (400, 10), (399, 5), (100, 5), (99, 0)])
def test_fewer_rows_have_fewer_bins(rows: int, count: int) -> None:
    found = bins.numbers(np.arange(float(rows)))
    assert found is not None and bins.deciles(rows) == count
    assert len(found["bins"]) == max(count, 1) + 3


def test_ties_share_a_bin_and_small_bins_are_merged() -> None:
    zeros = bins.numbers(np.array([0.0] * 480 + [1.0] * 16 + [2.0] * 4))
    assert zeros is not None and zeros["bins"] == ["below 0", "0", "0 to 2", "above 2", "missing"]
    equal = bins.numbers(np.full(500, 7.0))
    assert equal is not None and equal["bins"] == ["below 7", "7", "above 7", "missing"]
    assert names(equal, 6.9, 7, 7.1) == ["below 7", "7", "above 7"]
    assert bins.numbers(np.full(500, NAN)) is None


def test_names_have_as_many_digits_as_tell_them_apart() -> None:
    found = bins.numbers(1e6 + np.arange(500) / 1000)
    assert found is not None and len({*found["bins"]}) == len(found["bins"]) == 13
    sure = bins.ranges(np.concatenate([np.full(300, 0.9999999), np.linspace(0.5, 0.999, 200)]))
    assert sure["bins"][-1] == "above 0.876" and len({*sure["bins"]}) == len(sure["bins"])
    assert names(sure, 0.0, 1.0) == [sure["bins"][0], sure["bins"][-1]]


def test_a_date_is_named_as_in_requests() -> None:
    found = bins.numbers(np.arange(500.0) + 0.5, is_date=True)
    assert found is not None and found["bins"][1] == "1970-01-01T12:00 to 1970-02-20T12:00"


def test_a_category_has_its_frequent_levels_others_new_ones_and_missing() -> None:
    values = [f"level {i:02}" for i in range(30) for _ in range(60 - i)] + ["rare"] * 4 + [""] * 2
    found = bins.categories(values, len(values))
    assert found["bins"] == [*(f"level {i:02}" for i in range(20)), "other", "never seen", "missing"]
    assert names(found, "level 19", "level 20", "rare", "unheard of", "") == [
        *("level 19", "other", "other", "never seen", "missing")
    ]
    rows = bins.reference_rows(found, np.array([*values, "once"], object))
    assert rows[20:].tolist() == [sum(60 - i for i in range(20, 30)) + 4, 1, 2]
    assert bins.categories(["a", "b"] * 300, 600)["bins"] == ["a", "b", "never seen", "missing"]
    assert len(bins.categories(values, 399)["levels"]) == 5


def test_of_very_many_levels_new_ones_are_other() -> None:
    found = bins.categories(["frequent"] * 10 + [f"id {i}" for i in range(500)], 510)
    assert found["bins"] == ["frequent", "other", "missing"] and found["others"] is None
    assert names(found, "frequent", "id 7", "id 9999", "") == ["frequent", "other", "other", "missing"]


def test_a_level_never_takes_the_name_of_another_bin() -> None:
    found = bins.categories(["missing", "other", "x" * 99] * 200, 600)
    assert found["bins"][:3] == ["'missing'", "'other'", "x" * 60 + "... (2)"]
    assert names(found, "missing", "") == ["'missing'", "missing"]


def test_answers_have_a_bin_for_each_class_or_for_the_frequent_ones() -> None:
    assert bins.choices(["b", "a"], [])["bins"] == ["b", "a"]
    classes = [f"{i}" for i in range(30)]
    found = bins.choices(classes, [*classes, *classes[10:]])
    assert found["bins"] == [*sorted(classes[10:]), "other"]
    assert names(found, "12", "3") == ["12", "other"]


def test_an_identical_row_is_fresh_once_among_the_recent_ones() -> None:
    recent = Recent()

    def rows(*values: float) -> dict[str, np.ndarray]:
        return {"x": np.array(values), "text": np.array(["a"] * len(values), object)}

    assert recent.fresh(rows(1, 2, 1, NAN, NAN)).tolist() == [True, True, False, True, False]
    assert recent.fresh(rows(2, 3)).tolist() == [False, True]
    assert recent.fresh(rows(2), np.array([[0.5]])).tolist() == [True]  # with other outputs it is another row
    asked = Counter[bool]()
    for start in range(0, 3 * MOST, 100):  # 1 stays recent, because it is asked again and again
        asked.update(recent.fresh(rows(1, *range(1000 + start, 1100 + start))).tolist())
    assert asked[False] == len(range(0, 3 * MOST, 100))
    assert recent.fresh(rows(1000)).tolist() == [True]  # forgotten


def test_labels_sort_as_the_bins_do() -> None:
    numbers = bins.numbers(np.arange(-50.0, 400))
    assert numbers is not None
    for made in (numbers, bins.ranges(np.arange(500.0))):
        labels = bins.labels(made)
        assert sorted(labels) == [*labels] and [label[3:] for label in labels] == made["bins"]
    assert bins.labels(bins.choices(["wrong", "right"], [])) == ["wrong", "right"]
