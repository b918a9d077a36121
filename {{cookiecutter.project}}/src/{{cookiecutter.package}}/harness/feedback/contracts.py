"""Types of the room, and the protocol of the modules that write labeled examples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ..contracts import Description

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .person import Person

UNKNOWN = "unknown"  # the contributor of feedback that names none


class Labeled(NamedTuple):
    """An example from production with its actual value.

    Attributes:
        id: Id of the answer.
        place: Position in the request.
        time: When it was answered, in seconds since 1970-01-01 UTC.
        contributor: Who gave the actual value.
        actual: The class, or the number.
        example: The row, column -> value; or the picture, PNG in base64.
        prediction: The answer of the model.
    """

    id: str
    place: int
    time: float
    contributor: str
    actual: str | float
    example: Any
    prediction: dict[str, Any]

    @property
    def key(self) -> tuple[str, int]:
        """What identifies an example."""
        return self.id, self.place

    @property
    def agrees(self) -> bool | None:
        """Whether the model was right: its class, or its 90 % interval; None if it was not sure."""
        if "label" in self.prediction:
            label = self.prediction["label"]
            return None if label is None else bool(label == self.actual)
        low, high = self.prediction["low"], self.prediction["high"]
        return None if low is None else bool(low <= float(self.actual) <= high)


class Checked(NamedTuple):
    """Examples after the checks of `prepare`.

    Attributes:
        usable: Those that it will take.
        problems: A line for each of the others.
    """

    usable: Sequence[Labeled]
    problems: Sequence[str]


class Destination(Protocol):
    """Writer of labeled examples in the format of the configured source: `images` or `tables`."""

    def folder(self, source: Any) -> Path:
        """The folder of the source, in which examples from production are added.

        Args:
            source: The data source, as the function in `data._target_` returns it.

        Raises:
            UserError: If files cannot be added to the source.
        """

    def check(self, examples: Sequence[Labeled], source: Any) -> Checked:
        """The examples that `prepare` will take.

        Args:
            examples: The examples.
            source: The data source.

        Raises:
            UserError: If no example can be used, whatever is in it.
        """

    def strip(self, file: Path, name: str, source: Any, person: Person, to: Path | None) -> tuple[int, set[str]]:
        """Copies a file of the source without a person.

        Args:
            file: The file, under any name.
            name: Its path, relative to the folder.
            source: The data source.
            person: The person.
            to: Where to; None to count only.

        Returns:
            Number of examples of the person, and the ids of the answers that they come from.
        """

    def feeds(self, examples: Sequence[Any], description: Description) -> dict[str, NDArray[Any]]:
        """Inputs of the exported model, name -> array [N, ...].

        Args:
            examples: Examples as the service has kept them.
            description: Content of models/model.json.
        """

    def write(self, examples: Sequence[Labeled], source: Any, name: str) -> list[Path]:
        """Writes examples and returns the files.

        Args:
            examples: The examples.
            source: The data source.
            name: Name of a new file, without suffix.
        """
