"""Type of the modules that `batch` chooses by the model's description."""

from pathlib import Path
from typing import Protocol

from ..contracts import Description
from .items import BatchInput


class BatchReader(Protocol):
    """Reads the input of a batch prediction: `images` or `tables`."""

    def batches(self, path: Path, description: Description) -> BatchInput:
        """The items of a batch prediction.

        Args:
            path: Folder or file that a person has named.
            description: Content of models/model.json.

        Raises:
            UserError: If the path cannot be read, or lacks an input of the model.
        """
