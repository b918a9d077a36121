"""Types through which rooms meet."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx
    import pandas as pd


class Fitted(NamedTuple):
    """A fitted model, whatever has fitted it.

    Attributes:
        graph: Makes the model in ONNX, from what it was fitted on to the answer, not yet canonical. A trial of a sweep
            asks for none, and the conversion takes as long as some epochs.
        predict: What the fitted model itself answers, to compare the graph with.
        weights: Name -> array.
        history: A row for each epoch: loss, val_loss and the target's metric on both splits.
        notes: More for models/model.json, coefficients for instance.
    """

    graph: Callable[[], "onnx.ModelProto"]
    predict: Callable[[NDArray[Any]], NDArray[Any]]
    weights: dict[str, NDArray[Any]]
    history: "pd.DataFrame"
    notes: Mapping[str, Any] = {}


Report = Callable[[int, Mapping[str, float]], None]
Manifest = Mapping[str, Any]
Tensor = Any  # of Keras, which is too slow to be imported for a name
Layers = Callable[[], tuple[Tensor, Tensor]]
Head = Callable[[Tensor], Tensor]
Augment = Callable[[Any, int], Any]  # dataset of batches, seed -> such a dataset


class Splits(NamedTuple):
    """How examples are divided.

    Attributes:
        seed: Another seed gives another, independent division.
        validation: Expected fraction of the validation split.
        test: Expected fraction of the test split.
    """

    seed: int
    validation: float
    test: float


class Inputs(NamedTuple):
    """What a model is fitted on.

    Attributes:
        name: Of the Keras model's input.
        array: Split -> its rows as the Keras model takes them, memory-mapped [N, ...].
        layers: Makes the Keras input, and the tensor that the model's first layer should take.
        preprocessing: From what the exported model is asked with to the Keras input; None where they are the same.
        augment: Changes training batches at random.
    """

    name: str
    array: Callable[[str], NDArray[Any]]
    layers: Layers
    preprocessing: "onnx.ModelProto | None" = None
    augment: Augment | None = None


class Source(Protocol):
    """A data source: what a function that `data._target_` names returns.

    Attributes:
        input: Kind of the examples, `images` or `tables`: the module of `preparation` that writes them.
        path: Where the data lie, None for data that ship inside a package.
    """

    @property
    def input(self) -> str: ...

    @property
    def path(self) -> Path | None: ...
