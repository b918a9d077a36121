"""Prepared data: a split that stays, and a folder that is replaced as a whole."""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from my_experiment.harness import prepared
from my_experiment.harness.contracts import Splits
from my_experiment.harness.core import errors
from my_experiment.harness.preparation import splits


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("validation", "test"), [(0.15, 0.15), (0.05, 0.4), (0.001, 0.499)])
def test_the_fractions_are_met(seed: int, validation: float, test: float) -> None:
    count = 5000
    examples = Counter(splits.assign(str(number), Splits(seed, validation, test)) for number in range(count))
    expected = {"train": 1 - validation - test, "validation": validation, "test": test}
    for split, fraction in expected.items():
        deviation = (fraction * (1 - fraction) / count) ** 0.5
        assert abs(examples[split] / count - fraction) < 4 * deviation


def test_another_seed_gives_an_independent_split() -> None:
    digests = [str(number) for number in range(2000)]
    first, second = ([splits.assign(digest, Splits(seed, 0.2, 0.3)) for digest in digests] for seed in (0, 1))
    agree = np.mean([a == b for a, b in zip(first, second, strict=True)])
    assert abs(agree - (0.2**2 + 0.3**2 + 0.5**2)) < 0.05


def test_a_larger_test_split_takes_from_the_others_and_gives_nothing_back() -> None:
    for number in range(1000):
        if splits.assign(str(number), Splits(0, 0.2, 0.1)) == "test":
            assert splits.assign(str(number), Splits(0, 0.2, 0.3)) == "test"


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    folder = tmp_path / "prepared"
    with splits.replaced(folder) as new:
        splits.write_manifest({"examples": 1}, new)
        (new / "train/old.npy").touch()
    with splits.replaced(folder) as new:
        splits.write_manifest({"examples": 2}, new)
        assert prepared.manifest(folder) == {"examples": 1}
    assert prepared.manifest(folder) == {"examples": 2}
    assert sorted(path.name for path in folder.rglob("*")) == ["manifest.json", *sorted(prepared.SPLITS)]


def test_an_interruption_leaves_what_was_there(tmp_path: Path) -> None:
    folder = tmp_path / "prepared"
    with splits.replaced(folder) as new:
        splits.write_manifest({"examples": 1}, new)
    with pytest.raises(KeyboardInterrupt), splits.replaced(folder):
        raise KeyboardInterrupt
    assert prepared.manifest(folder) == {"examples": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["prepared"]


def test_a_class_without_example_is_named() -> None:
    counts = {"train": [3, 1], "validation": [1, 0], "test": [0, 2]}
    with pytest.raises(errors.UserError, match=r"^class 'dog' has no example in split validation; class 'cat' .* test"):
        splits.require_every_class(["cat", "dog"], counts, "random", "leave it out")


# A stratified split ---------------------------------------------------------------------------------------------------


def divided(positions: Iterable[int], fractions: Splits) -> dict[int, int]:
    """Position -> split of the examples of one class, as a stratified split divides them."""
    found = {
        place: 2 if place < fractions.test else 1 if place < fractions.test + fractions.validation else 0
        for place in positions
    }
    strata = splits.Strata()
    strata.add(7, found)
    return found | strata.moves()


# Of 100 positions, so that small classes and missing splits are frequent.
HUNDRED = Splits(0, 15, 15)


@pytest.mark.parametrize("seed", range(20))
def test_a_stratified_split_gives_each_split_an_example_and_moves_few(seed: int) -> None:
    order = np.random.default_rng(seed).permutation(100).tolist()
    before: dict[int, int] = {}
    for number in range(1, 101):
        after = divided(order[:number], HUNDRED)
        random = {place: 2 if place < 15 else 1 if place < 30 else 0 for place in order[:number]}
        lacking = {0, 1, 2} - {*random.values()}
        if number >= 3:
            assert {*after.values()} == {0, 1, 2}
            assert sum(after[place] != random[place] for place in after) == len(lacking)
        if number > 3:  # one more example moves at most one other for each split that lacks one
            assert sum(after[place] != split for place, split in before.items()) <= len(lacking) + 1
        before = after
    assert sum(before[place] != split for place, split in random.items()) == 0


def test_classes_that_no_split_lacks_stay_where_their_hash_leads() -> None:
    strata = splits.Strata()
    strata.add(0, {10: 0, 20: 1, 30: 2})
    strata.add(0, {5: 0})
    strata.add(1, {11: 0, 12: 0})  # too few for three splits
    assert not strata.lacks(0)
    assert strata.lacks(1)
    assert strata.moves() == {}
    strata.add(1, {13: 0})
    assert strata.moves() == {11: 1, 13: 2}


@pytest.mark.parametrize(
    ("division", "counts", "remedy"),
    [
        ("random", [3, 0, 0], "set data.split: stratified in conf/data/"),
        ("random", [2, 0, 0], "a class needs 3 different examples, one for each split: add some, or leave it out"),
        ("stratified", [9, 0, 0], "a class needs 3 different examples, one for each split"),
        ("group", [9, 0, 0], "add examples, raise prepare.test/validation or change prepare.seed"),
    ],
)
def test_a_class_without_example_has_a_remedy(division: str, counts: list[int], remedy: str) -> None:
    by_split = dict(zip(prepared.SPLITS, [[number, 9] for number in counts], strict=True))
    with pytest.raises(errors.UserError, match=re.escape(remedy)):
        splits.require_every_class(["rare", "frequent"], by_split, division, "leave it out")
