"""Which split a row belongs to: from a hash of its content or group, or from the order of times."""

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import contracts
from .table_files import BLOCK, as_numpy, numbers

if TYPE_CHECKING:
    import pyarrow as pa

Hashes = NDArray[np.uint64]


def mix(values: Hashes) -> Hashes:
    """Returns an evenly distributed hash of 64-bit words (SplitMix64: G. Steele et al., OOPSLA 2014)."""
    with np.errstate(over="ignore"):
        values = values + np.uint64(0x9E3779B97F4A7C15)
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return values ^ (values >> np.uint64(31))


@lru_cache(1 << 16)
def _text_hash(text: str | None) -> int:
    return 0 if text is None else int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def by_level(values: "pa.Array", of: Callable[[str | None], int], dtype: type) -> NDArray[Any]:
    """Returns `of` each text, computed once for each that is different."""
    codes = values.dictionary_encode(null_encoding="encode")
    levels: NDArray[Any] = np.asarray([of(text) for text in codes.dictionary.to_pylist()], dtype)
    found: NDArray[Any] = levels[as_numpy(codes.indices)]
    return found


def hash_column(values: "pa.Array") -> Hashes:
    """Returns uint64 [n], the same for equal cells in any file, batch or process.

    Args:
        values: Doubles or strings.
    """
    import pyarrow as pa

    if pa.types.is_floating(values.type):
        return numbers(values).view(np.uint64)
    return by_level(values, _text_hash, np.uint64)


def hash_rows(rows: "pa.RecordBatch") -> Hashes:
    """Returns uint64 [n], the hash of each row's cells.

    Args:
        rows: Columns of doubles and strings.
    """
    found = np.zeros(len(rows), np.uint64)
    for values in rows.columns:
        found = mix(found ^ hash_column(values))
    return found


def assign(hashes: Hashes, splits: contracts.Splits) -> NDArray[np.int64]:
    """Returns int64 [n], the split of each row from its hash alone, as an index into `prepared.SPLITS`.

    Args:
        hashes: Of the row's content or group.
        splits: Seed and fractions.
    """
    seed = mix(np.asarray([splits.seed], np.uint64))
    position = mix(hashes ^ seed) / 2.0**64
    return np.where(position < splits.test, 2, np.where(position < splits.test + splits.validation, 1, 0))


class Spool:
    """64-bit words kept on disk: as many as there are rows."""

    def __init__(self, folder: Path) -> None:
        """Keeps them in a folder, in a file without a name."""
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  Closed by the garbage collector, and gone then.
        self.size = 0

    def add(self, words: Hashes) -> None:
        """Takes more of them."""
        self._file.write(words.tobytes())
        self.size += len(words)

    def _blocks(self) -> Iterator[Hashes]:
        self._file.seek(0)
        while block := self._file.read(BLOCK):
            yield np.frombuffer(block, np.uint64)

    def repeated(self) -> Iterator[NDArray[np.int64]]:
        """Yields, in parts, where a word stands that stood before. Half a million words are in memory at a time."""
        passes = -(-self.size // 500_000)
        for number in range(passes):
            words, places, start = [], [], 0
            for block in self._blocks():
                mine = np.flatnonzero((block >> np.uint64(32)) % np.uint64(passes) == number)
                words.append(block[mine])
                places.append(mine + start)
                start += len(block)
            word = np.concatenate(words)
            order = np.argsort(word, kind="stable")
            again = np.flatnonzero(word[order][1:] == word[order][:-1]) + 1
            yield np.concatenate(places)[order[again]]

    def smallest(self, rank: int) -> np.uint64:
        """Returns the word of a rank, from 0: radix selection, 16 bits a pass."""
        prefix = 0
        for shift in (48, 32, 16, 0):
            counts = np.zeros(1 << 16, np.int64)
            for block in self._blocks():
                # A shift by 64 would be none.
                mine = block if shift == 48 else block[block >> np.uint64(shift + 16) == prefix]
                digits = (mine >> np.uint64(shift)) & np.uint64(0xFFFF)
                counts += np.bincount(digits.astype(np.int64), minlength=1 << 16)
            digit = int(np.searchsorted(np.cumsum(counts), rank, side="right"))
            rank -= int(counts[:digit].sum())
            prefix = prefix << 16 | digit
        return np.uint64(prefix)


def ordered(times: "pa.Array") -> Hashes:
    """Returns uint64 [n] in the order of the times; there are no nulls."""
    import pyarrow as pa

    if pa.types.is_timestamp(times.type):
        return as_numpy(times.cast(pa.int64())).view(np.uint64) ^ np.uint64(1 << 63)
    # Bits of doubles are ordered like signed integers, those of negative ones backwards.
    bits = numbers(times).view(np.uint64)
    return np.where(bits >> np.uint64(63), ~bits, bits | np.uint64(1 << 63))
