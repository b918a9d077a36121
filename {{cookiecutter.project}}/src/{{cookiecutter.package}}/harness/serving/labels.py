"""Labels of the Bento, computed when `bentoml build` reads them."""

import logging
from collections.abc import Iterable

from bentoml.exceptions import BentoMLException

from .model import read_model_info


class BuildLabels:
    """A mapping that computes its items when its keys are read.

    Only a build reads the keys: serving must not depend on git and MLflow, and a Bento does not contain `tracking`.
    """

    def keys(self) -> Iterable[str]:
        """Computes the labels, because `dict.update` reads the keys first.

        Raises:
            BentoMLException: If there is no model, or it differs from dvc.lock.
        """
        from ..tracking.labels import labels

        # With a custom Dockerfile, BentoML falls back to an older format of bento.yaml and warns at every build.
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
