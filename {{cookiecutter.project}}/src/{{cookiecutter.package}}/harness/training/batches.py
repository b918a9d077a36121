"""Batches of a split, read from memory-mapped arrays while the model works."""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import contracts
from .quiet import tf

READ_BYTES = 4 << 20  # read at a time
READ_BATCHES = 16  # read at a time, at most


class Split(NamedTuple):
    """The rows and targets of a split.

    Attributes:
        rows: [N, ...], memory-mapped.
        targets: [N].
    """

    rows: NDArray[Any]
    targets: NDArray[Any]


class Shard(NamedTuple):
    """The contiguous slice of each batch for one worker; sizes differ by at most one row.

    Attributes:
        rank: Rank of the worker, from 0.
        workers: Number of workers.
    """

    rank: int = 0
    workers: int = 1

    def of(self, start: int, stop: int) -> slice:
        """The worker's rows of the batch from `start` to `stop`; there may be none."""
        first, last = ((stop - start) * part // self.workers for part in (self.rank, self.rank + 1))
        return slice(start + first, start + last)


WHOLE = Shard()


class Order(NamedTuple):
    """The order in which batches are read, and how they are changed at random.

    Attributes:
        seed: Seed of the shuffling, anew in every epoch, and of the augmentation.
        augment: Random changes of the rows; None for none.
        consumed: Iterations consumed before a restart; their random numbers are skipped.
    """

    seed: int
    augment: contracts.Augment | None = None
    consumed: int = 0


def batches(split: Split, batch_size: int, order: Order | None = None, shard: Shard = WHOLE) -> tf.data.Dataset:
    """A dataset of batches (rows [B, ...], targets [B]), read from the arrays ahead of their use.

    Up to `READ_BATCHES` batches or `READ_BYTES` are read at a time: a call back into Python for each small batch costs
    as much as a step of a cheap model.

    Args:
        split: The split.
        batch_size: Rows in a batch.
        order: Shuffling and augmentation; None reads the rows as they lie.
        shard: The part of each batch that is read; it may be empty in the last batch.
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
    # `rebatch` forgets the number of batches, and Keras takes the end of an unknown number for a mistake.
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(number(count, batch_size)))
    if order and order.augment:
        dataset = order.augment(dataset, seed + shard.rank)
    for _ in range(order.consumed if order else 0):  # an iteration draws its random numbers when it begins
        next(iter(dataset))
    return dataset.prefetch(2)


def number(rows: int, batch_size: int) -> int:
    """Number of batches in an epoch; the last one may be smaller."""
    return (rows + batch_size - 1) // batch_size


def _reader(split: Split, at_once: int, seed: int | None, shard: Shard) -> Any:
    """A function from (first row, random number of the epoch) to tensors of rows and targets."""
    count = len(split.targets)

    @lru_cache(maxsize=2)  # of this epoch, and of the next one, which is read ahead
    def permutation(epoch: int) -> NDArray[np.uint32]:
        # 4 bytes a row in memory; tf.data's own shuffle takes 250, and as long as the training of a small model.
        return np.random.default_rng((seed or 0, epoch)).permutation(np.arange(count, dtype=np.uint32))

    def take(start: np.int64, epoch: np.int64) -> tuple[NDArray[Any], NDArray[Any]]:
        part = shard.of(int(start), min(int(start) + at_once, count))
        places = part if seed is None else permutation(int(epoch))[part]
        return split.rows[places], split.targets[places]

    def tensors(start: tf.Tensor, epoch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # stateful=False: the arguments alone decide what is read, so that determinism does not forbid reading ahead.
        types = (split.rows.dtype, split.targets.dtype)
        rows, targets = tf.numpy_function(take, [start, epoch], types, stateful=False)
        rows.set_shape((None, *split.rows.shape[1:]))
        targets.set_shape((None,))
        return rows, targets

    return tensors
