"""Protocol of the modules that read the input."""

from pathlib import Path
from typing import Protocol

from ..contracts import Description
from .items import BatchInput


class BatchReader(Protocol):
    """Reader of the input of a batch prediction: `images` or `tables`."""

    def batches(self, path: Path, description: Description) -> BatchInput:
        """The items of a batch prediction.

        Args:
            path: Folder or file from the command line.
            description: Content of models/model.json.

        Raises:
            UserError: If the path cannot be read, or lacks an input of the model.
        """
