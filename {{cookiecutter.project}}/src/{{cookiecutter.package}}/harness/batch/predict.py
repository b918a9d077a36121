"""Command `predict`: batch prediction of images or rows of a file."""

import hashlib
import itertools
import json
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from filelock import FileLock, Timeout

from ..core import files
from ..core.commands import FILE
from ..core.errors import UserError
from ..core.paths import MODELS
from ..executors import NAMES, VARIABLE, Executor, executor
from . import reader
from .answers import Model, answer, load, output_schema
from .items import Batch, BatchInput
from .parts import Parts

if TYPE_CHECKING:
    import pyarrow as pa

FAILED = 3  # exit code if the output is complete, but some items could not be predicted


@click.command(epilog=f"Exit code {FAILED}: the output is complete, but some items could not be predicted.")
@click.argument("source", metavar="INPUT", type=FILE)
@click.argument("output", metavar="OUTPUT", type=FILE)
@click.option("--model", "folder", type=FILE, metavar="FOLDER", help="Folder of the model.  [default: models]")
@click.option(
    "--executor",
    "where",
    type=click.Choice(NAMES),
    envvar=VARIABLE,
    help="Where to compute: in this process, or on a Ray cluster.  [default: local]",
)
def command(source: Path, output: Path, folder: Path | None, where: str | None) -> None:
    """Predict all items of INPUT and write the predictions to OUTPUT.

    INPUT is a folder of pictures, or a .csv or .parquet file. OUTPUT ends in .csv or .parquet. It has a row for each
    item of INPUT, in the same order: its `path` in the folder, or its `row` below the header and its `id`, if the data
    have ids; its prediction, named as in responses of the service (`probabilities.<class>`); `error`; and
    `model_version`. An item that cannot be predicted has an error instead of a prediction.

    Finished parts are stored beside OUTPUT until all items are predicted: after an interruption, run the same command
    to continue. OUTPUT.json records the input and the model: if neither has changed, nothing is predicted again.
    """
    try:
        record = predict(source, output, folder or MODELS, where)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("run the same command to continue") from None
    predicted = record["items"] - record["failed"]
    click.echo(f"{output}: {predicted:,} predictions of {record['items']:,} by model {record['model_version']}")
    if record["failed"]:
        click.echo(f"{record['failed']:,} items could not be predicted: see the column `error`", err=True)
        raise SystemExit(FAILED)


def predict(source: Path, output: Path, folder: Path = MODELS, where: str | None = None) -> dict[str, Any]:
    """Predicts all items of an input.

    Args:
        source: Folder of pictures, or file of a table.
        output: File to write.
        folder: Folder of the model.
        where: Name of the executor; see `executors.executor`.

    Returns:
        The content of OUTPUT.json: input, model, and numbers of all items and of those without prediction.

    Raises:
        UserError: If the output cannot be written, or the input or the model cannot be read.
    """
    execute = executor(where)
    check_output(source, output)
    model = load(folder)
    job = Job(source, output, model)
    batch_input = job.read_input()
    fingerprint = job.fingerprint(batch_input)
    if record := job.recorded(fingerprint):
        print(f"predict: {output} already has these predictions", file=sys.stderr)
        return record
    parts = Parts(output.with_name(f"{output.name}.parts"), fingerprint)
    try:
        parts.folder.mkdir(exist_ok=True)
        with FileLock(parts.folder / "lock", timeout=0):
            schema = output_schema(batch_input, model)
            work = partial(predictions, batch_input.batches, model, schema)
            finished = write_parts(batch_input, work, execute, parts, schema)
            if job.fingerprint(job.read_input()) != fingerprint:
                raise UserError(f"{source}: has changed during the prediction: run the same command again")
            record = job.write_record(fingerprint, parts.join(finished, schema, output))
            shutil.rmtree(parts.folder)
    except Timeout:
        raise UserError(f"{output}: another process is writing it: wait for it to end") from None
    except OSError as error:
        raise UserError(f"{output}: cannot be written: {error.strerror or error}") from None
    return record


def check_output(source: Path, output: Path) -> None:
    """Rejects an output that cannot be written.

    Args:
        source: Folder or file of the input.
        output: File to write.

    Raises:
        UserError: If the output has an unknown suffix or no folder, or is inside the input.
    """
    if output.suffix.lower() not in (".csv", ".parquet"):
        raise UserError(f"{output}: predictions are written as .csv or .parquet: use one of these suffixes")
    if not output.parent.is_dir():
        raise UserError(f"{output}: there is no folder {output.parent}: create it first")
    if output.is_dir():
        raise UserError(f"{output}: is a folder: name a file")
    if source.resolve() in (output.resolve(), *output.resolve().parents):
        raise UserError(f"{output}: would be part of the input: write elsewhere")


class Job(NamedTuple):
    """A batch prediction.

    Attributes:
        source: Folder of pictures, or file of a table.
        output: File to write.
        model: The model.
    """

    source: Path
    output: Path
    model: Model

    def read_input(self) -> BatchInput:
        """The input, as it is on disk now."""
        return reader(self.model.description).batches(self.source, self.model.description)

    def fingerprint(self, batch_input: BatchInput) -> str:
        """Digest of input, model and format of the output."""
        parts = [batch_input.stamp, self.model.digest, self.output.suffix.lower()]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def recorded(self, fingerprint: str) -> dict[str, Any] | None:
        """The content of OUTPUT.json; None unless it describes input and output."""
        try:
            record: dict[str, Any] = files.read_json(self._record)
            if record["fingerprint"] == fingerprint and record["output_sha256"] == files.digest(self.output):
                return record
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return None

    def write_record(self, fingerprint: str, counts: dict[str, int]) -> dict[str, Any]:
        """Writes OUTPUT.json and returns its content."""
        record = {
            "input": str(self.source),
            "model_version": self.model.version,
            "model_sha256": self.model.description["sha256"],
            **counts,
            "fingerprint": fingerprint,
            "output_sha256": files.digest(self.output),
        }
        files.write_text(self._record, json.dumps(record, indent=2) + "\n")
        return record

    @property
    def _record(self) -> Path:
        return self.output.with_name(f"{self.output.name}.json")


def predictions(
    batches: Callable[[Iterable[Any]], Iterator[Batch]], model: Model, schema: "pa.Schema", pieces: Iterable[Any]
) -> Iterator["pa.RecordBatch"]:
    """Yields the predictions of pieces of the input, batch by batch.

    Args:
        batches: Yields the batches of pieces.
        model: The model.
        schema: Columns of the output.
        pieces: Pieces of the input.
    """
    for batch in batches(pieces):
        yield answer(batch, model, schema)


def write_parts(
    batch_input: BatchInput, work: Callable[..., Any], execute: Executor, parts: Parts, schema: "pa.Schema"
) -> list[Path]:
    """Predicts the items that are not in a finished part.

    Args:
        batch_input: The input.
        work: Yields the predictions of pieces.
        execute: Where it computes.
        parts: Folder of the parts.
        schema: Columns of the output.

    Returns:
        All parts, in order.
    """
    from pyarrow import parquet
    from tqdm import tqdm

    finished = parts.finished()
    predicted = sum(parquet.read_metadata(part).num_rows for part in finished)
    if predicted:
        print(f"predict: continuing after {predicted:,} {batch_input.unit}", file=sys.stderr)
    batches = execute(work, batch_input.pieces(predicted))
    with tqdm(total=batch_input.total, initial=predicted, unit=f" {batch_input.unit}", disable=None) as progress:
        for first in batches:
            path = parts.path(len(finished))
            with files.replacing(path) as temporary, parquet.ParquetWriter(temporary, schema) as writer:
                for batch in _part(first, batches, batch_input.part):
                    writer.write_batch(batch)
                    progress.update(len(batch))
            finished.append(path)
    return finished


def _part(first: "pa.RecordBatch", batches: Iterator["pa.RecordBatch"], size: int) -> Iterator["pa.RecordBatch"]:
    """Yields the batches of one part, up to `size` items."""
    items = 0
    for batch in itertools.chain([first], batches):
        yield batch
        items += len(batch)
        if items >= size:
            return
