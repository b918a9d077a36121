"""Counts of production's rows in the bins of the reference, as metrics; see `drift.reference`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import yaml
from bentoml.exceptions import BentoMLException

from ..core.errors import UserError
from .metrics import INFO, REFERENCE_ROWS, RIGHT_ROWS, family
from .model import FOLDER, ROOTS

if TYPE_CHECKING:
    from ..capture.answered import Answered
    from ..drift.reference import Reference
    from .model import ModelInfo
    from .rows import Rows

OF_REQUEST = 16  # rows of a request that are counted: more of one client say little
OF_BATCH = 64  # rows of a second that are counted, about: 200,000 of an hour say as much as all
TOGETHER = 5  # seconds whose rows are counted at once, which takes hardly longer than those of one
LABELS = ("git_commit", "training_key", "mlflow_run")  # of a Bento, that are those of `model_info`


def reference(info: ModelInfo) -> Reference | None:
    """The reference of the served model; None for an older model, whose rows are not counted.

    Args:
        info: The model.

    Raises:
        BentoMLException: If models/reference.json is damaged, or that of another model.
    """
    from ..drift.reference import read  # here, because it imports NumPy

    try:
        return read(FOLDER, info.model_dump())
    except UserError as error:
        raise BentoMLException(str(error)) from None


def facts(info: ModelInfo, reference: Reference | None) -> str:
    """Lines of /metrics: the reference, and where the model comes from as far as a Bento says it.

    Args:
        info: The model.
        reference: Its reference; None if it has none.
    """
    record = ROOTS[0] / "bento.yaml"
    labels = (yaml.safe_load(record.read_bytes()).get("labels") or {}) if record.exists() else {}
    rows, right = [], []
    for each in reference.variables if reference else []:
        rows += [((each.kind, each.column, name), count) for name, count in zip(each.labels, each.rows, strict=True)]
        if each.right is not None:
            right += [((name,), count) for name, count in zip(each.labels, each.right, strict=True)]
    origin = [labels.get(name, "") for name in LABELS]
    samples = (INFO, [(origin, 1)]), (REFERENCE_ROWS, rows), (RIGHT_ROWS, right)
    return "".join(family(name, info.version, each) for name, each in samples)


class Counting:
    """Counts rows; a consumer of the observer."""

    def __init__(self, reference: Reference, rows: Rows) -> None:
        """Begins without rows.

        Args:
            reference: The reference of the model.
            rows: What counts.
        """
        from ..drift.recent import Recent

        self._reference, self._rows = reference, rows
        self._stride, self._requests, self._rows_asked = 1, 0, 0
        self._recent = Recent()
        self._chosen: list[tuple[Mapping[str, Any], Any]] = []  # inputs and outputs that are not counted yet
        self._seconds = 0

    def wants(self, answered: Answered) -> bool:
        """Whether an answer may be in the sample: every second, third... if the last second had too many.

        To keep an answer costs more than to count it: its arrays, in place of which the next request needs others.

        Args:
            answered: The answer.
        """
        self._requests += 1
        self._rows_asked += min(len(answered.output), OF_REQUEST)
        return self._requests % self._stride == 0

    def take(self, batch: Sequence[Answered], dropped: int) -> None:
        """Chooses a sample of rows, each request's evenly spaced, and counts it every TOGETHER seconds.

        Args:
            batch: The answers of a second.
            dropped: Number of rows that are not in the batch; a sample does without them.
        """
        self._stride, self._rows_asked = max(1, self._rows_asked // OF_BATCH), 0
        rows = sum(min(len(answered.output), OF_REQUEST) for answered in batch)
        # Every second, third... request, so that all of the time is seen.
        for answered in batch[:: max(1, math.ceil(rows / OF_BATCH))]:
            few = len(answered.output) <= OF_REQUEST
            self._chosen.append((answered.feeds, answered.output) if few else _thinned(answered))
        self._seconds += 1
        if self._seconds >= TOGETHER:
            self._count()

    def close(self) -> None:
        """Counts the last rows."""
        self._count()

    def _count(self) -> None:
        import numpy as np

        chosen, self._chosen, self._seconds = self._chosen, [], 0
        if not chosen:
            return
        feeds = {name: np.concatenate([part[name] for part, _ in chosen]) for name in chosen[0][0]}
        outputs = np.concatenate([output for _, output in chosen])
        for (kind, column), counts in self._reference.count(feeds, outputs, self._recent).items():
            self._rows.add(kind, column, counts)


def _thinned(answered: Answered) -> tuple[Mapping[str, Any], Any]:
    """Inputs and outputs of OF_REQUEST rows of a request, evenly spaced."""
    import numpy as np

    rows = np.linspace(0, len(answered.output) - 1, OF_REQUEST).astype(np.int64)
    return {name: array[rows] for name, array in answered.feeds.items()}, answered.output[rows]
