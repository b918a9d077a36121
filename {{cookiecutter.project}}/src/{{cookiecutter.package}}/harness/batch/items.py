"""The input of a batch prediction, in batches."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from numpy.typing import NDArray

if TYPE_CHECKING:
    pass


class Batch(NamedTuple):
    """Some of what a model is asked about, in order.

    Attributes:
        keys: Key -> what tells each item, [n].
        errors: Why an item cannot be predicted, None where it can, [n].
        feeds: Input of the exported model -> those items alone whose error is None.
    """

    keys: Mapping[str, Sequence[Any]]
    errors: Sequence[str | None]
    feeds: Mapping[str, NDArray[Any]]


class BatchInput(NamedTuple):
    """All that a model is asked about in a batch prediction, on disk.

    Attributes:
        keys: Key -> its type, as Arrow calls it.
        stamp: Another one where something was added, removed or written since.
        total: Number of items, None where only reading everything would tell.
        unit: What an item is called.
        part: How many are predicted before the answers are kept.
        read: Gives the items in their order, without so many of the first.
    """

    keys: Mapping[str, str]
    stamp: str
    total: int | None
    unit: str
    part: int
    read: Callable[[int], Iterator[Batch]]
