"""Protocols of the evaluation modules, and the types of their results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from ..contracts import Description, Manifest
    from .metrics import Estimate, Metric, Metrics
    from .settings import Decision, Evaluate
    from .workspace import Predictions


class Worst(NamedTuple):
    """The test examples with the largest errors.

    Attributes:
        title: Heading of the section in the model card.
        rows: Rows of the test split, the largest error first.
        captions: Description of the error of each row.
        total: Number of examples from which the worst were chosen.
    """

    title: str
    rows: Sequence[int]
    captions: Sequence[str]
    total: int


class Evaluation(NamedTuple):
    """The results of a model on the test split.

    Attributes:
        estimates: Metric -> estimate; undefined metrics are left out. `baseline_<metric>` is that of the baseline.
        labels: Metric -> name and direction in the model card.
        headline: Comparison with the baseline, in one sentence.
        notes: Sentences that explain why metrics are undefined.
        sections: Further paragraphs of the model card.
        worst: The examples with the largest errors.
        limits: Sentences on the limits of the model.
    """

    estimates: Mapping[str, Estimate]
    labels: Mapping[str, tuple[str, str]]
    headline: str
    notes: Sequence[str]
    sections: Sequence[str]
    worst: Worst
    limits: str


class Evaluator(Protocol):
    """Evaluator of a kind of target: `classification` or `regression`.

    Attributes:
        COEFFICIENTS: Explanation of the coefficients of a linear model, for the model card.
        SLICED: The metrics of slices that the model card shows, if they are defined.
    """

    COEFFICIENTS: str
    SLICED: Sequence[str]

    def purpose(self, manifest: Manifest, subject: str) -> str:
        """Description of the model's task, for the model card.

        Args:
            manifest: Manifest of the prepared data.
            subject: Description of the inputs, from `Presenter.subject`.
        """

    def evaluate(self, test: Predictions, settings: Evaluate, folder: Path) -> Evaluation:
        """Metrics, plots and text of the model card, from the test split.

        Args:
            test: Outputs of the exported model on the test split.
            settings: Section `evaluate` of the configuration.
            folder: Folder of the plots.
        """

    def metrics(self, outputs: NDArray[Any], targets: NDArray[Any], description: Description) -> Metrics:
        """Metrics as a function of the weights of the examples.

        Args:
            outputs: Outputs of the exported model, float32 [N, ...].
            targets: Targets, [N].
            description: Content of models/model.json.
        """

    def slice_metrics(self, description: Description, manifest: Manifest) -> Mapping[str, Metric]:
        """Metrics of a slice of the examples: name -> metric of targets and outputs.

        Args:
            description: Content of models/model.json, with `decision` if there is one.
            manifest: Manifest of the prepared data.
        """

    def losses(self, outputs: NDArray[Any], targets: NDArray[Any]) -> NDArray[np.float64]:
        """Loss of each example, [N].

        Args:
            outputs: Outputs of the exported model, [N, ...].
            targets: Targets, [N].
        """

    def check_decision(self, settings: Decision, manifest: Manifest) -> None:
        """Rejects a decision that does not fit the target.

        Args:
            settings: Section `evaluate.decision` of the configuration.
            manifest: Manifest of the prepared data.

        Raises:
            UserError: If the configuration does not fit the target.
        """

    def decide(self, validation: Predictions, settings: Decision) -> dict[str, Any]:
        """Content of models/decision.json.

        Args:
            validation: Outputs of the exported model on the validation split.
            settings: Section `evaluate.decision` of the configuration.

        Raises:
            UserError: If the configuration does not fit the target.
        """

    def groups(self, targets: NDArray[Any], manifest: Manifest) -> dict[str, NDArray[np.bool_]]:
        """Groups of examples by target: name -> mask, bool [N].

        Args:
            targets: Targets, [N].
            manifest: Manifest of the prepared data.
        """

    def calibration_error(self, values: Mapping[str, float]) -> float | None:
        """Calibration error, 0 for a calibrated model; None if undefined.

        Args:
            values: Metric -> value on the test split.
        """


class Presenter(Protocol):
    """Presenter of examples in model card and page: `images` or `tables`."""

    def subject(self, manifest: Manifest) -> str:
        """Description of the model's inputs, for the model card."""

    def private(self) -> set[str]:
        """Columns whose values stand in no report and no file of the service."""

    def anonymity(self, names: Sequence[str]) -> list[str]:
        """A section of the model card: how many rows are alike in some columns; [] without columns.

        Args:
            names: Names of the columns.
        """

    def form(self, section: Mapping[str, Any], manifest: Manifest) -> dict[str, Any]:
        """Facts for the service's page that models/model.json lacks.

        Args:
            section: Section `data` of the configuration.
            manifest: Manifest of the prepared data.
        """

    def examples(self, rows: Sequence[int]) -> Sequence[Mapping[str, Any]]:
        """Examples of the test split, as inputs of the service.

        Args:
            rows: Rows of the test split.
        """

    def columns(self, manifest: Manifest) -> Sequence[str]:
        """Names by which examples can be grouped.

        Args:
            manifest: Manifest of the prepared data.
        """

    def groups(self, name: str, manifest: Manifest) -> dict[str, NDArray[np.bool_]]:
        """Groups of test examples by value or quartile: name -> mask, bool [N].

        Args:
            name: One of `columns`.
            manifest: Manifest of the prepared data.
        """

    def reference(self) -> dict[str, Any]:
        """What explanations compare with, from the training split: no example of it, but typical values."""

    def worst(self, rows: Sequence[int], titles: Sequence[str], total: int, folder: Path) -> list[str]:
        """Lines of the model card with the worst examples.

        Args:
            rows: Rows of the test split, the largest error first.
            titles: Title of each row.
            total: Number of examples from which the worst were chosen.
            folder: Folder of plots and files.
        """
