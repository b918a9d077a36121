"""Types of the modules that `evaluation` chooses by the manifest.

They are not in `harness.contracts`, on which the stage `train` depends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..contracts import Description, Manifest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .measures import Evaluation, Measure
    from .settings import Evaluate


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

    def evaluate(
        self,
        outputs: NDArray[np.float32],
        targets: NDArray[Any],
        train_targets: NDArray[Any],
        manifest: Manifest,
        description: Description,
        settings: Evaluate,
        folder: Path,
    ) -> Evaluation:
        """Metrics, plots and text of the test split.

        Args:
            outputs: Outputs of the exported model, float32 [N, ...].
            targets: Targets, [N].
            train_targets: Targets of the training split, from which the naive answer is computed.
            manifest: Manifest of the prepared data.
            description: Content of models/model.json.
            settings: Section `evaluate` of the configuration.
            folder: Folder of the plots.
        """

    def measured(self, outputs: NDArray[np.float32], targets: NDArray[Any], description: Description) -> Measure:
        """Metrics as a function of the examples' weights.

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

    def miscalibration(self, metrics: Mapping[str, float]) -> float | None:
        """Calibration error, 0 for a calibrated model, None if it is not defined.

        Args:
            metrics: Metrics of the test split.
        """


class Presenter(Protocol):
    """Examples of one kind of input, shown to people: `images` or `tables`."""

    def subject(self, manifest: Manifest) -> str:
        """The inputs of the model, in words."""

    def form(self, section: Mapping[str, Any], manifest: Manifest) -> dict[str, Any]:
        """Facts about the inputs for the service's page.

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
