"""The exported model on disk, verified by its SHA-256 and the domains of its operators."""

import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from ..contracts import Description
from ..core import files
from ..core.errors import UNREADABLE, UserError

DECISION = "decision.json"  # written by `evaluate`, because an edit of its settings must not train anew
# Of operators: those of ONNX, and those that ONNX Runtime adds. Others run code of a library, which nothing here loads.
DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft"}
CUT = "the last field is cut"
OPERATOR_SETS, DOMAIN = 8, 1  # numbers of fields in https://github.com/onnx/onnx/blob/main/onnx/onnx.proto


def read(folder: Path) -> dict[str, Any]:
    """The content of model.json, after model.onnx is verified.

    Args:
        folder: Folder of model.json and model.onnx.

    Raises:
        UserError: If a file is missing, or model.onnx does not have the SHA-256 in model.json, or other operators than
            those of `DOMAINS`.
    """
    model, description = folder / "model.onnx", folder / "model.json"
    try:
        content: dict[str, Any] = json.loads(description.read_bytes())
        recorded = content["sha256"]
        actual = files.digest(model)
    except FileNotFoundError as error:
        raise UserError(f"there is no {error.filename}: run `dvc repro` or `dvc pull`") from None
    except UNREADABLE:
        raise UserError(f"{description} does not describe a model: run `dvc repro`") from None
    if actual != recorded:
        raise UserError(f"{model} differs from model.json: run `dvc repro` or `dvc checkout`")
    try:
        strange = sorted(domains(model) - DOMAINS)
    except ValueError:
        raise UserError(f"{model} is no ONNX model: run `dvc repro` or `dvc checkout`") from None
    if strange:
        raise UserError(
            f"{model} has operators of the domain {strange[0][:100]!r}, which neither ONNX nor ONNX Runtime defines: "
            "it is not run"
        )
    return content


def domains(model: Path) -> set[str]:
    """The domains of the operators of an ONNX model: those of its operator sets.

    The file is read without the library onnx, which the service does not have, and without its weights.

    Args:
        model: The file.

    Raises:
        ValueError: If it is no ONNX model.
    """
    with model.open("rb") as file:
        sets = list(_contents(file, model.stat().st_size, OPERATOR_SETS))
    if not sets:
        raise ValueError("a model has an operator set")
    return {next(_contents(io.BytesIO(each), len(each), DOMAIN), b"").decode() for each in sets}


def _contents(file: BinaryIO, size: int, wanted: int) -> Iterator[bytes]:
    """Contents of a field of a message: https://protobuf.dev/programming-guides/encoding/.

    Raises:
        ValueError: If it is no message.
    """
    while file.tell() < size:
        field, kind = divmod(_number(file), 8)
        if kind == 2:
            if (length := _number(file)) > size - file.tell():  # more than a file of this size can be asked for
                raise ValueError(CUT)
            if field == wanted:
                yield file.read(length)
            else:
                file.seek(length, io.SEEK_CUR)
        elif kind == 0:
            _number(file)
        elif kind in (1, 5):
            file.seek(8 if kind == 1 else 4, io.SEEK_CUR)
        else:
            raise ValueError("no type of a field")
    if file.tell() > size:
        raise ValueError(CUT)


def _number(file: BinaryIO) -> int:
    value = 0
    for shift in range(0, 64, 7):
        (byte,) = file.read(1)  # a ValueError at the end of the file
        value |= (byte & 127) << shift
        if byte < 128:
            return value
    raise ValueError("no number is longer")


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
    except UNREADABLE:
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
