"""Inputs of the evaluation: results of earlier stages and test predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import prepared
from ..contracts import Description, Manifest
from ..core import config, files
from ..core.errors import UserError
from ..core.paths import DATA_REPORT, HISTORY, MODELS
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
    """

    parameters: Mapping[str, Any]
    manifest: Manifest
    data: Mapping[str, Any]
    description: Description
    history: pd.DataFrame


class Predictions(NamedTuple):
    """The exported model's outputs and the targets of the test split.

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

    return Workspace(
        parameters=config.read(),
        manifest=prepared.manifest(),
        data=files.read_json(DATA_REPORT),
        description=model.read(MODELS),
        history=pd.read_csv(HISTORY),
    )


def predict(workspace: Workspace) -> Predictions:
    """The exported model's outputs on the test split.

    Args:
        workspace: Results of the earlier stages.

    Raises:
        UserError: If the test split is empty, or an output is not finite.
    """
    targets = prepared.targets("test")
    if not len(targets):
        raise UserError("the test split is empty: add examples or raise prepare.test")
    feeds = prepared.modality(workspace.manifest).feeds("test")
    outputs = inference.predict(MODELS / "model.onnx", feeds)
    if bad := int((~inference.finite_rows(outputs)).sum()):
        raise UserError(
            f"the model's answer is not a finite number for {bad} of {len(targets)} test examples: look for extreme "
            "values in their inputs"
        )
    return Predictions(outputs, targets, prepared.targets("train"), workspace.manifest, workspace.description)
