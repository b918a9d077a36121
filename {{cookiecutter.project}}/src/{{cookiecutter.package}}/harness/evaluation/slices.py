"""Slices: the test examples by the values of a column, each evaluated like the whole.

The gate on slices has the same groups.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..contracts import Manifest
from ..core.errors import UserError, choice
from . import evaluator, presenter
from .metrics import Estimate, Metric, bootstrap, together, unweighted
from .workspace import Predictions

if TYPE_CHECKING:
    from .settings import Evaluate

FEW = 10  # what is measured on fewer examples is marked, and not compared
MOST = 20  # slices of a column, the largest ones

Masks = Mapping[str, NDArray[np.bool_]]  # name of a slice -> its examples, bool [N]


class Slice(NamedTuple):
    """A slice of the test examples.

    Attributes:
        name: Name of the slice.
        examples: Number of its examples.
        estimates: Metric -> estimate; undefined metrics are left out.
        rare: Metrics of which too few of its examples count, such as a true positive rate of three positives.
    """

    name: str
    examples: int
    estimates: Mapping[str, Estimate]
    rare: Collection[str] = ()

    @property
    def few(self) -> bool:
        """Whether the slice has too few examples to be compared."""
        return self.examples < FEW

    def uncertain(self, metric: str) -> bool:
        """Whether a metric is measured on too few examples to be compared."""
        return self.few or metric in self.rare

    @property
    def label(self) -> str:
        """The name, with an asterisk if the examples are few."""
        return f"{self.name} *" if self.few else self.name


class Difference(NamedTuple):
    """The largest difference of a metric between slices of a column.

    Attributes:
        highest: The slice with the highest value.
        lowest: The slice with the lowest value.
        value: The difference of their values.
    """

    highest: str
    lowest: str
    value: float


class Slices(NamedTuple):
    """The slices of the test examples by some columns.

    Attributes:
        columns: Column -> its largest slices, in the order of their values.
        left_out: Column -> number of slices that are left out, if any.
        metrics: Name -> metric.
        whole: All test examples, without intervals.
        shown: Names of the metrics in the model card.
    """

    columns: Mapping[str, Sequence[Slice]]
    left_out: Mapping[str, int]
    metrics: Mapping[str, Metric]
    whole: Slice
    shown: Sequence[str]


def masks(columns: Sequence[str], manifest: Manifest, key: str) -> dict[str, Masks]:
    """The slices of the test examples by columns: column -> slices.

    Args:
        columns: Names of columns.
        manifest: Manifest of the prepared data.
        key: Key of the configuration that names the columns.

    Raises:
        UserError: If a column does not exist.
    """
    check(columns, manifest, key)
    return {name: presenter(manifest).groups(name, manifest) for name in dict.fromkeys(columns)}


def check(columns: Sequence[str], manifest: Manifest, key: str) -> None:
    """Rejects columns by which examples cannot be grouped.

    Args:
        columns: Names of columns.
        manifest: Manifest of the prepared data.
        key: Key of the configuration that names the columns.

    Raises:
        UserError: If a column does not exist.
    """
    known = presenter(manifest).columns(manifest)
    if unknown := [name for name in columns if name not in known]:
        raise UserError(f"{key}: there is no column {unknown[0]!r}; {choice(unknown[0], known)}")


def measure(test: Predictions, settings: "Evaluate") -> Slices:
    """Evaluates the slices that the configuration names.

    Args:
        test: Outputs of the exported model on the test split.
        settings: Section `evaluate` of the configuration.

    Raises:
        UserError: If a column does not exist.
    """
    evaluate = evaluator(test.manifest)
    metrics = evaluate.slice_metrics(test.description, test.manifest)
    columns, left_out = {}, {}
    for column, found in masks(settings.slices, test.manifest, "evaluate.slices").items():
        sizes = {name: int(mask.sum()) for name, mask in found.items() if mask.any()}
        largest = {*sorted(sizes, key=lambda name: -sizes[name])[:MOST]}
        if len(sizes) > MOST:
            left_out[column] = len(sizes) - MOST
        columns[column] = [
            Slice(
                name, sizes[name], _estimates(metrics, test, found[name], settings), _rare(metrics, test, found[name])
            )
            for name in sizes
            if name in largest
        ]
    values = unweighted(together(metrics, test.targets, test.outputs), len(test.targets)) if columns else {}
    defined = {name: Estimate(value) for name, value in values.items() if not np.isnan(value)}
    whole = Slice("all", len(test.targets), defined)
    return Slices(columns, left_out, metrics, whole, [name for name in evaluate.SLICED if name in defined])


def _estimates(
    metrics: Mapping[str, Metric], test: Predictions, mask: NDArray[np.bool_], settings: "Evaluate"
) -> dict[str, Estimate]:
    function = together(metrics, test.targets[mask], test.outputs[mask])
    return bootstrap(function, int(mask.sum()), settings.resamples, settings.confidence, settings.seed)


def _rare(metrics: Mapping[str, Metric], test: Predictions, mask: NDArray[np.bool_]) -> list[str]:
    targets, outputs = test.targets[mask], test.outputs[mask]
    return [name for name, metric in metrics.items() if metric.among and metric.among(targets, outputs).sum() < FEW]


def differences(column: Sequence[Slice]) -> dict[str, Difference]:
    """Metric -> its largest difference between slices of a column, without what is measured on few examples.

    Args:
        column: The slices of the column.
    """
    found = {}
    for name in dict.fromkeys(name for each in column for name in each.estimates):
        compared = [each for each in column if name in each.estimates and not each.uncertain(name)]
        values = {each.name: each.estimates[name].value for each in compared}
        if len(values) > 1:
            highest, lowest = max(values, key=lambda key: values[key]), min(values, key=lambda key: values[key])
            found[name] = Difference(highest, lowest, values[highest] - values[lowest])
    return found
