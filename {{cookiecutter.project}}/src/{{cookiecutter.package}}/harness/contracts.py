"""Types that the packages of the harness share, checked by mypy.

Heavy libraries are imported for type checking only, so that the service starts without them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    import keras
    import numpy as np
    import onnx
    import pandas as pd
    from numpy.typing import NDArray

Manifest = Mapping[str, Any]  # data/prepared/manifest.json
Description = Mapping[str, Any]  # models/model.json
Tensor = Any  # a Keras tensor; importing Keras takes seconds
Layers = Callable[[], tuple[Tensor, Tensor]]  # () -> Keras input, tensor for the first layer
Head = Callable[[Tensor], Tensor]  # last hidden tensor -> output
Augment = Callable[[Any, int], Any]  # (dataset of batches, seed) -> dataset of batches
Report = Callable[[int, Mapping[str, float]], None]  # (epoch, losses and metrics of the epoch)


class Splits(NamedTuple):
    """Seed and fractions of the training, validation and test split.

    Attributes:
        seed: Seed of the split.
        validation: Expected fraction of the validation split.
        test: Expected fraction of the test split.
    """

    seed: int
    validation: float
    test: float


class Inputs(NamedTuple):
    """The arrays on which a model is fitted.

    Attributes:
        name: Name of the Keras input.
        array: Split -> rows that the Keras model takes, memory-mapped [N, ...].
        layers: Makes the Keras input and the tensor for the first layer.
        preprocessing: Graph from the inputs of the exported model to the Keras input; None if they are the same.
        augment: Augmentation of the training batches; None for none.
    """

    name: str
    array: Callable[[str], NDArray[Any]]
    layers: Layers
    preprocessing: onnx.ModelProto | None = None
    augment: Augment | None = None


class Fitted(NamedTuple):
    """A fitted model of any kind.

    Attributes:
        graph: Makes the ONNX graph from the rows of `Inputs.array` to the output, not yet in canonical form. It is a
            function because the conversion takes as long as several epochs, and most trials of a sweep skip it.
        predict: Rows of `Inputs.array` -> outputs of the fitted model, with which the export is compared.
        weights: Name -> array.
        history: A row for each epoch or iteration: loss, val_loss and the target's metric on both splits.
        notes: Additional content of models/model.json, such as coefficients or importances.
    """

    graph: Callable[[], onnx.ModelProto]
    predict: Callable[[NDArray[Any]], NDArray[Any]]
    weights: dict[str, NDArray[Any]]
    history: pd.DataFrame
    notes: Mapping[str, Any] = {}


class Boosting(NamedTuple):
    """How a model that adds trees one by one is fitted: section `train` of the configuration.

    Attributes:
        seed: Seed of whatever the model samples.
        iterations: Maximum number of iterations.
        learning_rate: Factor of each tree.
        monitor: Validation metric of early stopping; the model is that of its best iteration.
        patience: Number of iterations without improvement after which training stops.
        threads: Number of threads, on which the model does not depend; None lets the model choose.
    """

    seed: int
    iterations: int
    learning_rate: float
    monitor: str
    patience: int
    threads: int | None = None


class Phase(NamedTuple):
    """One phase of training; a Keras model with several has `phases`.

    Attributes:
        model: Model to compile and fit; it shares its weights with the whole model.
        inputs: Arrays on which `model` is fitted.
        epochs: Maximum number of epochs.
        learning_rate: Step size of the optimizer.
        learning_rate_key: Key of the configuration that sets the step size.
    """

    model: keras.Model
    inputs: Inputs
    epochs: int
    learning_rate: float
    learning_rate_key: str = "train.learning_rate"


class Goal(NamedTuple):
    """Another answer, which a counterfactual reaches.

    Attributes:
        sign: 1 if the score rises on the way there, -1 if it falls.
        reached: Outputs of the exported model [N, ...] -> whether each is there, bool [N].
    """

    sign: int
    reached: Callable[[NDArray[Any]], NDArray[np.bool_]]


class Question(NamedTuple):
    """What is explained of one answer.

    Attributes:
        explained: What the score is.
        score: Outputs of the exported model [N, ...] -> the number to explain, float64 [N].
        raises: What an input does that raises the score, in words.
        lowers: What an input does that lowers it.
        goals: The other answers.
    """

    explained: str
    score: Callable[[NDArray[Any]], NDArray[np.float64]]
    raises: str
    lowers: str
    goals: Sequence[Goal]


class Source(Protocol):
    """A data source, returned by the function in `data._target_`."""

    @property
    def input(self) -> str:
        """Kind of input, `images` or `tables`: a module of `preparation`."""

    @property
    def path(self) -> Path | None:
        """File or folder of the data; None if a library contains them."""


class PreparedInput(Protocol):
    """Reader of prepared examples: a module of `prepared`, `images` or `tables`.

    Attributes:
        SECTION: Section of the configuration for the model's inputs: `augmentation` or `features`.
    """

    SECTION: str

    def inputs(self, manifest: Manifest, section: Mapping[str, Any]) -> Inputs:
        """Arrays on which a model is fitted.

        Args:
            manifest: Manifest of the prepared data.
            section: Section `SECTION` of the configuration.
        """

    def feeds(
        self, split: str, batch_size: int = ..., *, rows: NDArray[np.int64] | None = ...
    ) -> Iterator[dict[str, NDArray[Any]]]:
        """Batches of inputs for the exported model.

        Args:
            split: `train`, `validation` or `test`.
            batch_size: Maximum number of rows in a batch.
            rows: Indices of the rows; None for all.

        Yields:
            Input of the exported model -> array [n, ...].
        """

    def describe(self, manifest: Manifest) -> dict[str, Any]:
        """Facts about the input for models/model.json."""


class Target(Protocol):
    """One kind of target: a module of `targets`, `classification` or `regression`.

    Attributes:
        OUTPUT: Name of the exported model's output.
        METRIC: Name of the metric that is computed beside the loss in every epoch.
        HIGHER_IS_BETTER: Whether a higher `METRIC` is better.
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
        """Predictions in the form of the service's response, one for each example.

        Args:
            outputs: Outputs of the exported model, float32 [N, ...].
            description: Content of models/model.json.
        """

    def answer_schema(self, description: Description) -> dict[str, Any]:
        """JSON schema of an element of `answers`."""

    def counts(self, outputs: NDArray[np.float32], description: Description) -> dict[str, int]:
        """Predicted label -> number of examples, for the service's metrics endpoint.

        Args:
            outputs: Outputs of the exported model, float32 [N, ...].
            description: Content of models/model.json.
        """

    def actual(self, value: object, description: Description) -> float:
        """An actual value that a person tells: the index of a class, or a number.

        Args:
            value: A class or a number.
            description: Content of models/model.json.

        Raises:
            ValueError: If the target has no such value; the message is one line for the user.
        """

    def actual_schema(self, description: Description) -> dict[str, Any]:
        """JSON schema of what `actual` takes."""

    def question(self, output: NDArray[np.float32], description: Description) -> Question:
        """What is explained of one answer: the log-odds of the predicted class, or the number.

        Args:
            output: Output of the exported model, float32 [1, ...].
            description: Content of models/model.json.
        """
