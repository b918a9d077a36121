"""Reading of segments: decrypted with the identity that the environment names, verified, line by line."""

from __future__ import annotations

import gzip
import io
import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..capture.segments import BYTES, ENCRYPTED, SUFFIX
from ..capture.settings import IDENTITY
from ..core.errors import UNREADABLE, UserError, one_line
from .contracts import UNKNOWN, Labeled

if TYPE_CHECKING:
    from pyrage.x25519 import Identity

MOST = 2 * BYTES  # of a segment: a line of BYTES may follow nearly as many


class Label(NamedTuple):
    """The last feedback on a prediction.

    Attributes:
        actual: The class, or the number.
        contributor: Who gave it.
        time: When it came, in seconds since 1970-01-01 UTC.
    """

    actual: str | float
    contributor: str
    time: float


class Segments(NamedTuple):
    """The closed segments in a folder.

    Attributes:
        files: The segments, by day and time.
        identities: What decrypts them.
    """

    files: Sequence[Path]
    identities: Sequence[Identity]

    def lines(self, encrypted: bool | None = None) -> Iterator[dict[str, Any]]:
        """Yields the content of every line.

        Args:
            encrypted: Whether segments are encrypted; None if their names say so.

        Raises:
            UserError: If a segment cannot be decrypted, is damaged, or is not of a service.
        """
        for file in self.files:
            for number, line in enumerate(self._text(file, encrypted).splitlines(), 1):
                yield _checked(line, f"{file}:{number}")

    def _text(self, file: Path, encrypted: bool | None) -> bytes:
        data = file.read_bytes()
        if file.suffix == ENCRYPTED if encrypted is None else encrypted:
            data = _decrypted(file, data, self.identities)
        try:
            if not data:
                raise EOFError("it is empty")
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as unpacked:
                text = unpacked.read(MOST + 1)
        except (EOFError, OSError, zlib.error) as error:
            raise UserError(f"{file}: is damaged: {one_line(error)}: bring it again, or remove it") from None
        if len(text) > MOST:  # whoever may write to the folder could otherwise fill the memory by a small file
            raise UserError(f"{file}: has more than the {MOST / 2**20:.0f} MiB that a service writes: remove it")
        return text

    def requests(self) -> Iterator[tuple[dict[str, Any], list[tuple[Any, dict[str, Any]]]]]:
        """Yields the line of each request, and its examples with their predictions."""
        for line in self.lines():
            if "request" in line:
                ((_, examples),) = line["request"].items()
                yield line, [*zip(examples, line["answer"]["predictions"], strict=False)]

    def labels(self) -> dict[tuple[str, int], Label]:
        """Id and position of a prediction -> its last feedback."""
        found: dict[tuple[str, int], Label] = {}
        for line in self.lines():
            for item in line.get("feedback", ()):
                label = Label(item["actual"], line["contributor"] or UNKNOWN, line["time"])
                key = item["id"], item["index"]
                if key not in found or found[key].time <= label.time:
                    found[key] = label
        return found

    def labeled(self, labels: Mapping[tuple[str, int], Label]) -> Iterator[Labeled]:
        """Yields the predictions with feedback whose request is here.

        Args:
            labels: Id and position of a prediction -> feedback.
        """
        for line, pairs in self.requests():
            yield from joined(line, pairs, labels)


def _checked(line: bytes, place: str) -> dict[str, Any]:
    """The content of a line.

    Raises:
        UserError: If no service has written it.
    """
    try:
        content = json.loads(line)
        datetime.fromtimestamp(content["time"], UTC)
        if "request" in content:
            ((_, examples),) = content["request"].items()
            answer = content["answer"]
            _ = hash(content["id"]), answer["model_version"], answer["predictions"][: len(examples)]
        else:
            str.strip(content["contributor"])
            _ = {(item["id"], item["index"]): item["actual"] for item in content["feedback"]}
    except json.JSONDecodeError as error:
        raise UserError(f"{place}: is not JSON: {one_line(error)}") from None
    except (OSError, *UNREADABLE):
        raise UserError(f"{place}: is no line of the service's log: bring the file again, or remove it") from None
    return dict(content)


def joined(
    line: Mapping[str, Any], pairs: Sequence[tuple[Any, dict[str, Any]]], labels: Mapping[tuple[str, int], Label]
) -> Iterator[Labeled]:
    """Yields the predictions of a request with feedback.

    Args:
        line: The line of the request.
        pairs: Its examples with their predictions.
        labels: Id and position of a prediction -> feedback.
    """
    for index, (example, prediction) in enumerate(pairs):
        if label := labels.get((line["id"], index)):
            yield Labeled(line["id"], index, line["time"], label.contributor, label.actual, example, prediction)


def _decrypted(file: Path, data: bytes, identities: Sequence[Identity]) -> bytes:
    if not identities:
        raise UserError(f"{file} is encrypted: {IDENTITY} must name the file with the secret key of age")
    import pyrage

    try:
        return bytes(pyrage.decrypt(data, list(identities)))
    except pyrage.DecryptError as error:
        raise UserError(
            f"{file}: the key that {IDENTITY} names does not decrypt it ({one_line(error)}): it is that of another "
            "recipient, or the file is damaged"
        ) from None


def open_segments(folder: Path, environment: Mapping[str, str] = os.environ) -> Segments:
    """The segments in a folder, as SERVICE_LOG names it or `dvc import-url` copies it.

    Args:
        folder: The folder.
        environment: The environment variables.

    Raises:
        UserError: If there is no such folder, or the identity cannot be read.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder: bring the segments of the service, see docs/feedback.md")
    files = [file for file in folder.rglob(f"*{SUFFIX}*") if file.name.endswith((SUFFIX, SUFFIX + ENCRYPTED))]
    return Segments(sorted(files), identities(environment))


def identities(environment: Mapping[str, str]) -> list[Identity]:
    """The secret keys in the file that the environment names; none if it names no file.

    Args:
        environment: The environment variables.

    Raises:
        UserError: If the file cannot be read.
    """
    if not (name := environment.get(IDENTITY, "")):
        return []
    from pyrage import IdentityError
    from pyrage.x25519 import Identity

    try:
        lines = Path(name).read_text(encoding="utf-8").splitlines()
        return [Identity.from_str(line.strip()) for line in lines if line.strip() and not line.startswith("#")]
    except (OSError, UnicodeDecodeError, IdentityError) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise UserError(f"{IDENTITY}={name}: a file with a secret key of age is expected: {reason}") from None
