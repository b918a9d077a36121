"""The exported model on disk, verified by its SHA-256."""

import json
from pathlib import Path
from typing import Any

from ..core import files
from ..core.errors import UserError


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
