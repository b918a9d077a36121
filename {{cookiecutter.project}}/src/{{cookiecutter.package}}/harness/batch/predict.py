"""Command `predict`: batch prediction of a folder of pictures, or of a CSV or Parquet file."""

import hashlib
import itertools
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from filelock import FileLock, Timeout

from ..core import files
from ..core.commands import FILE
from ..core.errors import UserError
from ..core.paths import MODELS
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
def command(source: Path, output: Path, folder: Path | None) -> None:
    """Predicts all items of INPUT and writes them to OUTPUT.

    INPUT is a folder of pictures, or a .csv or .parquet file. OUTPUT ends in .csv or .parquet. It has a row for each
    item of INPUT, in the same order: the item (its `path` in the folder, or its `row` below the header, and its `id` if
    the data have one), the prediction under the names that the service uses (`probabilities.<class>`), `error`, and
    `model_version`. An item that cannot be predicted has an error instead of a prediction.

    Finished parts are kept beside OUTPUT until all items are predicted: after an interruption, the same command
    continues. OUTPUT.json records the input and the model: if neither has changed, nothing is predicted again.
    """
    try:
        record = predict(source, output, folder or MODELS)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the same command continues where it stopped") from None
    predicted = record["items"] - record["failed"]
    click.echo(f"{output}: {predicted:,} predictions of {record['items']:,} by model {record['model_version']}")
    if record["failed"]:
        click.echo(f"{record['failed']:,} items could not be predicted: see the column `error`", err=True)
        raise SystemExit(FAILED)


def predict(source: Path, output: Path, folder: Path = MODELS) -> dict[str, Any]:
    """Predicts all items of an input.

    Args:
        source: A folder of pictures, or a table.
        output: The file to write.
        folder: Folder of the model.

    Returns:
        The content of OUTPUT.json: input, model, number of items, and of those that could not be predicted.

    Raises:
        UserError: If the output cannot be written, or the input or the model cannot be read.
    """
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
            finished = write_parts(batch_input, model, parts, schema)
            if job.fingerprint(job.read_input()) != fingerprint:
                raise UserError(f"{source}: has changed during the prediction: run the same command again")
            record = job.write_record(fingerprint, parts.join(finished, schema, output))
            shutil.rmtree(parts.folder)
    except Timeout:
        raise UserError(f"{output}: another process is writing it: wait until that has ended") from None
    except OSError as error:
        raise UserError(f"{output}: cannot be written: {error.strerror or error}") from None
    return record


def check_output(source: Path, output: Path) -> None:
    """Rejects an output that cannot be written.

    Args:
        source: The input.
        output: The file to write.

    Raises:
        UserError: If its suffix is unknown, its folder is missing, or it lies in the input.
    """
    if output.suffix.lower() not in (".csv", ".parquet"):
        raise UserError(f"{output}: predictions are written as .csv or .parquet: give it one of these endings")
    if not output.parent.is_dir():
        raise UserError(f"{output}: there is no folder {output.parent}: create it first")
    if output.is_dir():
        raise UserError(f"{output}: is a folder: give the name of a file")
    if source.resolve() in (output.resolve(), *output.resolve().parents):
        raise UserError(f"{output}: would change the input: write elsewhere")


class Job(NamedTuple):
    """A batch prediction.

    Attributes:
        source: A folder of pictures, or a table.
        output: The file to write.
        model: The model.
    """

    source: Path
    output: Path
    model: Model

    def read_input(self) -> BatchInput:
        """The input as it is on disk now."""
        return reader(self.model.description).batches(self.source, self.model.description)

    def fingerprint(self, batch_input: BatchInput) -> str:
        """Digest of input, model and form of the output."""
        parts = [batch_input.stamp, self.model.digest, self.output.suffix.lower()]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def recorded(self, fingerprint: str) -> dict[str, Any] | None:
        """The content of OUTPUT.json, if it records this fingerprint and the output as it is; else None."""
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


def write_parts(batch_input: BatchInput, model: Model, parts: Parts, schema: "pa.Schema") -> list[Path]:
    """Predicts the items that no finished part has.

    Args:
        batch_input: The input.
        model: The model.
        parts: Folder of the parts.
        schema: Columns of the output.

    Returns:
        All parts, in order.
    """
    from pyarrow import parquet
    from tqdm import tqdm

    finished = parts.finished()
    done = sum(parquet.read_metadata(part).num_rows for part in finished)
    if done:
        print(f"predict: continuing after {done:,} {batch_input.unit}", file=sys.stderr)
    batches = batch_input.read(done)
    with tqdm(total=batch_input.total, initial=done, unit=f" {batch_input.unit}", disable=None) as progress:
        for first in batches:
            path = parts.path(len(finished))
            with files.replacing(path) as temporary, parquet.ParquetWriter(temporary, schema) as writer:
                for batch in _part(first, batches, batch_input.part):
                    writer.write_batch(answer(batch, model, schema))
                    progress.update(len(batch.errors))
            finished.append(path)
    return finished


def _part(first: Batch, batches: Iterator[Batch], size: int) -> Iterator[Batch]:
    """Yields the batches of one part: the first one, and further ones up to the size of a part."""
    items = 0
    for batch in itertools.chain([first], batches):
        yield batch
        items += len(batch.errors)
        if items >= size:
            return
