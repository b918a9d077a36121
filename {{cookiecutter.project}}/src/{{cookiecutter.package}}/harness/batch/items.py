"""The input of a batch prediction, in batches."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from numpy.typing import NDArray


class Batch(NamedTuple):
    """A batch of items to predict, in input order.

    Attributes:
        keys: Name -> identifier of each item, [n].
        errors: Error of each item, None if it can be predicted, [n].
        feeds: Name of an input of the exported model -> array of the items without errors.
    """

    keys: Mapping[str, Sequence[Any]]
    errors: Sequence[str | None]
    feeds: Mapping[str, NDArray[Any]]


class BatchInput(NamedTuple):
    """The input of a batch prediction.

    Attributes:
        keys: Name of an identifier -> Arrow type.
        stamp: Changes when a file is added, removed or rewritten.
        total: Number of items; None if only reading all of them would tell.
        unit: Name of the items, "rows" for instance.
        part: Number of predictions in a part; finished parts survive an interruption.
        pieces: Yields the input in pieces as they are read, in order, skipping the first n items.
        batches: Yields the batches of pieces, decoded. It can be pickled, as can pieces.
    """

    keys: Mapping[str, str]
    stamp: str
    total: int | None
    unit: str
    part: int
    pieces: Callable[[int], Iterator[Any]]
    batches: Callable[[Iterable[Any]], Iterator[Batch]]
