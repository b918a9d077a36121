"""Two models on the same requests: how often they disagree, and how the shares of the answers move."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import drift
from ..contracts import Description
from ..core import text
from ..core.errors import UserError
from ..core.paths import MODELS
from ..exported import model
from ..feedback import destination, reading
from ..release import judge, versions
from ..tracking import lockfile, store

if TYPE_CHECKING:
    from ..release.judge import StoredModel

WORKSPACE = "workspace"
CONFIDENCE = 0.95  # of the interval of a share
LARGEST = 5  # changes that are shown
PAIRS = 10  # kinds of changes that are shown
CHUNK = 1000  # requests that are answered at once


class Pair(NamedTuple):
    """The outputs of two models on the same inputs.

    Attributes:
        names: Names of the models.
        descriptions: Their descriptions.
        outputs: Their outputs, float32 [N, ...] each.
        inputs: What the inputs are, in words.
    """

    names: tuple[str, str]
    descriptions: tuple[Description, Description]
    outputs: tuple[NDArray[np.float32], NDArray[np.float32]]
    inputs: str


class Difference(NamedTuple):
    """How two models differ.

    Attributes:
        answers: Their answers, [N] each: classes, or numbers.
        changed: Whether the answers disagree, bool [N]: another class, or a number outside the first one's interval.
        distance: Largest difference of a probability, or difference of the numbers, float64 [N].
    """

    answers: tuple[NDArray[Any], NDArray[Any]]
    changed: NDArray[np.bool_]
    distance: NDArray[np.float64]


def pair(first: str, second: str, segments: Path | None = None) -> Pair:
    """Two models on the test split of the workspace, or on requests that the service has kept.

    Args:
        first: Number or alias of a version, or `workspace`.
        second: The same of the other one.
        segments: Folder of the kept requests; None for the test split.

    Raises:
        UserError: If a model is missing, or does not fit the inputs.
    """
    with tempfile.TemporaryDirectory() as folder:
        models = [_stored(name, Path(folder)) for name in (first, second)]
        made = [_kept(each, segments) if segments else _tested(each) for each in models]
    a, b = models
    what = f"kept requests of {segments}" if segments else "examples of the test split"
    return Pair((a.name, b.name), (a.description, b.description), (made[0], made[1]), what)


def _stored(name: str, folder: Path) -> StoredModel:
    if name == WORKSPACE:
        data = lockfile.training(lockfile.read_lock()).inputs.get("data/prepared")
        return judge.StoredModel(WORKSPACE, MODELS / "model.onnx", model.served(MODELS), data)
    return judge.fetch(versions.version(store.client(), name), folder)


def _tested(stored: StoredModel) -> NDArray[np.float32]:
    outputs: NDArray[np.float32] = judge.score(stored, judge.read_examples()).outputs
    return outputs


def _kept(stored: StoredModel, folder: Path) -> NDArray[np.float32]:
    """Outputs on the kept requests of a folder, whichever model has answered them."""
    from ..exported import inference

    rows = [example for _, pairs in reading.open_segments(folder).requests() for example, _ in pairs]
    if not rows:
        raise UserError(f"{folder} has no requests: SERVICE_LOG keeps them, see docs/log.md")
    feeds = destination(stored.description["input"]).feeds
    first = feeds(rows[:1], stored.description)
    if problem := inference.misfit(stored.model, first):
        raise UserError(f"{stored.name} does not fit the kept requests: {problem}")
    chunks = (feeds(rows[start : start + CHUNK], stored.description) for start in range(0, len(rows), CHUNK))
    outputs = inference.predict(stored.model, chunks)
    if bad := int((~inference.finite_rows(outputs)).sum()):
        raise UserError(f"{stored.name}: its outputs are not finite for {bad} of {len(outputs)} kept requests")
    return outputs


def difference(both: Pair) -> Difference:
    """How two models differ.

    Args:
        both: Their outputs.

    Raises:
        UserError: If they answer other questions.
    """
    a, b = both.descriptions
    for key in ("target", "target_name", "classes"):
        if a.get(key) != b.get(key):
            raise UserError(f"{both.names[0]} and {both.names[1]} cannot be compared: {key} {a.get(key)}, {b.get(key)}")
    before, after = (drift.verdicts(each).answers(out, each) for each, out in zip((a, b), both.outputs, strict=True))
    values = [each.reshape(len(each), -1).astype(np.float64) for each in both.outputs]
    distance = np.abs(values[0] - values[1]).max(1)
    if drift.verdicts(a).choices(a) is not None:
        return Difference((before, after), before != after, distance)
    half = a["calibration"]["half_widths"].get("0.9") or 0.0
    return Difference((before, after), distance > half, distance)


def interval(count: int, total: int) -> tuple[float, float]:
    """The interval of a share by Clopper and Pearson (Biometrika 26, 1934).

    Args:
        count: Number of cases.
        total: Number of all.
    """
    from scipy import stats

    low, high = stats.binomtest(count, total).proportion_ci(CONFIDENCE, method="exact")
    return float(low), float(high)


def share(count: int, total: int) -> str:
    """A share with its interval, in words.

    Args:
        count: Number of cases.
        total: Number of all.
    """
    low, high = interval(count, total)
    return (
        f"{count:,} of {total:,} ({text.percent(count / total)}, {CONFIDENCE:.0%} interval {text.percent(low)} to "
        f"{text.percent(high)})"
    )


def told(both: Pair) -> list[str]:
    """Lines for a person: disagreements, shares of the answers, largest changes.

    Args:
        both: The outputs of two models.

    Raises:
        UserError: If the models answer other questions.
    """
    found, total = difference(both), len(both.outputs[0])
    classes = drift.verdicts(both.descriptions[0]).choices(both.descriptions[0])
    meaning = "" if classes is not None else ", the number is outside the 90% interval of the first"
    count = share(int(found.changed.sum()), total)
    lines = [f"{both.names[0]} and {both.names[1]} disagree on {count} {both.inputs}{meaning}"]
    before, after = found.answers
    if classes is None:
        lines.append(
            f"mean {text.number(before.mean())} -> {text.number(after.mean())}, largest difference "
            f"{text.number(found.distance.max())}, median {text.number(float(np.median(found.distance)))}"
        )
    else:
        lines += ["", *_shares(classes, before, after, both.names)]
        if changes := Counter(zip(before[found.changed], after[found.changed], strict=True)).most_common(PAIRS):
            lines += ["", *text.aligned([(*both.names, "rows"), *((a, b, count) for (a, b), count in changes)])]
    if found.distance.max() > 0:
        lines += ["", *_largest(found, both)]
    return lines


def _shares(classes: list[str], before: NDArray[Any], after: NDArray[Any], names: tuple[str, str]) -> list[str]:
    rows: list[tuple[object, ...]] = [("answer", *names, "change")]
    for each in classes:
        old, new = float((before == each).mean()), float((after == each).mean())
        rows.append((each, text.percent(old), text.percent(new), f"{100 * (new - old):+.1f} points"))
    return text.aligned(rows)


def _largest(found: Difference, both: Pair) -> list[str]:
    """The rows whose outputs differ most."""
    before, after = found.answers
    rows: list[tuple[object, ...]] = [("row", *both.names, "difference")]
    for row in np.argsort(-found.distance, kind="stable")[:LARGEST]:
        answers = (text.number(each) if isinstance(each, float) else each for each in (before[row], after[row]))
        rows.append((int(row), *answers, text.number(float(found.distance[row]))))
    return text.aligned(rows)
