"""Words of rows on disk: ranks and repeats equal those in memory."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from my_experiment.harness.preparation import table_splits


@pytest.mark.parametrize("words", [[5, 3, 3, 2**63, 2**64 - 1, 0, 7], list(range(1000)), [4]])
def test_ranks_on_disk_equal_sorted_ones(tmp_path: Path, words: list[int]) -> None:
    spool = table_splits.Spool(tmp_path)
    spool.add(np.asarray(words, np.uint64))
    assert [int(spool.smallest(rank)) for rank in range(0, len(words), 7)] == sorted(words)[::7]


def test_repeats_on_disk_are_found(tmp_path: Path) -> None:
    words = np.random.default_rng(0).integers(0, 2_000_000, 2_100_000).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    spool = table_splits.Spool(tmp_path)
    for part in np.array_split(words, 7):
        spool.add(part)
    np.testing.assert_array_equal(
        np.sort(np.concatenate(list(spool.repeated()))), np.flatnonzero(pd.Series(words).duplicated())
    )
