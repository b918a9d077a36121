"""Prepared data: a split that stays, and a folder that is replaced as a whole."""

from collections import Counter
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
        splits.require_every_class(["cat", "dog"], counts)
