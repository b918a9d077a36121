"""Segments for tests, as a service writes them."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from my_experiment.harness.capture.answered import Answered, new_id
from my_experiment.harness.capture.contracts import Feedback
from my_experiment.harness.capture.log import Log
from my_experiment.harness.capture.segments import Counts
from my_experiment.harness.capture.settings import Settings


class Service:
    """The log of a service with a model."""

    def __init__(self, folder: Path, description: dict[str, Any], **settings: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.log = Log(Settings(folder, **settings), description, Counts(lambda _: 0, lambda _: 0, lambda *_: 0))

    def answer(self, feeds: dict[str, Any], output: Any, rows: Sequence[dict[str, Any]] = ()) -> str:
        """Keeps a request and its answer; returns the id."""
        body, kind = json.dumps({"instances": rows}).encode(), "application/json"
        item = Answered(time.time(), new_id(), kind, body, feeds, np.asarray(output, np.float32), b"")
        self.log.take([item], 0)
        return item.id

    def label(self, id: str, actual: str | float, contributor: str = "", index: int = 0) -> None:
        """Keeps the actual value of a prediction."""
        self.log.take_feedback(time.time(), contributor, [Feedback(id, index, actual)])
        self.log.take([], 0)

    def close(self) -> None:
        """Writes the segment."""
        self.log.close()
