"""Splits of a table, by hash of rows or groups, or time."""

import hashlib
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..contracts import Splits
from .schema import Column
from .table_cells import as_numpy, convert, numbers
from .table_files import BLOCK

if TYPE_CHECKING:
    import pyarrow as pa

    from .table import Table

Hashes = NDArray[np.uint64]
SORTED_AT_ONCE = 500_000  # number of words that `Spool.repeated` sorts in memory


def mix(values: Hashes) -> Hashes:
    """Hashes of 64-bit words by SplitMix64 (G. Steele et al., OOPSLA 2014)."""
    with np.errstate(over="ignore"):
        values = values + np.uint64(0x9E3779B97F4A7C15)
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return values ^ (values >> np.uint64(31))


@lru_cache(1 << 16)
def _text_hash(text: str | None) -> int:
    return 0 if text is None else int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def by_level(values: "pa.Array", function: Callable[[str | None], int], dtype: type) -> NDArray[Any]:
    """Results of a function of texts, [n], called once for equal texts.

    Args:
        values: Texts.
        function: Text, None if missing -> number.
        dtype: Type of the results.
    """
    codes = values.dictionary_encode(null_encoding="encode")
    levels: NDArray[Any] = np.asarray([function(text) for text in codes.dictionary.to_pylist()], dtype)
    results: NDArray[Any] = levels[as_numpy(codes.indices)]
    return results


def hash_column(values: "pa.Array") -> Hashes:
    """Hashes of cells, uint64 [n], equal for equal cells in every process.

    Args:
        values: Doubles or strings.
    """
    import pyarrow as pa

    if pa.types.is_floating(values.type):
        return numbers(values).view(np.uint64)
    return by_level(values, _text_hash, np.uint64)


def hash_rows(rows: "pa.RecordBatch") -> Hashes:
    """Hashes of rows, uint64 [n].

    Args:
        rows: Columns of doubles and strings.
    """
    hashes = np.zeros(len(rows), np.uint64)
    for values in rows.columns:
        hashes = mix(hashes ^ hash_column(values))
    return hashes


def assign(hashes: Hashes, splits: Splits) -> NDArray[np.int64]:
    """The split of each hash, as index into `prepared.SPLITS`, int64 [n].

    Args:
        hashes: Hashes of the contents or groups of the rows.
        splits: Seed and fractions.
    """
    place = positions(hashes, splits) / 2.0**64
    return np.where(place < splits.test, 2, np.where(place < splits.test + splits.validation, 1, 0))


def positions(hashes: Hashes, splits: Splits) -> Hashes:
    """Hashes of hashes and the seed, uint64 [n], different for different hashes.

    Args:
        hashes: Hashes of the contents or groups of the rows.
        splits: Seed and fractions.
    """
    return mix(hashes ^ mix(np.asarray([splits.seed], np.uint64)))


def ordered(times: "pa.Array") -> Hashes:
    """Times mapped to uint64 [n] in the same order.

    Args:
        times: Timestamps or doubles, without nulls.
    """
    import pyarrow as pa

    if pa.types.is_timestamp(times.type):
        return as_numpy(times.cast(pa.int64())).view(np.uint64) ^ np.uint64(1 << 63)
    # The bits of positive doubles are ordered like integers, those of negative doubles in reverse.
    bits = numbers(times).view(np.uint64)
    return np.where(bits >> np.uint64(63), ~bits, bits | np.uint64(1 << 63))


class Spool:
    """64-bit words on disk, one for each row, for sorting and selection."""

    def __init__(self, folder: Path) -> None:
        """Opens an unnamed file in a folder."""
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  Deleted when garbage-collected.
        self.size = 0

    def add(self, words: Hashes) -> None:
        """Appends words."""
        self._file.write(words.tobytes())
        self.size += len(words)

    def _blocks(self) -> Iterator[Hashes]:
        self._file.seek(0)
        while block := self._file.read(BLOCK):
            yield np.frombuffer(block, np.uint64)

    def repeated(self) -> Iterator[NDArray[np.int64]]:
        """Positions of words that occurred before, in parts of bounded size."""
        passes = math.ceil(self.size / SORTED_AT_ONCE)
        for number in range(passes):
            words, places, start = [], [], 0
            for block in self._blocks():
                chosen = np.flatnonzero((block >> np.uint64(32)) % np.uint64(passes) == number)
                words.append(block[chosen])
                places.append(chosen + start)
                start += len(block)
            word = np.concatenate(words)
            order = np.argsort(word, kind="stable")
            again = np.flatnonzero(word[order][1:] == word[order][:-1]) + 1
            yield np.concatenate(places)[order[again]]

    def smallest(self, rank: int) -> np.uint64:
        """The word of a rank, from 0, by radix selection."""
        prefix = 0
        for shift in (48, 32, 16, 0):
            counts = np.zeros(1 << 16, np.int64)
            for block in self._blocks():
                # NumPy cannot shift by 64 bits.
                chosen = block if shift == 48 else block[block >> np.uint64(shift + 16) == prefix]
                digits = (chosen >> np.uint64(shift)) & np.uint64(0xFFFF)
                counts += np.bincount(digits.astype(np.int64), minlength=1 << 16)
            digit = int(np.searchsorted(np.cumsum(counts), rank, side="right"))
            rank -= int(counts[:digit].sum())
            prefix = prefix << 16 | digit
        return np.uint64(prefix)


class Ahead(NamedTuple):
    """Results of the first pass, needed before any row is written.

    Attributes:
        repeated: Ascending positions, over all files, of the rows whose id occurred before, int64 [n].
        boundaries: The times, as in `ordered`, at which validation and test split begin.
        moves: Position of a row -> its split, for the rows that a stratified split moves.
    """

    repeated: NDArray[np.int64]
    boundaries: tuple[np.uint64, np.uint64]
    moves: Mapping[int, int] = {}


def look_ahead(table: "Table", columns: Mapping[str, Column], splits: Splits, folder: Path) -> Ahead:
    """The first pass: repeated ids and times at which splits begin.

    Only ids and times are read, and only if the configuration needs them.

    Args:
        table: The table.
        columns: Schema of the table.
        splits: Seed and fractions of the split.
        folder: Folder for temporary files.
    """
    unique = table.id if table.id is not None and columns[table.id].unique else None
    time = table.time if table.split == "time" else None
    ids, times, position, notation = Spool(folder), Spool(folder), 0, table.notation()
    wanted = {name: columns[name].type for name in (unique, time) if name}
    for part in table.chunks(wanted) if wanted else ():
        if unique:
            values, _ = convert(part.values[unique], "text", notation, unique)
            hashes = hash_column(values)
            missing = np.flatnonzero(as_numpy(values.is_null()))
            hashes[missing] = mix((missing + position).astype(np.uint64))  # missing ids are not duplicates
            ids.add(hashes)
        if time:
            times.add(ordered(convert(part.values[time], columns[time].type, notation, time)[0].drop_null()))
        position += len(part.rows)
    repeated = np.sort(np.concatenate([np.zeros(0, np.int64), *ids.repeated()]))
    return Ahead(repeated, (_quantile(times, 1 - splits.validation - splits.test), _quantile(times, 1 - splits.test)))


def _quantile(times: Spool, fraction: float) -> np.uint64:
    rank = min(max(times.size - 1, 0), round(times.size * fraction))
    return times.smallest(rank) if times.size else np.uint64(0)


def divide(table: "Table", rows: "pa.RecordBatch", hashes: Hashes, splits: Splits, ahead: Ahead) -> NDArray[np.int64]:
    """The split of each row, as index into `prepared.SPLITS`, int64 [n].

    Args:
        table: The table.
        rows: Rows without violations.
        hashes: Hashes of the contents of the rows.
        splits: Seed and fractions of the split.
        ahead: Result of the first pass.
    """
    if table.split == "time":
        return np.searchsorted(np.asarray(ahead.boundaries), ordered(rows[table.time]), side="right")
    split = assign(hash_column(rows[table.group]) if table.split == "group" else hashes, splits)
    if ahead.moves:
        places = positions(hashes, splits)
        for row in np.flatnonzero(np.isin(places, np.array([*ahead.moves], np.uint64))):
            split[row] = ahead.moves[int(places[row])]
    return split
