"""Labels of the Bento, computed when `bentoml build` reads them."""

import logging
from collections.abc import Iterable

from bentoml.exceptions import BentoMLException

from .model import read_model_info


class BuildLabels:
    """A mapping that computes its items when its keys are read.

    Serving must neither wait for git and MLflow nor need them, and a Bento has no tracking room at all.
    """

    def keys(self) -> Iterable[str]:
        """Computes the labels: `dict.update` reads the keys first.

        Raises:
            BentoMLException: If there is no model, or it is not what dvc.lock records.
        """
        from ..tracking.labels import labels

        # With a Dockerfile of our own, BentoML falls back to an older form of its file and warns at every build.
        logging.getLogger("bentoml.build").addFilter(lambda record: "fallback to bento v1" not in record.getMessage())
        read_model_info()
        try:
            self._labels = labels()
        except Exception as error:
            raise BentoMLException(f"cannot label the Bento: {error}") from error
        return self._labels.keys()

    def __getitem__(self, key: str) -> str:
        """The value of a label."""
        return self._labels[key]
