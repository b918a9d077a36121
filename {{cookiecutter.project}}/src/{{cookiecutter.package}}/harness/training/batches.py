"""Batches of a split, prefetched from memory-mapped arrays."""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import contracts
from .quiet import tf

READ_BYTES = 4 << 20  # number of bytes to read at a time
READ_BATCHES = 16  # maximum number of batches to read at a time


class Split(NamedTuple):
    """The rows and targets of a split.

    Attributes:
        rows: Rows, [N, ...], memory-mapped.
        targets: Targets, [N].
    """

    rows: NDArray[Any]
    targets: NDArray[Any]


class Shard(NamedTuple):
    """A worker's contiguous slice of each batch.

    The sizes of the slices differ by at most one row.

    Attributes:
        rank: Rank of the worker, from 0.
        workers: Number of workers.
    """

    rank: int = 0
    workers: int = 1

    def of(self, start: int, stop: int) -> slice:
        """The worker's rows of the batch from `start` to `stop`, possibly none."""
        first, last = ((stop - start) * part // self.workers for part in (self.rank, self.rank + 1))
        return slice(start + first, start + last)


WHOLE = Shard()


class Order(NamedTuple):
    """Shuffling and augmentation of batches.

    Attributes:
        seed: Seed of the shuffling, which differs in every epoch, and of the augmentation.
        augment: Augmentation of the rows; None for none.
        consumed: Iterations consumed before a restart; their random numbers are skipped.
    """

    seed: int
    augment: contracts.Augment | None = None
    consumed: int = 0


def batches(split: Split, batch_size: int, order: Order | None = None, shard: Shard = WHOLE) -> tf.data.Dataset:
    """A dataset of batches (rows [B, ...], targets [B]), prefetched.

    Up to `READ_BATCHES` batches or `READ_BYTES` are read at a time: a call to Python for each small batch would take as
    long as a step of a small model.

    Args:
        split: The split.
        batch_size: Number of rows in a batch.
        order: Shuffling and augmentation; None reads the rows in their order on disk.
        shard: Slice of each batch to read; it may be empty in the last batch.
    """
    seed = order.seed if order else 0
    count = len(split.targets)
    at_once = batch_size
    if shard.workers == 1:
        at_once *= min(READ_BATCHES, max(1, READ_BYTES // (batch_size * split.rows[0].nbytes)))
    epochs = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True).take(1)
    starts = tf.data.Dataset.range(0, count, at_once)
    read = _reader(split, at_once, None if order is None else seed, shard)
    dataset = epochs.flat_map(lambda epoch: starts.map(lambda start: read(start, epoch)))
    if at_once > batch_size:
        dataset = dataset.rebatch(batch_size)
    # `rebatch` loses the number of batches, and Keras warns when a dataset of unknown length ends.
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(number(count, batch_size)))
    if order and order.augment:
        dataset = order.augment(dataset, seed + shard.rank)
    for _ in range(order.consumed if order else 0):  # starting an iteration consumes random numbers
        next(iter(dataset))
    return dataset.prefetch(2)


def number(rows: int, batch_size: int) -> int:
    """Number of batches in an epoch; the last one may be smaller."""
    return (rows + batch_size - 1) // batch_size


def _reader(split: Split, at_once: int, seed: int | None, shard: Shard) -> Any:
    """A function (first row, epoch's random number) -> tensors of rows and targets."""
    count = len(split.targets)

    @lru_cache(maxsize=2)  # this epoch and the next, which is prefetched
    def permutation(epoch: int) -> NDArray[np.uint32]:
        # 4 bytes of memory for each row; tf.data's shuffle needs 250, and as much time as training a small model.
        return np.random.default_rng((seed or 0, epoch)).permutation(np.arange(count, dtype=np.uint32))

    def take(start: np.int64, epoch: np.int64) -> tuple[NDArray[Any], NDArray[Any]]:
        part = shard.of(int(start), min(int(start) + at_once, count))
        places = part if seed is None else permutation(int(epoch))[part]
        return split.rows[places], split.targets[places]

    def tensors(start: tf.Tensor, epoch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # stateful=False: the result depends only on the arguments, so that deterministic mode allows prefetching.
        types = (split.rows.dtype, split.targets.dtype)
        rows, targets = tf.numpy_function(take, [start, epoch], types, stateful=False)
        rows.set_shape((None, *split.rows.shape[1:]))
        targets.set_shape((None,))
        return rows, targets

    return tensors
