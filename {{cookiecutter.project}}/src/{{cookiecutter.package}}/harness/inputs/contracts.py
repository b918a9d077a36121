"""Types of the modules that decode requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from ..contracts import Description

if TYPE_CHECKING:
    import pydantic
    from numpy.typing import NDArray

MAX_FILE_BYTES = 32 * 2**20  # of a file that is decoded for a prediction


class RequestDecoder(Protocol):
    """Decodes requests to inputs of the exported model: `images` or `tables`.

    Every `description` is the content of models/model.json.

    Attributes:
        FILE: The accepted files, in words.
    """

    FILE: str

    def request_model(self, description: Description, most: int) -> type[pydantic.BaseModel]:
        """Model that parses and checks a JSON body; its field `instances` is a list.

        Args:
            description: Content of models/model.json.
            most: Maximum number of instances in a request.
        """

    def from_json(self, instances: list[Any], description: Description) -> dict[str, NDArray[Any]]:
        """Input of the exported model -> array [N, ...], from the parsed `instances`."""

    def from_file(self, data: bytes, description: Description) -> dict[str, NDArray[Any]]:
        """Input of the exported model -> array [N, ...], from the content of a file.

        Raises:
            ValueError: If the file cannot be used; the message is one line for a person.
        """

    def instance(self, description: Description) -> str:
        """An instance, in words."""

    def instance_schema(self, description: Description) -> dict[str, Any]:
        """JSON schema of an instance."""


@runtime_checkable
class ArrayDecoder(RequestDecoder, Protocol):
    """A decoder that also takes arrays in NumPy's format; `isinstance` tells it from the others."""

    def from_npy(self, data: bytes, description: Description, most: int) -> dict[str, NDArray[Any]]:
        """Input of the exported model -> array [N, ...], from an array as numpy.save writes it.

        Args:
            data: Content of the file.
            description: Content of models/model.json.
            most: Maximum number of instances in a request.

        Raises:
            ValueError: If the array cannot be used; the message is one line for a person.
        """
