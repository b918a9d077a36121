"""The model of a batch prediction, and its predictions as Arrow batches."""

import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import targets
from ..core import files
from ..core.errors import UserError
from ..exported import NOT_FINITE
from ..exported import model as exported_model
from .items import Batch, BatchInput

if TYPE_CHECKING:
    import onnxruntime
    import pyarrow as pa


class Model(NamedTuple):
    """A loaded model.

    Attributes:
        description: Content of model.json.
        digest: SHA-256 of model.json, which contains that of model.onnx.
        session: ONNX Runtime session of model.onnx.
    """

    description: dict[str, Any]
    digest: str
    session: "onnxruntime.InferenceSession"

    @property
    def version(self) -> str:
        """The model version that batch predictions and the service report."""
        return str(self.description["sha256"][:12])


def load(folder: Path) -> Model:
    """A verified and loaded model.

    Args:
        folder: Folder of model.json and model.onnx.

    Raises:
        UserError: If a file is missing, the files do not match, or this project has no code for the model.
    """
    import onnxruntime

    description = exported_model.read(folder)
    for room, kind in (("inputs", description["input"]), ("targets", description["target"])):
        if importlib.util.find_spec(f"..{room}.{kind}", __package__) is None:
            raise UserError(f"{folder} has a model of {kind}, for which this project has no code")
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    return Model(description, files.digest(folder / "model.json"), session)


def output_schema(batch_input: BatchInput, model: Model) -> "pa.Schema":
    """Columns of the output: identifiers, prediction, error and model version.

    Args:
        batch_input: The input.
        model: The model.
    """
    import pyarrow as pa

    keys = [(key, pa.type_for_alias(kind)) for key, kind in batch_input.keys.items()]
    answer = targets.target(model.description).answer_schema(model.description)
    leaves = [(name, pa.string() if kind == "string" else pa.float64()) for name, kind in _schema_leaves(answer)]
    return pa.schema([*keys, *leaves, ("error", pa.string()), ("model_version", pa.string())])


def _schema_leaves(schema: Mapping[str, Any], name: str = "") -> Iterator[tuple[str, str]]:
    """Yields dotted name and type of each leaf of a JSON schema."""
    if schema["type"] != "object":
        yield name, schema["type"]
        return
    for key, value in schema["properties"].items():
        yield from _schema_leaves(value, f"{name}.{key}" if name else key)


def _leaves(answer: Mapping[str, Any]) -> Iterator[Any]:
    """Yields the leaves of an answer, in the order of `_schema_leaves`."""
    for value in answer.values():
        if isinstance(value, Mapping):
            yield from _leaves(value)
        else:
            yield value


def answer(batch: Batch, model: Model, schema: "pa.Schema") -> "pa.RecordBatch":
    """Predictions of a batch.

    Args:
        batch: The items to predict.
        model: The model.
        schema: Columns of the output.
    """
    import pyarrow as pa

    errors = list(batch.errors)
    undefined = (None,) * (len(schema) - len(batch.keys) - 2)  # without error and model version
    rows: list[tuple[Any, ...]] = [undefined] * len(errors)
    places = [place for place, error in enumerate(errors) if error is None]
    for place, row in zip(places, _predictions(batch, model) if places else (), strict=True):
        if row is None:
            errors[place] = NOT_FINITE
        else:
            rows[place] = row
    values = [*batch.keys.values(), *zip(*rows, strict=True), errors, [model.version] * len(errors)]
    columns = [pa.array(column, kind) for column, kind in zip(values, schema.types, strict=True)]
    return pa.record_batch(columns, schema=schema)


def _predictions(batch: Batch, model: Model) -> Iterator[tuple[Any, ...] | None]:
    """Yields the leaves of each prediction, None if it is not finite."""
    from ..exported.inference import finite_rows

    target = targets.target(model.description)
    outputs = model.session.run([target.OUTPUT], dict(batch.feeds))[0]
    for finite, item in zip(finite_rows(outputs), target.answers(outputs, model.description), strict=True):
        yield tuple(_leaves(item)) if finite else None
