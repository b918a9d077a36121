"""The reference of pictures: brightness, contrast and sharpness, in any size."""

import time
from typing import Any

import numpy as np
import pytest
from my_experiment.harness.core.errors import UserError
from my_experiment.harness.drift import images, reference
from my_experiment.harness.drift.evidence import evidence, limit, psi
from my_experiment.harness.drift.reference import Reference

DESCRIPTION: dict[str, Any] = {
    "input": "images",
    "target": "classification",
    "sha256": "ab" * 32,
    "classes": ["a", "b"],
}


def pictures(rng: np.random.Generator, count: int, size: int = 12) -> np.ndarray:
    """Blocks of 3 x 3 equal pixels, each picture a little brighter or darker."""
    blocks = rng.uniform(60, 160, (count, size // 3, size // 3, 1)) + rng.normal(0, 10, (count, 1, 1, 1))
    return blocks.repeat(3, 1).repeat(3, 2).astype(np.float32)


def test_the_numbers_are_what_they_are_called() -> None:
    flat = np.full((1, 8, 8, 3), 7, np.float32)
    assert {name: values.tolist() for name, values in images.values({"image": flat}, images.COLUMNS).items()} == {
        "brightness": [7],
        "contrast": [0],
        "sharpness": [0],
    }
    board = np.indices((8, 8)).sum(0)[None, ..., None].astype(np.float32) % 2 * 10
    found = images.values({"image": board}, images.COLUMNS)
    assert [found[name][0] for name in images.COLUMNS] == pytest.approx([5, 5, 10], rel=0.05)
    for shape in ((1, 1, 1, 1), (1, 1, 90, 3), (2, 300, 2, 1)):
        assert all(
            np.isfinite(each).all()
            for each in images.values({"image": np.ones(shape, np.float32)}, images.COLUMNS).values()
        )


def test_a_large_picture_takes_no_longer_than_a_small_one() -> None:
    def spent(size: int) -> float:
        image = np.random.default_rng(0).uniform(0, 255, (1, size, size, 3)).astype(np.float32)
        start = time.process_time()
        for _ in range(50):
            images.values({"image": image}, images.COLUMNS)
        return time.process_time() - start

    assert min(spent(1500) for _ in range(3)) < 5 * min(spent(64) for _ in range(3))


def test_planted_changes_alarm_and_the_unchanged_do_not() -> None:
    rng, output = np.random.default_rng(1), np.tile(np.array([[0.9, 0.1]], np.float32), (500, 1))
    content = reference.build(
        DESCRIPTION,
        [{"image": pictures(rng, 1000)}],
        (output[:10], np.zeros(10)),
        dict.fromkeys(images.COLUMNS, "number"),
    )
    known = Reference(content, DESCRIPTION)
    assert [each.column for each in known.variables] == [*images.COLUMNS]
    now = pictures(rng, 500)
    blurred = (now + np.roll(now, 1, 1) + np.roll(now, 1, 2) + np.roll(now, (1, 1), (1, 2))) / 4
    changes = {"unchanged": now, "blur": blurred, "fog": now * 0.6 + 90, "dark": now * 0.5, "inverted": 255 - now}
    alarms = {}
    for name, image in changes.items():
        counts = known.count({"image": image}, output)
        pairs = [(each.rows, counts[each.kind, each.column]) for each in known.variables]
        alarms[name] = any(evidence(*pair) > limit(3) and psi(*pair) > 0.1 for pair in pairs)
    assert alarms == {name: name != "unchanged" for name in changes}


def test_another_column_is_refused() -> None:
    assert images.columns(DESCRIPTION, []) == dict.fromkeys(images.COLUMNS, "number")
    assert [*images.columns(DESCRIPTION, ["contrast"])] == ["contrast"]
    with pytest.raises(
        UserError, match="'color' is not counted of pictures; choose from brightness, contrast, sharpness"
    ):
        images.columns(DESCRIPTION, ["color"])
