"""What was asked in production, counted in the bins of the model's reference, week by week."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..batch import answers, reader
from ..contracts import Description
from ..drift.recent import Recent
from ..drift.reference import INPUT, Reference
from ..targets import target
from . import destination
from .reading import Segments, joined

CHUNK = 1000  # rows that are counted at once
ALL = "all rows"  # the only week of a batch, whose rows have no time
Counts = dict[tuple[str, str], NDArray[np.int64]]  # kind and column of a variable -> rows in each bin


class Production:
    """The counts.

    Attributes:
        rows: Week -> number of rows.
        counts: Week -> rows in each bin.
        judged: Week -> number of right answers, and of answers with an actual value.
        others: Version of another model -> number of its rows, which are not in the counts.
        private: Columns whose values are not kept, and not counted.
        contributors: Name -> number of right answers, and of answers to which it gave the actual value.
    """

    def __init__(self) -> None:
        """Starts with nothing."""
        self.rows: Counter[str] = Counter()
        self.counts: dict[str, Counts] = {}
        self.judged: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
        self.others: Counter[str] = Counter()
        self.private: list[str] = []
        self.contributors: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])

    @property
    def weeks(self) -> list[str]:
        """The weeks, in order."""
        return sorted(self.rows)

    @property
    def told(self) -> list[str]:
        """A line for each other model."""
        return [f"{count:,} rows of model {version}" for version, count in self.others.most_common()]

    def total(self, name: tuple[str, str], weeks: Sequence[str]) -> NDArray[np.int64]:
        """Rows in each bin of a variable.

        Args:
            name: Kind and column.
            weeks: The weeks to add.
        """
        found: NDArray[np.int64] = np.sum([self.counts[week][name] for week in weeks], axis=0)
        return found

    def add(self, week: str, rows: int, counts: Counts) -> None:
        """Adds rows.

        Args:
            week: Their week.
            rows: Their number.
            counts: Rows in each bin.
        """
        self.rows[week] += rows
        known = self.counts.get(week)
        self.counts[week] = {name: known[name] + count for name, count in counts.items()} if known else counts

    def judge(self, week: str, contributor: str, is_right: bool) -> None:
        """Adds the actual value of an answer.

        Args:
            week: Week of the answer.
            contributor: Who gave the value.
            is_right: Whether the model was right.
        """
        for counted in (self.judged[week], self.contributors[contributor]):
            counted[0] += is_right
            counted[1] += 1


def week_of(time: float) -> str:
    """The Monday of a week, in UTC: `2026-11-30`.

    Args:
        time: Seconds since 1970-01-01 UTC.
    """
    day = datetime.fromtimestamp(time, UTC).date()
    return (day - timedelta(days=day.weekday())).isoformat()


def of_segments(
    segments: Segments, reference: Reference, description: Description, private: Collection[str] = ()
) -> Production:
    """What the service has kept.

    Args:
        segments: The segments.
        reference: The reference of the model.
        description: Content of models/model.json, with `decision` if there is one.
        private: Columns whose values are not kept, and cannot be counted.
    """
    found, counted = Production(), _Counter(reference, description, private)
    found.private = sorted(private)
    waiting: defaultdict[str, list[tuple[Any, Mapping[str, Any]]]] = defaultdict(list)
    labels = segments.labels()  # of them all, because a label comes in a later segment than its request
    for line, pairs in segments.requests():
        version, week = line["answer"]["model_version"], week_of(line["time"])
        if version != description["sha256"][:12]:
            found.others[version] += len(pairs)
            continue
        for example in joined(line, pairs, labels):
            if example.agrees is not None:
                found.judge(week, example.contributor, example.agrees)
        waiting[week] += pairs
        if len(waiting[week]) >= CHUNK:
            counted.add(found, week, waiting.pop(week))
    for week, rest in waiting.items():
        counted.add(found, week, rest)
    return found


class _Counter:
    """Counts as the service does: of a week, a row that repeats a recent one counts once."""

    def __init__(self, reference: Reference, description: Description, private: Collection[str]) -> None:
        self._reference, self._description = reference, description
        self._private = {(INPUT, name) for name in private}
        self._recent: defaultdict[str, Recent] = defaultdict(Recent)

    def add(self, found: Production, week: str, pairs: Sequence[tuple[Any, Mapping[str, Any]]]) -> None:
        """Adds examples with their predictions."""
        examples, predictions = zip(*pairs, strict=True)
        feeds = destination(self._description["input"]).feeds(examples, self._description)
        counts = self._reference.count(feeds, outputs(predictions, self._description), self._recent[week])
        found.add(week, len(pairs), {name: rows for name, rows in counts.items() if name not in self._private})


def outputs(predictions: Sequence[Mapping[str, Any]], description: Description) -> NDArray[np.float32]:
    """Outputs of the model, float32 [N, ...], from its answers, which hold all of them.

    Args:
        predictions: Answers of the service.
        description: Content of models/model.json.
    """
    if "classes" not in description:
        return np.array([[each["value"]] for each in predictions], np.float32)
    rows = [[each["probabilities"][name] for name in description["classes"]] for each in predictions]
    return np.array(rows, np.float32)


def of_batch(path: Path, model: answers.Model, reference: Reference) -> Production:
    """The input of a batch prediction: a file or folder that `predict` takes.

    Args:
        path: The file or folder.
        model: The model.
        reference: The reference of the model.

    Raises:
        UserError: If the path cannot be read.
    """
    found, judge, recent = Production(), target(model.description), Recent()
    for feeds in _feeds(path, model):
        outputs = model.session.run([judge.OUTPUT], feeds)[0]
        found.add(ALL, len(outputs), reference.count(feeds, outputs, recent))
    return found


def _feeds(path: Path, model: answers.Model) -> Iterator[dict[str, NDArray[Any]]]:
    batches = reader(model.description).batches(path, model.description)
    for batch in batches.batches(batches.pieces(0)):
        if any(error is None for error in batch.errors):
            yield dict(batch.feeds)
