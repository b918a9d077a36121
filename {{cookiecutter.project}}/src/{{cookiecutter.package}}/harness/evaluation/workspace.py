"""Inputs of the evaluation: results of earlier stages and test predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import prepared
from ..contracts import Description, Manifest
from ..core import config, files
from ..core.errors import UserError
from ..core.paths import DATA_REPORT, EXPLANATIONS, HISTORY, MODELS, ROBUSTNESS
from ..exported import inference, model

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray


class Workspace(NamedTuple):
    """Results of the earlier stages.

    Attributes:
        parameters: Content of params.yaml.
        manifest: Manifest of the prepared data.
        data: Content of reports/data.json.
        description: Content of models/model.json.
        history: A row for each epoch: loss and metric on both splits.
        model: The exported model.
        sections: Sections of the model card that `explain` and `robustness` wrote.
    """

    parameters: Mapping[str, Any]
    manifest: Manifest
    data: Mapping[str, Any]
    description: Description
    history: pd.DataFrame
    model: inference.Predict
    sections: Sequence[str] = ()


class Predictions(NamedTuple):
    """The exported model's outputs and the targets of a split.

    Attributes:
        outputs: Outputs of the model, float32 [N, ...].
        targets: Targets: class indices, int64 [N], or numbers, float64 [N].
        train_targets: Targets of the training split, which determine the baseline.
        manifest: Manifest of the prepared data.
        description: Content of models/model.json.
    """

    outputs: NDArray[np.float32]
    targets: NDArray[Any]
    train_targets: NDArray[Any]
    manifest: Manifest
    description: Description


def read() -> Workspace:
    """The results of the earlier stages, from disk.

    Raises:
        UserError: If model.onnx does not have the SHA-256 in model.json.
    """
    import pandas as pd

    parameters, description = config.read(), model.read(MODELS)
    portable = parameters["train"].get("portable", True)  # not a key of models without gradient descent
    return Workspace(
        parameters=parameters,
        manifest=prepared.manifest(),
        data=files.read_json(DATA_REPORT),
        description=description,
        history=pd.read_csv(HISTORY),
        model=inference.predictor(MODELS / "model.onnx", portable),
        sections=sections(),
    )


def sections() -> list[str]:
    """Sections of the model card from other stages; without those that have nothing to say."""
    found = [folder / "section.md" for folder in (EXPLANATIONS, ROBUSTNESS)]
    texts = [file.read_text(encoding="utf-8").strip() for file in found if file.exists()]
    return [text for text in texts if text]


def predict(workspace: Workspace, split: str = "test", rows: NDArray[np.int64] | None = None) -> Predictions:
    """The exported model's outputs on a split.

    Args:
        workspace: Results of the earlier stages.
        split: `train`, `validation` or `test`.
        rows: Indices of the rows; None for all.

    Raises:
        UserError: If the split is empty, or an output is not finite.
    """
    outputs, targets = answers(workspace.model, workspace.manifest, split, rows)
    return Predictions(outputs, targets, prepared.targets("train"), workspace.manifest, workspace.description)


def answers(
    predict: inference.Predict, manifest: Manifest, split: str = "test", rows: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """Outputs of a model on a split, float32 [N, ...], and the targets, [N].

    Args:
        predict: The exported model.
        manifest: Manifest of the prepared data.
        split: `train`, `validation` or `test`.
        rows: Indices of the rows; None for all.

    Raises:
        UserError: If the split is empty, or an output is not finite.
    """
    targets = prepared.targets(split) if rows is None else prepared.targets(split)[rows]
    if not len(targets):
        raise UserError(f"the {split} split is empty: add examples or raise prepare.{split}")
    outputs = predict(prepared.modality(manifest).feeds(split, rows=rows))
    if bad := int((~inference.finite_rows(outputs)).sum()):
        raise UserError(
            f"the model's answer is not a finite number for {bad} of {len(targets)} {split} examples: look for extreme "
            "values in their inputs"
        )
    return outputs, targets
