"""Pictures of a sweep; a picture for which there are too few trials is left out.

Optuna's own pictures are not used: they leave out every trial that lacks a conditional parameter, and say nothing of
failed ones.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from matplotlib import pyplot as plt
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from ..evaluation.plots import BLUE, GREY, ORANGE, plain, save, wide
from . import trials
from .trials import (
    ENOUGH,
    STATES,
    in_states,
    metrics,
    override,
    rank,
    short,
    signs,
    text,
)

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

TOP = 5  # trials that count as good: with fewer, their importance is chance
PALE, DARK = "#c9d8ea", "#0b2a52"
ABSENT = -0.12  # where parallel coordinates pass by a parameter that a trial was not asked for
COLORS = LinearSegmentedColormap.from_list("best to worst", [DARK, BLUE, PALE])
PRUNED: Mapping[str, Any] = {"facecolors": "none", "edgecolors": GREY, "linewidths": 0.9, "s": 22}
BESIDE: Mapping[str, Any] = {"fontsize": 8, "loc": "upper left", "bbox_to_anchor": (1, 1)}
GOLDEN = 0.618034  # multiples of it, modulo 1, fill an interval evenly: chance without a seed


def draw(study: "Study", folder: Path) -> list[Path]:
    """Draws a search.

    Args:
        study: The search.
        folder: Where the PNG files go.

    Returns:
        The files: history, importances, parallel_coordinates, slices, learning_curves, pareto_front.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {
        "history": _history,
        "importances": _importances,
        "parallel_coordinates": _parallel_coordinates,
        "slices": _slices,
        "learning_curves": _learning_curves,
        "pareto_front": _pareto_front,
    }
    files = {folder / f"{name}.png": picture for name, picture in pictures.items()}
    return [path for path, picture in files.items() if picture(study, path)]


def seeds(study: "Study", repeats: "Study", path: Path) -> bool:
    """Draws the scores over seeds with the interval of their mean, and the score that the search has seen.

    Args:
        study: The search.
        repeats: The study of the repetitions of its best trials.
        path: The PNG file to write.

    Returns:
        False where there is nothing to draw.
    """
    ranked = [one for one in rank(study, repeats) if one.values]
    if not ranked:
        return False
    searched = {trial.number: trial.values[0] for trial in in_states(study, "COMPLETE")}
    figure, axes = plt.subplots(figsize=(7, 1.6 + 0.45 * len(ranked)))
    scores = [value for one in ranked for value in one.values]
    beside = [
        row + 0.18 * place for row, one in enumerate(ranked) for place in np.linspace(-1, 1, len(one.values) + 2)[1:-1]
    ]
    rows = np.arange(len(ranked))
    axes.plot(scores, beside, "o", color=PALE, markeredgecolor=BLUE, markersize=5, label="a seed")
    axes.hlines(
        rows, [one.low for one in ranked], [one.high for one in ranked], BLUE, label="95 % interval of the mean"
    )
    axes.plot([one.mean for one in ranked], rows, "|", color=BLUE, markersize=16, markeredgewidth=2.5, label="mean")
    seen = [searched.get(one.number, math.nan) for one in ranked]
    axes.plot(seen, rows, "D", color=ORANGE, markersize=5, label="in the search")
    named = [f"trial {one.number}" + (f"\n({one.failed} failed)" if one.failed else "") for one in ranked]
    axes.set_yticks(rows, named)
    axes.invert_yaxis()
    axes.set(xlabel=plain(metrics(repeats)[0]), title="The best trials, repeated over seeds")
    axes.legend(**BESIDE)
    save(figure, path)
    return True


def importances(study: "Study") -> dict[str, list[float]]:
    """Says how much each parameter decides whether a trial is among the best.

    PED-ANOVA (S. Watanabe, A. Bansal, F. Hutter, IJCAI 2023, arXiv 2304.10255) in its form for conditional parameters
    (arXiv 2601.20800). fANOVA leaves conditional parameters out, and depends on a seed.

    Args:
        study: The search.

    Returns:
        Parameter -> its share for each objective, the largest first; empty with fewer than `ENOUGH` complete trials,
        or where none is better than the others.
    """
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    count = len(in_states(study, "COMPLETE"))
    if count < ENOUGH:
        return {}
    evaluator = PedAnovaImportanceEvaluator(target_quantile=_good(count) / count)
    shares: dict[str, list[float]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # each call warns that less is better, and of conditions met only once
        for index, sign in enumerate(signs(study)):
            found = get_param_importances(
                study,
                evaluator=evaluator,
                target=lambda trial, index=index, sign=sign: sign * trial.values[index],  # type: ignore[misc]
                normalize=False,
            )
            total = sum(found[name] for name in sorted(found))
            for name in sorted(found):
                shares.setdefault(name, []).append(found[name] / total if total else 0.0)
    shares = {name: values for name, values in shares.items() if any(values)}
    return dict(sorted(shares.items(), key=lambda item: -sum(item[1])))


def _history(study: "Study", path: Path) -> bool:
    complete, pruned, failed = (in_states(study, state) for state in ("COMPLETE", "PRUNED", "FAIL"))
    if not complete:
        return False
    names = metrics(study)
    figure, panels = plt.subplots(len(names), 1, figsize=(8, 1 + 3 * len(names)), squeeze=False, sharex=True)
    numbers = [trial.number for trial in complete]
    for index, (axes, name, sign) in enumerate(zip(panels[:, 0], names, signs(study), strict=True)):
        scores = np.array([trial.values[index] for trial in complete])
        stopped = _stopped(study, pruned) if index == 0 else {}
        if stopped:
            axes.scatter(list(stopped), list(stopped.values()), label="pruned: its last epoch", **PRUNED)
        axes.scatter(numbers, scores, color=BLUE, s=22, label="complete", zorder=3)
        if len(names) == 1:
            best = sign * np.minimum.accumulate(sign * scores)
            axes.step(numbers, best, where="post", color=BLUE, linewidth=1, label="best so far")
        _mark_failed(axes, [trial.number for trial in failed])
        _log_where_wide(axes, "y", [*scores, *stopped.values()])
        axes.set(ylabel=plain(name))
    panels[-1, 0].xaxis.set_major_locator(ticker.MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    panels[-1, 0].set(xlabel="trial")
    panels[0, 0].set(title="Optimisation history")
    panels[0, 0].legend(**BESIDE)
    save(figure, path)
    return True


def _importances(study: "Study", path: Path) -> bool:
    shares = importances(study)
    if len(shares) < 2:
        return False
    names, values = metrics(study), np.array(list(shares.values()))
    figure, axes = plt.subplots(figsize=(7, 1.3 + 0.45 * len(shares)))
    height = 0.8 / len(names)
    for index, name in enumerate(names):
        places = np.arange(len(shares)) + (index - (len(names) - 1) / 2) * height
        color = (BLUE, ORANGE, GREY)[index % 3]
        bars = axes.barh(places, values[:, index], height, color=color, label=plain(name))
        axes.bar_label(bars, [f"{value:.2f}" for value in values[:, index]], padding=3, fontsize=8)
    labels = _labels(list(shares))
    axes.set_yticks(range(len(shares)), [labels[name] for name in shares])
    axes.invert_yaxis()
    count = len(in_states(study, "COMPLETE"))
    axes.set(
        xlim=(0, 1.1 * values.max()),
        xlabel=f"share in what sets the best {_good(count)} apart from all {count} complete trials",
        title="Importance of the parameters",
    )
    if len(names) > 1:
        axes.legend(fontsize=8, loc="lower right")
    save(figure, path)
    return True


def _parallel_coordinates(study: "Study", path: Path) -> bool:
    complete = in_states(study, "COMPLETE")
    names = _parameters(complete)
    if len(complete) < 2 or not names:
        return False
    # In colours by rank: by score, one that diverged would give all others the same colour.
    losses = signs(study)[0] * np.array([trial.values[0] for trial in complete])
    order = np.argsort(losses, kind="stable")
    ranks = np.empty(len(complete))
    ranks[order] = np.linspace(0, 1, len(complete))
    labels = _labels(names)
    scales = [_Scale.of(labels[name], name, complete) for name in names]
    columns = [
        [_along(scale, name, trial, one) for trial, one in zip(complete, ranks, strict=True)]
        for scale, name in zip(scales, names, strict=True)
    ]
    for index, name in enumerate(metrics(study)):
        scores = [trial.values[index] for trial in complete]
        scale = _Scale(plain(name), wide(scores), (), min(scores), max(scores))
        scales.append(scale)
        columns.append([scale.place(score) for score in scores])
    figure, axes = plt.subplots(figsize=(max(6, 1.5 * len(scales)), 5))
    for index in order[::-1]:
        axes.plot([column[index] for column in columns], color=COLORS(ranks[index]), linewidth=1, alpha=0.85)
    for x, scale in enumerate(scales):
        axes.vlines(x, -0.07, 1.07, color="black", linewidth=0.8)
        for value in scale.ticks():
            axes.annotate(
                _brief(value), (x, scale.place(value)), (4, 0), textcoords="offset points", fontsize=7.5,
                va="center", bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.6}, zorder=4,
            )  # fmt: skip
    if any(name not in trial.params for name in names for trial in complete):
        axes.text(-0.08, ABSENT, "not asked for", ha="right", va="center", fontsize=8, color=GREY)
    axes.set_xticks(range(len(scales)), [scale.label for scale in scales], rotation=20, ha="right", fontsize=8.5)
    axes.set_yticks([])
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.set(title=f"The {len(complete)} complete trials, from the best (dark) to the worst (light)")
    save(figure, path)
    return True


def _slices(study: "Study", path: Path) -> bool:
    complete, pruned, failed = (in_states(study, state) for state in ("COMPLETE", "PRUNED", "FAIL"))
    every = [*complete, *pruned, *failed]
    names, objectives = _parameters(every), metrics(study)
    if len(complete) < 2 or not names:
        return False
    stopped, labels = _stopped(study, pruned), _labels(names)
    across = min(len(names), 4)
    rows = -(-len(names) // across)
    size = (1 + 2.7 * across, 0.8 + 2.6 * rows * len(objectives))
    figure = plt.figure(figsize=size)
    for index, objective in enumerate(objectives):
        ends = stopped if index == 0 else {}
        first: Axes | None = None
        for place, name in enumerate(names):
            axes = figure.add_subplot(rows * len(objectives), across, index * rows * across + place + 1, sharey=first)
            scale = _Scale.of(labels[name], name, every)
            shown, ended, broken = (
                [one for one in group if name in one.params] for group in (complete, pruned, failed)
            )
            ended = [trial for trial in ended if trial.number in ends]
            axes.scatter([scale.x(trial, name) for trial in ended], [ends[trial.number] for trial in ended], **PRUNED)
            axes.scatter(
                [scale.x(trial, name) for trial in shown], [trial.values[index] for trial in shown],
                c=[trial.number for trial in shown], cmap=COLORS.reversed(), vmin=complete[0].number,
                vmax=complete[-1].number, s=20, zorder=3, edgecolors=BLUE, linewidths=0.4,
            )  # fmt: skip
            _mark_failed(axes, [scale.x(trial, name) for trial in broken])
            if first is None:
                _log_where_wide(axes, "y", [*(trial.values[index] for trial in complete), *ends.values()])
                first = axes
            axes.set(xlabel=scale.label, ylabel=plain(objective) if place % across == 0 else "")
            scale.dress(axes)
    said = "Score by parameter: complete trials from the first (light) to the last (dark)"
    said += ", pruned (hollow)" * bool(stopped) + ", failed (x)" * bool(failed)
    figure.suptitle("\n".join(wrap(said, 30 * across)), fontsize=10)
    save(figure, path)
    return True


def _learning_curves(study: "Study", path: Path) -> bool:
    every = in_states(study, "COMPLETE", "PRUNED", "FAIL")
    name = next((name for name in metrics(study) if any(_curve(trial, name) for trial in every)), None)
    if name is None:
        return False
    best = next(iter(trials.best(study)), None)
    looks: Mapping[str, Mapping[str, Any]] = {
        "complete": {"color": BLUE, "marker": ".", "linewidth": 0.9, "alpha": 0.55, "zorder": 2.5},
        "pruned": {"color": GREY, "marker": "o", "markersize": 4, "linewidth": 0.9, "alpha": 0.8, "zorder": 2},
        "failed": {"color": ORANGE, "marker": "x", "linewidth": 1, "zorder": 3},
    }
    figure, axes = plt.subplots(figsize=(8, 4.2))
    values: list[float] = []
    counts = dict.fromkeys(looks, 0)
    for trial in every:
        curve = _curve(trial, name)
        if not curve:
            continue
        state = STATES[trial.state.name]
        counts[state] += 1
        values += curve.values()
        bold = {"linewidth": 2.5, "alpha": 1, "zorder": 4} if best is not None and trial.number == best.number else {}
        axes.plot(list(curve), list(curve.values()), markevery=[-1], **{**looks[state], **bold})
    if best is not None:
        axes.plot([], [], color=BLUE, linewidth=2.5, label=f"the best: trial {best.number}")
    for state in looks:
        if counts[state]:
            axes.plot([], [], label=f"{counts[state]} {state}", **looks[state])
    _log_where_wide(axes, "y", values)
    axes.set(xlabel="epoch", ylabel=plain(name), title="Learning curves of all trials")
    axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.legend(**BESIDE)
    save(figure, path)
    return True


def _pareto_front(study: "Study", path: Path) -> bool:
    complete, names = in_states(study, "COMPLETE"), metrics(study)
    if len(names) != 2 or not complete:
        return False
    front = trials.best(study)
    on = {trial.number for trial in front}
    others = np.array([trial.values for trial in complete if trial.number not in on])
    figure, axes = plt.subplots(figsize=(7, 4.5))
    if len(others):
        axes.scatter(others[:, 0], others[:, 1], color=PALE, edgecolors=GREY, linewidths=0.5, s=24, label="dominated")
    # The best in the first objective first, and so the worst in the second: steps turn on the side of what is worse,
    # because what lies between two trials of the front none has reached.
    points = np.array([trial.values for trial in front])
    axes.step(*points.T, where="post", color=BLUE, linewidth=1, zorder=2)
    axes.scatter(points[:, 0], points[:, 1], color=BLUE, s=34, zorder=3, label="Pareto front")
    for trial in front:
        axes.annotate(str(trial.number), trial.values, (4, 4), textcoords="offset points", fontsize=8)
    better = [
        f"{plain(name)} ({'lower' if sign > 0 else 'higher'} is better)"
        for name, sign in zip(names, signs(study), strict=True)
    ]
    axes.set(xlabel=better[0], ylabel=better[1])
    _log_where_wide(axes, "x", [trial.values[0] for trial in complete])
    _log_where_wide(axes, "y", [trial.values[1] for trial in complete])
    axes.set(title="Pareto front, with the trials' numbers")
    axes.legend(**BESIDE)
    save(figure, path)
    return True


class _Scale(NamedTuple):
    """How the values of a parameter or of an objective are laid out.

    Attributes:
        label: As it is drawn.
        log: Whether on a logarithmic scale.
        levels: The choices, in order; none where values lie on a scale of numbers.
        low: Least value; of choices, the first one's place.
        high: Greatest value.
    """

    label: str
    log: bool
    levels: tuple[Any, ...]
    low: float
    high: float

    @classmethod
    def of(cls, label: str, name: str, shown: Sequence["FrozenTrial"]) -> "_Scale":
        """Returns the scale of a parameter: all of its range, so that a best value at its edge is seen."""
        having = [trial for trial in shown if name in trial.params]
        values = [trial.params[name] for trial in having]
        ranges: list[Any] = [trial.distributions[name] for trial in having]
        if hasattr(ranges[-1], "choices"):
            levels = [choice for choice in ranges[-1].choices if choice in values]
            if all(isinstance(level, int | float) and not isinstance(level, bool) for level in levels):
                levels.sort()
            return cls(label, False, tuple(levels), 0, len(levels) - 1)
        low, high = min([*values, *(one.low for one in ranges)]), max([*values, *(one.high for one in ranges)])
        return cls(label, bool(ranges[-1].log) and low > 0, (), low, high)

    def number(self, value: Any) -> float:
        """Returns a value as a number."""
        return float(self.levels.index(value) if self.levels else value)

    def place(self, value: Any) -> float:
        """Returns where a value lies, from 0 (least) to 1 (greatest)."""
        at, low, high = self.number(value), float(self.low), float(self.high)
        if low == high:
            return 0.5
        if self.log:
            at, low, high = math.log(at), math.log(low), math.log(high)
        return (at - low) / (high - low)

    def x(self, trial: "FrozenTrial", name: str) -> float:
        """Returns where a trial is drawn along an axis with the ticks of `dress`; beside others of the same choice."""
        aside = 0.3 * (trial.number * GOLDEN % 1 - 0.5) if self.levels else 0.0
        return self.number(trial.params[name]) + aside

    def ticks(self) -> list[Any]:
        """Returns the values to write."""
        if self.levels:
            return list(self.levels)
        steps: ticker.Locator = ticker.MaxNLocator(5, integer=isinstance(self.low, int), steps=[1, 2, 5, 10])
        if self.log:
            steps = ticker.LogLocator(subs=(1,) if self.high > 100 * self.low else (1, 2, 5), numticks=6)
        return [value for value in steps.tick_values(self.low, self.high) if self.low <= value <= self.high]

    def dress(self, axes: Axes) -> None:
        """Gives the x axis this scale."""
        if self.log:
            axes.set_xscale("log")
        names = ["\n".join(wrap(_brief(value), 9)) for value in self.ticks()]
        crowded = sum(map(len, names)) > 30
        axes.set_xticks(
            [self.number(value) for value in self.ticks()], names, fontsize=8, rotation=90 if crowded else 0
        )
        axes.xaxis.set_minor_formatter(ticker.NullFormatter())
        if self.levels:
            axes.set_xlim(-0.5, len(self.levels) - 0.5)


def _good(count: int) -> int:
    """Returns how many of so many trials count as good: a tenth, or as many as it takes to say anything."""
    return max(TOP, count // 10)


def _along(scale: _Scale, name: str, trial: "FrozenTrial", rank: float) -> float:
    """Returns the place of a trial on an axis of its own; where many have one place, the better ones lie above."""
    aside = (0.5 - rank) * min(0.12, 0.6 / max(1, len(scale.levels)))
    if name not in trial.params:
        return ABSENT + aside / 2
    return scale.place(trial.params[name]) + (aside if scale.levels else 0.0)


def _brief(value: Any) -> str:
    said = plain(text(value))
    return said if len(said) <= 18 else f"{said[:17]}…"


def _labels(names: Sequence[str]) -> dict[str, str]:
    """Returns how parameters are drawn: `dropout (model=cnn)` for `model=cnn: model.dropout`."""
    called = short(list(dict.fromkeys(map(override, names))))
    conditions = {name: name.rpartition(": ")[0] for name in names}
    return {
        name: plain(called[override(name)] + (f"\n({conditions[name]})" if conditions[name] else "")) for name in names
    }


def _parameters(shown: Sequence["FrozenTrial"]) -> list[str]:
    """Returns the parameters that have more than one value."""
    values: dict[str, set[str]] = {}
    for trial in shown:
        for name, value in trial.params.items():
            values.setdefault(name, set()).add(repr(value))
    return [name for name, found in values.items() if len(found) > 1]


def _curve(trial: "FrozenTrial", name: str) -> dict[int, float]:
    """Returns epoch -> what was measured, where it is a number."""
    rows = trial.user_attrs.get("history", ())
    curve = {epoch: row[name] for epoch, row in enumerate(rows) if name in row} or trial.intermediate_values
    return {epoch: value for epoch, value in curve.items() if math.isfinite(value)}


def _stopped(study: "Study", pruned: Sequence["FrozenTrial"]) -> dict[int, float]:
    """Returns trial -> first objective in the last epoch, of pruned trials."""
    curves = {trial.number: _curve(trial, metrics(study)[0]) for trial in pruned}
    return {number: curve[max(curve)] for number, curve in curves.items() if curve}


def _mark_failed(axes: Axes, at: Sequence[float]) -> None:
    """Marks where trials failed at the lower edge: they have no score."""
    if at:
        edge = axes.get_xaxis_transform()
        axes.plot(at, [0.02] * len(at), "x", color=ORANGE, markersize=5, transform=edge, label="failed", clip_on=False)


def _log_where_wide(axes: Axes, which: Literal["x", "y"], values: Sequence[float]) -> None:
    if wide(values):
        axes.set(**{f"{which}scale": "log"})
