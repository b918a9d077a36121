"""Axis scales of parameters and objectives: linear, logarithmic or categorical."""

import math
from collections.abc import Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Any, NamedTuple

from matplotlib import ticker
from matplotlib.axes import Axes

from .style import brief

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

GOLDEN = 0.618034  # its multiples, modulo 1, fill an interval evenly: jitter without a seed


class Scale(NamedTuple):
    """The scale of an axis.

    Attributes:
        label: Label of the axis.
        log: Whether the scale is logarithmic.
        choices: The choices, in order; empty for numbers.
        low: Least value; for choices, 0.
        high: Greatest value; for choices, the index of the last.
    """

    label: str
    log: bool
    choices: tuple[Any, ...]
    low: float
    high: float

    @classmethod
    def of_parameter(cls, label: str, name: str, shown: Sequence["FrozenTrial"]) -> "Scale":
        """The scale of a parameter, over its whole range.

        With the whole range, a plot shows if the best value lies at its edge.
        """
        trials = [trial for trial in shown if name in trial.params]
        values = [trial.params[name] for trial in trials]
        ranges: list[Any] = [trial.distributions[name] for trial in trials]
        if hasattr(ranges[-1], "choices"):
            return cls.of_choices(label, [choice for choice in ranges[-1].choices if choice in values])
        low = min([*values, *(distribution.low for distribution in ranges)])
        high = max([*values, *(distribution.high for distribution in ranges)])
        return cls(label, bool(ranges[-1].log) and low > 0, (), low, high)

    @classmethod
    def of_choices(cls, label: str, choices: list[Any]) -> "Scale":
        """The scale of choices; numbers are sorted."""
        if all(isinstance(choice, int | float) and not isinstance(choice, bool) for choice in choices):
            choices = sorted(choices)
        return cls(label, False, tuple(choices), 0, len(choices) - 1)

    def number(self, value: Any) -> float:
        """A value as a number; a choice as its index."""
        return float(self.choices.index(value) if self.choices else value)

    def fraction(self, value: Any) -> float:
        """The position of a value, from 0 (least) to 1 (greatest)."""
        position, low, high = self.number(value), float(self.low), float(self.high)
        if low == high:
            return 0.5
        if self.log:
            position, low, high = math.log(position), math.log(low), math.log(high)
        return (position - low) / (high - low)

    def x(self, trial: "FrozenTrial", name: str) -> float:
        """The coordinate of a trial; equal choices lie side by side."""
        jitter = 0.3 * (trial.number * GOLDEN % 1 - 0.5) if self.choices else 0.0
        return self.number(trial.params[name]) + jitter

    def ticks(self) -> list[Any]:
        """The values of the ticks."""
        if self.choices:
            return list(self.choices)
        locator: ticker.Locator = ticker.MaxNLocator(5, integer=isinstance(self.low, int), steps=[1, 2, 5, 10])
        if self.log:
            locator = ticker.LogLocator(subs=(1,) if self.high > 100 * self.low else (1, 2, 5), numticks=6)
        return [value for value in locator.tick_values(self.low, self.high) if self.low <= value <= self.high]

    def apply(self, axes: Axes) -> None:
        """Gives the x axis this scale, with ticks and label."""
        axes.set_xlabel(self.label)
        if self.log:
            axes.set_xscale("log")
        positions = [self.number(value) for value in self.ticks()]
        texts = ["\n".join(wrap(brief(value), 9)) for value in self.ticks()]
        crowded = sum(map(len, texts)) > 30
        axes.set_xticks(positions, texts, fontsize=8, rotation=90 if crowded else 0)
        axes.xaxis.set_minor_formatter(ticker.NullFormatter())
        if self.choices:
            axes.set_xlim(-0.5, len(self.choices) - 0.5)
