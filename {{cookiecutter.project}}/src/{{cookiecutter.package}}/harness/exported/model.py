"""The exported model on disk, verified by its SHA-256."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..contracts import Description
from ..core import files
from ..core.errors import UserError

DECISION = "decision.json"  # written by `evaluate`, because an edit of its settings must not train anew


def read(folder: Path) -> dict[str, Any]:
    """The content of model.json, after model.onnx is verified.

    Args:
        folder: Folder of model.json and model.onnx.

    Raises:
        UserError: If a file is missing, or model.onnx does not have the SHA-256 in model.json.
    """
    model, description = folder / "model.onnx", folder / "model.json"
    try:
        content: dict[str, Any] = json.loads(description.read_bytes())
        recorded = content["sha256"]
        actual = files.digest(model)
    except FileNotFoundError as error:
        raise UserError(f"there is no {error.filename}: run `dvc repro` or `dvc pull`") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{description} does not describe a model: run `dvc repro`") from None
    if actual != recorded:
        raise UserError(f"{model} differs from model.json: run `dvc repro` or `dvc checkout`")
    return content


def served(folder: Path) -> dict[str, Any]:
    """The content of model.json and, as `decision`, of decision.json: all that answers depend on.

    A model from before decisions has no decision.json.

    Args:
        folder: Folder of the model.

    Raises:
        UserError: As `read`, or if decision.json is of another model.
    """
    content, path = read(folder), folder / DECISION
    try:
        return with_decision(content, json.loads(path.read_bytes()) if path.exists() else {})
    except (ValueError, TypeError, KeyError):
        raise UserError(f"{path} is not that of {folder / 'model.onnx'}: run `dvc repro` or `dvc checkout`") from None


def with_decision(description: Description, decision: Mapping[str, Any]) -> dict[str, Any]:
    """A description with its decision; the same description if nothing is decided.

    Args:
        description: Content of model.json.
        decision: Content of decision.json.

    Raises:
        ValueError: If the decision is that of another model.
    """
    if not decision:
        return {**description}
    if decision["model"] != description["sha256"]:
        raise ValueError("the decision is that of another model")
    return {**description, "decision": decision}
