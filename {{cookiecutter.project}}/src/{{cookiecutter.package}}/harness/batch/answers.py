"""The model of a batch prediction, and its predictions as Arrow batches."""

import importlib.util
import json
import socket
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
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
    """A loaded model; when it is pickled, the other process loads it from its folder.

    Attributes:
        folder: Folder of model.json and model.onnx.
        description: Content of model.json, with `decision`.
        digest: SHA-256 of model.json, which contains that of model.onnx, and of decision.json if it decides anything.
        session: ONNX Runtime session of model.onnx.
    """

    folder: Path
    description: dict[str, Any]
    digest: str
    session: "onnxruntime.InferenceSession"

    def __reduce__(self) -> tuple[Callable[[Path, str], "Model"], tuple[Path, str]]:
        """How to load the model in another process."""
        return _loaded_again, (self.folder, self.digest)

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

    from ..exported.inference import THREADS

    description = exported_model.served(folder)
    for room, kind in (("inputs", description["input"]), ("targets", description["target"])):
        if importlib.util.find_spec(f"..{room}.{kind}", __package__) is None:
            raise UserError(f"{folder} has a model of {kind}, for which this project has no code")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS  # here and on any node: sums over trees are split by it
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # between batches, others compute
    session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    digest = files.digest(folder / "model.json")
    if "decision" in description:
        digest += files.digest(folder / exported_model.DECISION)
    return Model(folder, description, digest, session)


@lru_cache(maxsize=1)
def _loaded_again(folder: Path, digest: str) -> Model:
    """A model in the process of a worker, where all tasks use it."""
    model = load(folder)
    if model.digest != digest:
        raise UserError(f"{socket.gethostname()}: {folder} holds another model than on the machine that predicts")
    return model


def output_schema(batch_input: BatchInput, model: Model) -> "pa.Schema":
    """Columns of the output: identifiers, prediction, error and model version.

    Args:
        batch_input: The input.
        model: The model.
    """
    import pyarrow as pa

    keys = [(key, pa.type_for_alias(kind)) for key, kind in batch_input.keys.items()]
    answer = targets.target(model.description).answer_schema(model.description)
    leaves = [(name, pa.float64() if kind == "number" else pa.string()) for name, kind in _schema_leaves(answer)]
    return pa.schema([*keys, *leaves, ("error", pa.string()), ("model_version", pa.string())])


def _schema_leaves(schema: Mapping[str, Any], name: str = "") -> Iterator[tuple[str, str]]:
    """Yields dotted name and type of each leaf of a JSON schema."""
    if schema["type"] != "object":
        yield name, schema["type"]
        return
    for key, value in schema["properties"].items():
        yield from _schema_leaves(value, f"{name}.{key}" if name else key)


def _leaves(answer: Mapping[str, Any]) -> Iterator[Any]:
    """Yields the leaves of an answer, in the order of `_schema_leaves`; a list is a text in JSON."""
    for value in answer.values():
        if isinstance(value, Mapping):
            yield from _leaves(value)
        else:
            yield json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value


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
