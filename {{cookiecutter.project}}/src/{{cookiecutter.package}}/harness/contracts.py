"""Types through which rooms meet; the modules that fulfill a Protocol are checked by mypy.

Nothing is imported at run time: the service, which never trains, pays nothing for these names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    import keras
    import numpy as np
    import onnx
    import pandas as pd
    from numpy.typing import NDArray

Manifest = Mapping[str, Any]  # data/prepared/manifest.json
Description = Mapping[str, Any]  # models/model.json
Tensor = Any  # of Keras, whose import takes seconds
Layers = Callable[[], tuple[Tensor, Tensor]]
Head = Callable[[Tensor], Tensor]
Augment = Callable[[Any, int], Any]  # (dataset of batches, seed) -> dataset of batches
Report = Callable[[int, Mapping[str, float]], None]  # (epoch, its losses and metrics)


class Splits(NamedTuple):
    """The division of the examples into training, validation and test split.

    Attributes:
        seed: Seed of the division.
        validation: Expected fraction of the validation split.
        test: Expected fraction of the test split.
    """

    seed: int
    validation: float
    test: float


class Inputs(NamedTuple):
    """The arrays on which a model is fitted.

    Attributes:
        name: Name of the Keras model's input.
        array: Split -> its rows as the Keras model takes them, memory-mapped [N, ...].
        layers: Makes the Keras input, and the tensor for the model's first layer.
        preprocessing: Graph from the inputs of the exported model to the Keras input; None if they are the same.
        augment: Random changes of the training batches.
    """

    name: str
    array: Callable[[str], NDArray[Any]]
    layers: Layers
    preprocessing: onnx.ModelProto | None = None
    augment: Augment | None = None


class Fitted(NamedTuple):
    """A fitted model of any kind.

    Attributes:
        graph: Makes the ONNX graph from the rows of `Inputs.array` to the output, not yet in canonical form. A
            function, because the conversion takes as long as some epochs and a trial of a sweep may not need it.
        predict: Output of the fitted model itself, to compare the graph with.
        weights: Name -> array.
        history: A row for each epoch: loss, val_loss and the target's metric on both splits.
        notes: Further content of models/model.json, coefficients for instance.
    """

    graph: Callable[[], onnx.ModelProto]
    predict: Callable[[NDArray[Any]], NDArray[Any]]
    weights: dict[str, NDArray[Any]]
    history: pd.DataFrame
    notes: Mapping[str, Any] = {}


class Phase(NamedTuple):
    """One phase of the training of a Keras model; `model.phases`, if a model has it, yields several.

    Attributes:
        model: Model to compile and to fit; shares its weights with the whole model.
        inputs: Arrays on which it is fitted.
        epochs: Maximum number of epochs.
        learning_rate: Step size of the optimizer.
        learning_rate_key: Key of the configuration that sets the step size.
    """

    model: keras.Model
    inputs: Inputs
    epochs: int
    learning_rate: float
    learning_rate_key: str = "train.learning_rate"


class Source(Protocol):
    """A data source: the return value of the function that `data._target_` names."""

    @property
    def input(self) -> str:
        """Kind of input, `images` or `tables`: the module of `preparation` that writes the examples."""

    @property
    def path(self) -> Path | None:
        """File or folder of the data, None for data that ship inside a package."""


class PreparedInput(Protocol):
    """The prepared examples of one kind of input: a module of `prepared`, `images` or `tables`.

    Attributes:
        SECTION: Section of the configuration that shapes the model's inputs: `augmentation` or `features`.
    """

    SECTION: str

    def inputs(self, manifest: Manifest, section: Mapping[str, Any]) -> Inputs:
        """Arrays on which a model is fitted.

        Args:
            manifest: Manifest of the prepared data.
            section: Section `SECTION` of the configuration.
        """

    def feeds(self, split: str, batch_size: int = ...) -> Iterator[dict[str, NDArray[Any]]]:
        """Batches of inputs for the exported model, in the order of the rows.

        Args:
            split: `train`, `validation` or `test`.
            batch_size: Maximum number of rows in a batch.

        Yields:
            Input of the exported model -> array [n, ...].
        """

    def describe(self, manifest: Manifest) -> dict[str, Any]:
        """Facts about the input for models/model.json."""


@runtime_checkable
class PreparedTable(PreparedInput, Protocol):
    """Prepared examples with groups; `isinstance` tells them from others."""

    def groups(self, split: str) -> NDArray[Any]:
        """Group of each row of a split, str [N] (of objects), if `data.group` names a column."""


class Target(Protocol):
    """One kind of target: a module of `targets`, `classification` or `regression`.

    Attributes:
        OUTPUT: Name of the exported model's output.
        METRIC: Metric beside the loss, measured in every epoch on both splits.
        HIGHER_IS_BETTER: Direction of `METRIC`; a loss is better if it is lower.
    """

    OUTPUT: str
    METRIC: str
    HIGHER_IS_BETTER: bool

    def head(self, manifest: Manifest, train_targets: NDArray[Any]) -> Head:
        """Layers from the last hidden tensor to the output.

        Args:
            manifest: Manifest of the prepared data.
            train_targets: Targets of the training split, [N].
        """

    def compile_arguments(self, manifest: Manifest, train_targets: NDArray[Any]) -> dict[str, Any]:
        """Loss and metrics, as `keras.Model.compile` takes them.

        Args:
            manifest: Manifest of the prepared data.
            train_targets: Targets of the training split, [N].
        """

    def calibrate(self, outputs: NDArray[np.float32], targets: NDArray[Any]) -> dict[str, Any]:
        """Facts about the model's uncertainty for models/model.json.

        Args:
            outputs: Outputs on the validation split, float32 [N, ...].
            targets: Targets of the validation split, [N].
        """

    def answers(self, outputs: NDArray[np.float32], description: Description) -> list[dict[str, Any]]:
        """Answers of the service, one for each example.

        Args:
            outputs: Outputs of the exported model, float32 [N, ...].
            description: Content of models/model.json.
        """

    def answer_schema(self, description: Description) -> dict[str, Any]:
        """JSON schema of one of `answers`."""

    def counts(self, outputs: NDArray[np.float32], description: Description) -> dict[str, int]:
        """Label -> number of examples, for the metrics of the service.

        Args:
            outputs: Outputs of the exported model, float32 [N, ...].
            description: Content of models/model.json.
        """
