"""Batch prediction: a folder of pictures, or a CSV or Parquet file, to a table of predictions.

    python -m <package>.predict INPUT OUTPUT                  the model in models/
    python -m <package>.predict INPUT OUTPUT --model FOLDER   another one, laid out like models/

OUTPUT ends in .csv or .parquet. It has a row for each item of INPUT, in its order: the item (`path` in the folder, or
the number of the `row` below the header, and its `id` where the data have one), the prediction with the names that the
service gives it (`probabilities.<class>`), `error`, and `model_version`. An item that cannot be predicted has only an
error, and the others go on: the exit status is then 3.

Items pass in batches; the answers are kept in parts beside OUTPUT, and put together in one step at the end. What was
stopped, in whatever way, goes on after its last part with the same command. OUTPUT.json says what OUTPUT was made
from: where nothing has changed since, nothing is predicted again.
"""

import argparse
import contextlib
import hashlib
import importlib.util
import itertools
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from .. import targets
from ..core import stages
from ..core.errors import UserError
from ..core.paths import NAME
from . import items, reader

if TYPE_CHECKING:
    import onnxruntime
    import pyarrow as pa

MODELS = Path("models")
FAILED = 3  # exit status where OUTPUT is complete and some items could not be predicted
GROUP_ROWS, GROUP_BYTES = 1 << 16, 1 << 26  # the most that is in memory when parts are put together


class Model(NamedTuple):
    """A model on disk.

    Attributes:
        description: The content of model.json.
        digest: SHA-256 of model.json, which holds that of model.onnx.
        session: Asks model.onnx.
    """

    description: dict[str, Any]
    digest: str
    session: "onnxruntime.InferenceSession"

    @property
    def version(self) -> str:
        """As the service names it."""
        return str(self.description["sha256"][:12])


def load(folder: Path) -> Model:
    """Loads a model.

    Args:
        folder: Where `export.save` has written.

    Raises:
        UserError: Where there is none, or its files do not belong together.
    """
    import onnxruntime

    try:
        described = (folder / "model.json").read_bytes()
        description = json.loads(described)
        if digest(folder / "model.onnx") != description["sha256"]:
            raise UserError(f"{folder / 'model.onnx'} differs from model.json: run `dvc repro`")
    except OSError as error:
        raise UserError(f"there is no {error.filename}: run `dvc repro` or `dvc pull`, or give --model") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{folder / 'model.json'} does not describe a model: run `dvc repro`") from None
    for part, name in (("inputs", description["input"]), ("targets", description["target"])):
        if importlib.util.find_spec(f"..{part}.{name}", __package__) is None:
            raise UserError(f"{folder}: is a model of {name}, for which this project has no code")
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    return Model(description, hashlib.sha256(described).hexdigest(), session)


def fields(questions: items.BatchInput, model: Model) -> "pa.Schema":
    """Returns the columns of the output; those of the prediction are the leaves of the service's answer.

    Args:
        questions: What is asked.
        model: The model.
    """
    import pyarrow as pa

    def leaves(schema: Mapping[str, Any], name: str) -> Iterator[tuple[str, Any]]:
        if schema["type"] == "object":
            for key, value in schema["properties"].items():
                yield from leaves(value, f"{name}.{key}" if name else key)
        else:
            yield name, pa.string() if schema["type"] == "string" else pa.float64()

    keys = [(key, pa.type_for_alias(kind)) for key, kind in questions.keys.items()]
    answer = targets.target(model.description).answer_schema(model.description)
    return pa.schema([*keys, *leaves(answer, ""), ("error", pa.string()), ("model_version", pa.string())])


def flat(answer: Mapping[str, Any]) -> Iterator[Any]:
    """Yields the leaves of an answer, in the order of `fields`."""
    for value in answer.values():
        if isinstance(value, Mapping):
            yield from flat(value)
        else:
            yield value


def answer(asked: items.Batch, model: Model, schema: "pa.Schema") -> "pa.RecordBatch":
    """Predicts some items.

    Args:
        asked: The items.
        model: The model.
        schema: Of the output.
    """
    import pyarrow as pa

    target, errors = targets.target(model.description), list(asked.errors)
    places = [place for place, error in enumerate(errors) if error is None]
    rows: list[tuple[Any, ...]] = [()] * len(errors)
    if places:
        outputs: NDArray[Any] = model.session.run([target.OUTPUT], dict(asked.feeds))[0]
        finite = np.isfinite(outputs).all(axis=1)
        for place, found, usable in zip(places, target.answers(outputs, model.description), finite, strict=True):
            if usable:
                rows[place] = tuple(flat(found))
            else:
                errors[place] = "the model's answer is no finite number: a value is too extreme"
    predicted = schema.names[len(asked.keys) : -2]
    nothing = (None,) * len(predicted)
    columns = zip(*(row or nothing for row in rows), strict=True)
    values = [*asked.keys.values(), *columns, errors, [model.version] * len(errors)]
    return pa.record_batch(
        [pa.array(column, kind) for column, kind in zip(values, schema.types, strict=True)], schema=schema
    )


class Parts(NamedTuple):
    """Answers kept in a folder beside the output until all are there.

    Attributes:
        folder: The folder.
        fingerprint: Of input, model and output.
    """

    folder: Path
    fingerprint: str

    def open(self) -> list[Path]:
        """Returns the parts that are finished, after removing those that answered something else."""
        from pyarrow import ArrowException, parquet

        self.folder.mkdir(exist_ok=True)
        kept = self.folder / "fingerprint"
        if kept.exists() and kept.read_text() != self.fingerprint:
            print("predict: the input or the model has changed since this was stopped: from the start", file=sys.stderr)
            kept.unlink()
        if not kept.exists():
            for part in self.folder.glob("*.parquet*"):
                part.unlink()
            with replaced(kept) as temporary:
                temporary.write_text(self.fingerprint)
        found: list[Path] = []
        while (part := self.path(len(found))).exists():
            try:
                parquet.read_metadata(part)
            except (ArrowException, OSError):  # a disk that lost what it had promised to keep
                break
            found.append(part)
        return found

    def path(self, number: int) -> Path:
        """Returns where a part is."""
        return self.folder / f"{number:06}.parquet"


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Yields where to write a file, which takes its place at once when it is complete.

    Args:
        path: Its place.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())  # or a power cut could leave its name without its content
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_parts(questions: items.BatchInput, model: Model, parts: Parts, schema: "pa.Schema") -> list[Path]:
    """Predicts what is not yet predicted.

    Args:
        questions: What is asked.
        model: The model.
        parts: Where answers are kept.
        schema: Of the output.

    Returns:
        All parts, in order.
    """
    from pyarrow import parquet
    from tqdm import tqdm

    found = parts.open()
    done = sum(parquet.read_metadata(part).num_rows for part in found)
    if done:
        print(f"predict: going on after {done:,} {questions.unit}", file=sys.stderr)
    batches = questions.read(done)
    with tqdm(total=questions.total, initial=done, unit=f" {questions.unit}", disable=None) as progress:
        for first in batches:
            part = parts.path(len(found))
            with replaced(part) as temporary, parquet.ParquetWriter(temporary, schema) as writer:
                written = 0
                for asked in itertools.chain([first], batches):
                    writer.write_batch(answer(asked, model, schema))
                    written += len(asked.errors)
                    progress.update(len(asked.errors))
                    if written >= questions.part:
                        break
            found.append(part)
    return found


def groups(parts: Sequence[Path], schema: "pa.Schema") -> Iterator["pa.Table"]:
    """Yields all answers in order, as many at a time as a row group of Parquet should have.

    Args:
        parts: Where they are.
        schema: Of the output.
    """
    import pyarrow as pa
    from pyarrow import parquet

    pending: list[pa.RecordBatch] = []
    for part in parts:
        with parquet.ParquetFile(part) as file:
            for batch in file.iter_batches():
                pending.append(batch)
                if sum(map(len, pending)) >= GROUP_ROWS or sum(each.nbytes for each in pending) >= GROUP_BYTES:
                    yield pa.Table.from_batches(pending, schema)
                    pending = []
    yield pa.Table.from_batches(pending, schema)


def put_together(parts: Sequence[Path], schema: "pa.Schema", output: Path) -> dict[str, int]:
    """Writes the output in one step.

    Args:
        parts: All answers.
        schema: Of the output.
        output: Where to write; its suffix says how.

    Returns:
        How many items there are, and how many could not be predicted.
    """
    from pyarrow import csv, parquet

    items = failed = 0
    with replaced(output) as temporary:
        writer = csv.CSVWriter if output.suffix.lower() == ".csv" else parquet.ParquetWriter
        with writer(temporary, schema) as file:
            for group in groups(parts, schema):
                file.write_table(group)
                items += len(group)
                failed += len(group) - group["error"].null_count
    return {"items": items, "failed": failed}


def finished(output: Path, record: Path, fingerprint: str) -> dict[str, Any] | None:
    """Returns what is known of an output that holds the answers already.

    Args:
        output: The output.
        record: What it was made from.
        fingerprint: What it should be made from.
    """
    try:
        known: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
        if known["fingerprint"] == fingerprint and known["output_sha256"] == digest(output):
            return known
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def digest(path: Path) -> str:
    """Returns the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def predict(source: Path, output: Path, folder: Path = MODELS) -> dict[str, Any]:
    """Predicts everything in `source`; see above.

    Args:
        source: Pictures or a table.
        output: Where the predictions go.
        folder: Of the model.

    Returns:
        What OUTPUT.json holds: input, model, number of items, how many could not be predicted.

    Raises:
        UserError: Where nothing was predicted, and why.
    """
    if output.suffix.lower() not in (".csv", ".parquet"):
        raise UserError(f"{output}: predictions are written as .csv or .parquet: give it one of these endings")
    if not output.parent.is_dir():
        raise UserError(f"{output}: there is no folder {output.parent}: make it first")
    if output.is_dir():
        raise UserError(f"{output}: is a folder: give the name of a file")
    if source.resolve() in (output.resolve(), *output.resolve().parents):
        raise UserError(f"{output}: would change the input: write elsewhere")
    model = load(folder)

    def asked() -> tuple[items.BatchInput, str]:
        questions: items.BatchInput = reader(model.description).batches(source, model.description)
        made_from = [questions.stamp, model.digest, output.suffix.lower()]
        return questions, hashlib.sha256(json.dumps(made_from).encode()).hexdigest()

    questions, fingerprint = asked()
    record = output.with_name(f"{output.name}.json")
    if known := finished(output, record, fingerprint):
        print(f"predict: {output} holds these answers already", file=sys.stderr)
        return known
    schema, parts = fields(questions, model), Parts(output.with_name(f"{output.name}.parts"), fingerprint)
    try:
        parts.folder.mkdir(exist_ok=True)
        with FileLock(parts.folder / "lock", timeout=0):
            answers = write_parts(questions, model, parts, schema)
            if asked()[1] != fingerprint:
                raise UserError(f"{source}: has changed while it was read: the same command starts anew")
            counts = put_together(answers, schema, output)
            known = {
                "input": str(source),
                "model_version": model.version,
                "model_sha256": model.description["sha256"],
                **counts,
                "fingerprint": fingerprint,
                "output_sha256": digest(output),
            }
            with replaced(record) as temporary:
                temporary.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")
            shutil.rmtree(parts.folder)
    except Timeout:
        raise UserError(f"{output}: is being written by another process: wait until it has ended") from None
    except OSError as error:
        raise UserError(f"{output}: cannot be written: {error.strerror or error}") from None
    return known


def main() -> None:
    """Predicts, and says what was done."""
    parser = argparse.ArgumentParser(prog=f"python -m {NAME} predict", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("input", type=Path, metavar="INPUT", help="a folder of pictures, or a .csv or .parquet file")
    parser.add_argument("output", type=Path, metavar="OUTPUT", help="the file to write: .csv or .parquet")
    parser.add_argument("--model", type=Path, default=MODELS, metavar="FOLDER", help="the model; default: models")
    arguments = parser.parse_args()
    done = predict(arguments.input, arguments.output, arguments.model)
    made = done["items"] - done["failed"]
    print(f"{arguments.output}: {made:,} predictions of {done['items']:,} by model {done['model_version']}")
    if done["failed"]:
        print(f"{done['failed']:,} could not be made: the column `error` says why", file=sys.stderr)
        raise SystemExit(FAILED)


def start() -> None:
    """Runs the command."""
    stages.run(main, interrupted="the same command goes on where it was")


if __name__ == "__main__":
    start()
