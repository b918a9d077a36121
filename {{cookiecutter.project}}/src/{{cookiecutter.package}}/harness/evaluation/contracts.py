"""Types of the modules that `evaluation` chooses by the manifest, and the results that they return."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from ..contracts import Description, Manifest
    from .metrics import Estimate, Metrics
    from .settings import Evaluate
    from .workspace import Predictions


class Worst(NamedTuple):
    """The test examples with the largest errors.

    Attributes:
        title: Heading of their section in the model card.
        rows: Rows of the test split, the largest error first.
        captions: The error of each row, in words.
        total: Number of candidates from which the rows are the worst.
    """

    title: str
    rows: Sequence[int]
    captions: Sequence[str]
    total: int


class Evaluation(NamedTuple):
    """The results of a model on the test split.

    Attributes:
        estimates: Metric -> estimate; undefined metrics are left out. `baseline_<metric>` is that metric of the naive
            answer.
        labels: Metric -> its name and direction in the model card.
        headline: Comparison with the naive answer, in one sentence.
        notes: Sentences on metrics that are undefined, and why.
        sections: Further paragraphs of the model card.
        worst: The examples with the largest errors.
        limits: Limits of the model, for the end of the card.
    """

    estimates: Mapping[str, Estimate]
    labels: Mapping[str, tuple[str, str]]
    headline: str
    notes: Sequence[str]
    sections: Sequence[str]
    worst: Worst
    limits: str


class Evaluator(Protocol):
    """Metrics and text for one kind of target: `classification` or `regression`.

    Attributes:
        COEFFICIENTS: How to read the coefficients of a linear model.
    """

    COEFFICIENTS: str

    def purpose(self, manifest: Manifest, subject: str) -> str:
        """The task of the model, in words.

        Args:
            manifest: Manifest of the prepared data.
            subject: The inputs in words, `Presenter.subject`.
        """

    def evaluate(self, test: Predictions, settings: Evaluate, folder: Path) -> Evaluation:
        """Metrics, plots and text of the test split.

        Args:
            test: Outputs of the exported model on the test split.
            settings: Section `evaluate` of the configuration.
            folder: Folder of the plots.
        """

    def metrics(self, outputs: NDArray[Any], targets: NDArray[Any], description: Description) -> Metrics:
        """Metrics of a model as a function of the examples' weights.

        Args:
            outputs: Outputs of the exported model, float32 [N, ...].
            targets: Targets, [N].
            description: Content of models/model.json.
        """

    def groups(self, targets: NDArray[Any], manifest: Manifest) -> dict[str, NDArray[np.bool_]]:
        """Groups of examples by their target: name -> bool [N].

        Args:
            targets: Targets, [N].
            manifest: Manifest of the prepared data.
        """

    def calibration_error(self, values: Mapping[str, float]) -> float | None:
        """Calibration error, 0 for a calibrated model; None if it is undefined.

        Args:
            values: Metric -> value on the test split.
        """


class Presenter(Protocol):
    """Examples of one kind of input, shown to people: `images` or `tables`."""

    def subject(self, manifest: Manifest) -> str:
        """The inputs of the model, in words."""

    def form(self, section: Mapping[str, Any], manifest: Manifest) -> dict[str, Any]:
        """Facts about the inputs for the service's page, beside models/model.json.

        Args:
            section: Section `data` of the configuration.
            manifest: Manifest of the prepared data.
        """

    def examples(self, rows: Sequence[int]) -> Sequence[Mapping[str, Any]]:
        """Examples of the test split in the form that the service accepts.

        Args:
            rows: Rows of the test split.
        """

    def worst(self, rows: Sequence[int], titles: Sequence[str], total: int, folder: Path) -> list[str]:
        """Lines of the model card that show the examples with the largest errors.

        Args:
            rows: Rows of the test split, the largest error first.
            titles: Title of each row.
            total: Number of candidates from which the rows are the worst.
            folder: Folder of plots and files.
        """
