"""Protocols of the modules that decode requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from ..contracts import Description

if TYPE_CHECKING:
    import pydantic
    from numpy.typing import NDArray

MAX_FILE_BYTES = 32 * 2**20  # of a file to predict
# Values of a JSON body, if a single instance has fewer: parsing takes 0.1 to 0.2 s and up to 150 MB for them.
MAX_JSON_VALUES = 400_000


class JsonLimits(NamedTuple):
    """What a JSON body of a model can need.

    Attributes:
        instances: Number of instances.
        size: Size of the body, in bytes.
        marks: Number of brackets, braces and colons.
    """

    instances: int
    size: int
    marks: int

    def check(self, body: bytes) -> None:
        """Refuses a body that cannot be one of the model's, before it is parsed.

        A parser takes a hundred times the memory of a body of empty lists or unknown keys.

        Raises:
            ValueError: If the body is larger or has more marks; the message is one line for the user.
        """
        most = "one instance" if self.instances == 1 else f"{self.instances} instances"
        if len(body) > self.size:
            raise ValueError(f"the body has {len(body)} bytes, more than JSON of {most} needs ({self.size})")
        if (marks := sum(body.count(mark) for mark in (b"[", b"{", b":"))) > self.marks:
            raise ValueError(f"the body has {marks} brackets, braces and colons, more than {most} can have")


class RequestDecoder(Protocol):
    """Decoder of requests into inputs of the exported model: `images` or `tables`.

    Every `description` is the content of models/model.json.

    Attributes:
        FILE: Description of the accepted files.
    """

    FILE: str

    def names(self, description: Description) -> set[str]:
        """Names of the exported model's inputs."""

    def json_limits(self, description: Description, most: int) -> JsonLimits:
        """Limits of a JSON body.

        Args:
            description: Content of models/model.json.
            most: Maximum number of instances.
        """

    def request_model(self, description: Description, most: int) -> type[pydantic.BaseModel]:
        """Pydantic model of a JSON body, with the list `instances`.

        Args:
            description: Content of models/model.json.
            most: Maximum number of instances.
        """

    def from_json(self, instances: list[Any], description: Description) -> dict[str, NDArray[Any]]:
        """Inputs of the exported model, name -> array [N, ...], from parsed `instances`.

        Raises:
            ValueError: If a value cannot be used; the message is one line for the user.
        """

    def from_file(self, data: bytes, description: Description) -> dict[str, NDArray[Any]]:
        """Inputs of the exported model, name -> array [N, ...], from a file.

        Raises:
            ValueError: If the file cannot be used; the message is one line for the user.
        """

    def instance(self, description: Description) -> str:
        """Description of an instance for users."""

    def instance_schema(self, description: Description) -> dict[str, Any]:
        """JSON schema of an instance."""


@runtime_checkable
class ArrayDecoder(RequestDecoder, Protocol):
    """Decoder that also takes arrays in NumPy's format; usable with `isinstance`."""

    def from_npy(self, data: bytes, description: Description, most: int) -> dict[str, NDArray[Any]]:
        """Inputs of the exported model, name -> array [N, ...], from a .npy file.

        Args:
            data: Content of the file.
            description: Content of models/model.json.
            most: Maximum number of instances.

        Raises:
            ValueError: If the array cannot be used; the message is one line for the user.
        """
