"""Batches: every row once, in a seeded order, and each worker its part of them."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.keras


def test_batches_cover_every_example_once_in_a_seeded_order() -> None:
    from my_experiment.harness.training import batches as reading

    rows = np.arange(50, dtype=np.uint8).reshape(50, 1, 1, 1)
    data = rows, rows[:, 0, 0, 0].astype(np.int64)

    def epochs(seed: int | None) -> list[list[int]]:
        order = None if seed is None else reading.Order(seed)
        read = reading.batches(reading.Split(*data), 16, order)
        pairs = [[(part.numpy(), targets.numpy()) for part, targets in read] for _ in range(2)]
        for part, targets in pairs[0]:
            assert (part[:, 0, 0, 0] == targets).all()
        return [np.concatenate([targets for _, targets in epoch]).tolist() for epoch in pairs]

    assert epochs(None) == [list(range(50))] * 2
    first, second = epochs(1)
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second
    assert epochs(1) == [first, second] != epochs(2)


@pytest.mark.parametrize("count", [50, 49])  # the last batch has two rows, or one: fewer than there are workers
def test_workers_read_every_row_once_between_them(count: int) -> None:
    from my_experiment.harness.training import batches as reading

    rows = np.arange(count, dtype=np.int64).reshape(count, 1)

    split = reading.Split(rows, rows[:, 0])

    def epochs(rank: int, size: int) -> list[list[list[int]]]:
        read = reading.batches(split, 16, reading.Order(1), reading.Shard(rank, size))
        return [[targets.numpy().tolist() for _, targets in read] for _ in range(2)]

    whole, parts = epochs(0, 1), [epochs(rank, 3) for rank in range(3)]
    for epoch in range(2):
        for batch, *shares in zip(whole[epoch], *(part[epoch] for part in parts), strict=True):
            assert batch == list(itertools.chain(*shares))
            assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_worker_reads_only_its_rows_from_disk(tmp_path: Path) -> None:
    from my_experiment.harness.training import batches as reading

    np.save(tmp_path / "rows.npy", np.arange(64, dtype=np.int64).reshape(64, 1))
    seen: list[int] = []

    class Watched(np.memmap):
        def __getitem__(self, index: Any) -> Any:
            found = super().__getitem__(index)
            seen.extend(np.asarray(found).ravel().tolist())
            return found

    rows = np.load(tmp_path / "rows.npy", mmap_mode="r").view(Watched)
    split = reading.Split(rows, np.arange(64))
    read = reading.batches(split, 16, reading.Order(0), reading.Shard(1, 2))
    targets = [targets.numpy().tolist() for _, targets in read]
    assert sorted(seen) == sorted(itertools.chain(*targets))
    assert len(seen) == 32
