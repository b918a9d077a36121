"""What machine.json keeps of an evaluation, and how far two evaluations are apart."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core import files
from ..core.paths import REPORTS
from . import machine

if TYPE_CHECKING:
    from numpy.typing import NDArray

Results = Mapping[str, Any]

LENGTH = 64  # numbers of a sketch: it gives a difference to 9 % (one standard deviation)
ROWS = 10_000  # test examples of a sketch, at most
BLOCK = 65_536  # outputs that are summed at a time
LEAST = 0.01  # error of a model, at least, as a share of the targets' spread: a perfect model has none
ROUNDING = 1e-4  # relative difference of two evaluations of the same model, at most


def record(model: Path, outputs: NDArray[np.floating[Any]], targets: NDArray[Any]) -> None:
    """Adds the results of an evaluation to the model's record, unless it has the same but for rounding.

    Args:
        model: The exported model.
        outputs: Its outputs, see `results`.
        targets: The targets, see `results`.
    """
    known = machine.read()
    if known is None or known["model"] != files.digest(model, "md5"):
        return
    new = results(outputs, targets)
    if not _same(known.get("results"), new):
        machine.write({**known, "results": new})


def results(outputs: NDArray[np.floating[Any]], targets: NDArray[Any]) -> dict[str, Any]:
    """What machine.json keeps of an evaluation.

    Args:
        outputs: Outputs of the exported model on the test split: probabilities [N, K], or predictions [N, 1].
        targets: Targets: class indices, int64 [N], or numbers, float64 [N].

    Returns:
        metrics: Metric -> value, lower and upper end of its interval (None if it has none).
        sketch: `LENGTH` random sums of the outputs. The root mean square of the difference of two sketches estimates
            that of the outputs. If there are many more outputs than sums, they do not follow from it.
        error: Root mean square of outputs - targets.
    """
    metrics, intervals = (files.read_json(REPORTS / f"{name}.json") for name in ("metrics", "intervals"))
    ranges = {name: (value, *intervals.get(name, (None, None))) for name, value in metrics.items()}
    values, targets = outputs[:ROWS].astype(np.float64), targets[:ROWS]
    actual = np.eye(values.shape[1])[targets] if targets.dtype.kind in "iu" else targets[:, None]
    spread = _size(actual - actual.mean(0))
    return {
        "metrics": {name: [each if each is None else _rounded(each) for each in row] for name, row in ranges.items()},
        "sketch": " ".join(f"{number:.9g}" for number in _sketch(values)),
        "error": _rounded(max(_size(values - actual), LEAST * spread)),
    }


def _size(values: NDArray[np.float64]) -> float:
    """Root mean square length of rows, [N, K]."""
    return float(np.sqrt((values**2).sum(1).mean()))


def _rounded(number: float) -> float:
    return float(f"{number:.6g}")


def _sketch(outputs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of the outputs with random signs, [LENGTH], divided by the square root of N.

    Source: W. B. Johnson, J. Lindenstrauss, Contemporary Mathematics 26, 1984; the signs are those of D. Achlioptas,
    Journal of Computer and System Sciences 66, 2003.
    """
    random, values, total = np.random.PCG64(0), outputs.ravel(), np.zeros(LENGTH)
    for start in range(0, len(values), BLOCK):
        block = values[start : start + BLOCK]
        bits = np.unpackbits(random.random_raw(len(block)).view(np.uint8)).reshape(len(block), LENGTH)
        total = total + block @ (bits * 2.0 - 1.0)
    sketch: NDArray[np.float64] = total / np.sqrt(len(outputs))
    return sketch


def disagreement(before: Results, after: Results) -> float:
    """Difference of two models' outputs, as a share of the first one's error; NaN if they cannot be compared.

    Args:
        before: Results of the first model.
        after: Results of the second.
    """
    old, new = (np.array(each["sketch"].split(), np.float64) for each in (before, after))
    if len(old) != len(new):
        return float("nan")
    return float(np.sqrt(((new - old) ** 2).mean()) / before["error"]) if (new != old).any() else 0.0


def outside(before: Results, after: Results) -> list[str]:
    """The metrics of which neither value lies within the interval of the other, with both values.

    One is enough: a perfect metric has an interval of no width.

    Args:
        before: Results of the first model.
        after: Results of the second.
    """

    def within(value: float, low: float | None, high: float | None) -> bool:
        return low is None or high is None or low <= value <= high

    pairs = [(name, old, after["metrics"].get(name)) for name, old in before["metrics"].items()]
    return [
        f"{name} {old[0]:g} -> {new[0]:g}"
        for name, old, new in pairs
        if new and not (within(new[0], *old[1:]) or within(old[0], *new[1:]))
    ]


def _same(before: Results | None, after: Results) -> bool:
    """Whether two evaluations are those of the same model, but for rounding."""
    if not before or before["metrics"].keys() != after["metrics"].keys():
        return False
    pairs = ((before["metrics"][name], row) for name, row in after["metrics"].items())
    rows = np.array([[old, new] for old, new in pairs], np.float64)  # None becomes NaN
    close = np.allclose(rows[:, 0], rows[:, 1], rtol=ROUNDING, atol=ROUNDING, equal_nan=True)
    return bool(close) and disagreement(before, after) < ROUNDING
