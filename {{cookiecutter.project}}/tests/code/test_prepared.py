"""Prepared data: a split that stays, and arrays that stay on disk."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import module

prepared = module("data.prepared")

CLASSES, SHAPE = ["cat", "dog"], (2, 3, 1)


def examples(numbers: range) -> Iterator[Any]:
    """An example for each number; the same number gives the same example."""
    for number in numbers:
        image = np.full(SHAPE, number % 256, np.uint8)
        yield prepared.Example(f"{number}.png", number % 2, f"digest of {number}", image)


def write(folder: Path, items: Iterator[Any]) -> None:
    """Writes them with a third each for validation and test."""
    prepared.write(items, lambda digest: prepared.assign(digest, 0, 1 / 3, 1 / 3), CLASSES, SHAPE, 99, folder)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("validation", "test"), [(0.15, 0.15), (0.05, 0.4), (0.001, 0.499)])
def test_the_fractions_are_met(seed: int, validation: float, test: float) -> None:
    count = 5000
    found = Counter(prepared.assign(str(number), seed, validation, test) for number in range(count))
    expected = {"train": 1 - validation - test, "validation": validation, "test": test}
    for split, fraction in expected.items():
        deviation = (fraction * (1 - fraction) / count) ** 0.5
        assert abs(found[split] / count - fraction) < 4 * deviation


def test_another_seed_gives_an_independent_split() -> None:
    digests = [str(number) for number in range(2000)]
    first, second = ([prepared.assign(digest, seed, 0.2, 0.3) for digest in digests] for seed in (0, 1))
    agree = np.mean([a == b for a, b in zip(first, second, strict=True)])
    assert abs(agree - (0.2**2 + 0.3**2 + 0.5**2)) < 0.05


def test_a_larger_test_split_takes_from_the_others_and_gives_nothing_back() -> None:
    for number in range(1000):
        if prepared.assign(str(number), 0, 0.2, 0.1) == "test":
            assert prepared.assign(str(number), 0, 0.2, 0.3) == "test"


def test_other_examples_move_none(tmp_path: Path) -> None:
    write(tmp_path / "few", examples(range(0, 300, 3)))
    write(tmp_path / "many", examples(range(300)))
    for split in prepared.SPLITS:
        few, many = (prepared.names(split, tmp_path / folder) for folder in ("few", "many"))
        assert few
        assert few == [name for name in many if int(name.removesuffix(".png")) % 3 == 0]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write(tmp_path / "prepared", examples(range(100)))
    manifest = prepared.manifest(tmp_path / "prepared")
    assert (manifest["classes"], manifest["shape"], manifest["max_pixels"]) == (CLASSES, list(SHAPE), 99)
    total = 0
    for split in prepared.SPLITS:
        images, labels = prepared.load(split, tmp_path / "prepared")
        numbers = [int(name.removesuffix(".png")) for name in prepared.names(split, tmp_path / "prepared")]
        assert isinstance(images, np.memmap)
        assert not images.flags.writeable
        assert (images.dtype, images.shape, labels.dtype) == (np.uint8, (len(numbers), *SHAPE), np.int64)
        assert images[:, 0, 0, 0].tolist() == numbers
        assert labels.tolist() == [number % 2 for number in numbers]
        assert manifest["counts"][split] == np.bincount(labels, minlength=2).tolist()
        total += len(numbers)
    assert total == 100


def test_the_same_examples_give_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        write(tmp_path / folder, examples(range(50)))
    one, two = (
        {file.relative_to(tmp_path / folder): file.read_bytes() for file in (tmp_path / folder).rglob("*.*")}
        for folder in ("one", "two")
    )
    assert len(one) == 10
    assert one == two


def test_another_label_changes_the_digest(tmp_path: Path) -> None:
    write(tmp_path / "one", examples(range(50)))
    write(tmp_path / "two", (example._replace(label=1 - example.label) for example in examples(range(50))))
    one, two = (prepared.manifest(tmp_path / folder)["digests"] for folder in ("one", "two"))
    assert not set(one.values()) & set(two.values())


def test_an_interruption_leaves_what_was_there(tmp_path: Path) -> None:
    def interrupted() -> Iterator[Any]:
        yield from examples(range(30))
        raise KeyboardInterrupt

    folder = tmp_path / "prepared"
    write(folder, examples(range(50)))
    before = prepared.manifest(folder)
    with pytest.raises(KeyboardInterrupt):
        write(folder, interrupted())
    assert prepared.manifest(folder) == before
    write(folder, examples(range(60)))
    assert sum(len(prepared.names(split, folder)) for split in prepared.SPLITS) == 60
    assert sorted(path.name for path in tmp_path.iterdir()) == ["prepared"]


def test_names_survive_any_character(tmp_path: Path) -> None:
    names = ['cat/a,b "c".png', "Lövå ✨/ü.png", "dog/line\nbreak.png"]
    items = [example._replace(name=name) for example, name in zip(examples(range(3)), names, strict=True)]
    write(tmp_path / "prepared", iter(items))
    assert {name for split in prepared.SPLITS for name in prepared.names(split, tmp_path / "prepared")} == set(names)
