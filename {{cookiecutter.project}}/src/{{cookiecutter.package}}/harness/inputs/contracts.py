"""Protocols of the modules that decode requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from ..contracts import Description

if TYPE_CHECKING:
    import pydantic
    from numpy.typing import NDArray

MAX_FILE_BYTES = 32 * 2**20  # of a file to predict


class RequestDecoder(Protocol):
    """Decoder of requests into inputs of the exported model: `images` or `tables`.

    Every `description` is the content of models/model.json.

    Attributes:
        FILE: Description of the accepted files.
    """

    FILE: str

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
